"""Many numbers that belong together: a curve, a matrix, a histogram; never thousands of single estimates.

A series is what a figure draws and a table lists. It carries the same duties as an estimate: counts beside rates, and
``None`` where a value is undefined or withheld.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from audit_toolkit.errors import AuditError
from audit_toolkit.evidence.estimate import At

Kind = Literal["curve", "matrix", "histogram", "ladder", "table"]


class Series(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values over one axis, or over two for a matrix.

    curve: ``y[k]`` at ``x[k]`` (numbers), with ``low``/``high`` where there are intervals.
    matrix: ``x`` names the columns, ``rows`` the rows, and ``y`` (also ``low``, ``high``, ``numerators``,
    ``denominators``) lists the cells row by row, so ``len(y) == len(rows) * len(x)``.
    """

    kind: Kind
    quantity: str
    of: dict[str, str] = field(default_factory=dict)
    at: dict[str, At] = field(default_factory=dict)
    x: tuple[float | str, ...] = ()
    y: tuple[float | None, ...] = ()
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    rows: tuple[str, ...] = ()
    numerators: tuple[int | None, ...] = ()
    denominators: tuple[int | None, ...] = ()
    x_name: str = ""
    y_name: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        size = len(self.x) * (len(self.rows) if self.kind == "matrix" else 1)
        for name in ("y", "low", "high", "numerators", "denominators"):
            values = getattr(self, name)
            if (values or name == "y") and len(values) != size:
                raise AuditError(
                    f"A {self.kind} of {self.quantity!r} has {len(values)} entries in {name}, expected {size}."
                )
