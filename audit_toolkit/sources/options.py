"""How the rows of a source are judged, and how a long read tells its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Progress = Callable[[str, int, int | None], None]
"""progress(stage, done, total): rows done of rows expected (``None`` where unknown)."""


@dataclass(frozen=True, slots=True)
class SurveyOptions:
    """How rows are judged; each choice is printed in the record."""

    higher_is: Literal["same", "different"] = "same"
    failure_scores: tuple[float, ...] = ()
    """Score values that mean "no comparison was possible" (for example -1): counted as exclusions, by value."""
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Per attribute the labels that are allowed; others are excluded and counted. Empty: all labels."""
    unlabelled: tuple[str, ...] = ("", "unknown", "na", "n/a", "none", "nan", "null", "?")
    """Labels (compared in lower case, stripped) that mean "no label"."""
    chunk_rows: int = 1_048_576
    memory_rows: int = 1_048_576
    """Coded rows held in memory; past that they go to a temporary folder."""
    duplicate_rows: int = 1_048_576
    """Rows a duplicate partition may hold in memory."""
    covariate_bins: int = 5
    """A numeric covariate with more distinct values than this is cut into that many classes of equal count."""
