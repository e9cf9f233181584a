"""audit_toolkit: test surveillance technology and hand over evidence.

Three lines from scores to a result that shows itself::

    from audit_toolkit import api
    audit = api.disparity(scores, groups=["gender"], threshold=0.6)
    audit

Importing the package is light: the numerical parts load with `audit_toolkit.api`.
"""

from __future__ import annotations

from audit_toolkit._version import __version__

__all__ = ["__version__"]
