"""What the toolkit says when it cannot go on: one base, one sentence, and how to mend it.

Every message tells what is wrong, where (a path into the plan, a file, a row or a column) and how to mend it, and carries
no value of a personal record: no subject identifier, no sample name, no row content.
"""

from __future__ import annotations


class AuditError(Exception):
    """An audit cannot go on; the message says what, where and how to mend it.

    Parameters
    ----------
    what : one sentence without a personal value.
    where : file and row or column, or a path into the plan; ``None`` where there is no place to name.
    mend : what the reader can do about it.
    """

    exit_code = 4

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None) -> None:
        self.what, self.where, self.mend = what, where, mend
        text = what if where is None else f"{where}: {what}"
        super().__init__(text if mend is None else f"{text} {mend}")


class UsageError(AuditError):
    """The call asks for something that cannot be meant: an argument, an option, a combination."""

    exit_code = 2


class PlanError(UsageError):
    """The plan cannot be carried out as written."""


class InputError(AuditError):
    """A file or a frame cannot be read as what it is said to be."""


class StateError(AuditError):
    """Counts that do not belong together were about to be added, or stored counts are damaged."""


class MissingExtraError(AuditError):
    """An optional package is needed for this; the message says how to install it."""

    exit_code = 2
