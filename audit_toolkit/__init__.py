"""audit_toolkit: test surveillance technology and hand over evidence.

Three lines from scores to a result that shows itself::

    import audit_toolkit
    audit = audit_toolkit.disparity(scores, groups=["gender"], threshold=0.6)
    audit

Importing the package is light: the numerical parts load with the first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audit_toolkit._version import __version__

if TYPE_CHECKING:
    from audit_toolkit.api import Audit, demo, disparity, run

__all__ = ["Audit", "__version__", "demo", "disparity", "run"]


def __getattr__(name: str) -> Any:
    """Load the public functions on first use."""
    if name in {"Audit", "demo", "disparity", "run"}:
        from audit_toolkit import api

        return getattr(api, name)
    raise AttributeError(f"module 'audit_toolkit' has no attribute {name!r}")
