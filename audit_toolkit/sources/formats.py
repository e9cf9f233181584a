"""Every score format by name, and the one function that opens any of them.

Why it exists: a plan, the command line and the notebook name a format (or leave it to "auto") and get the same source.
Automatic choice looks at the file's ending and its first line only; what it chose stands in the source's ``format``. It
never guesses whether larger scores mean more alike: ``ScoreSource.higher_is_hint`` repeats what a format states.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from audit_toolkit.errors import AuditError, UsageError
from audit_toolkit.sources.bee import read_bee
from audit_toolkit.sources.bfw import read_bfw
from audit_toolkit.sources.bob import open_scores_text, read_bob4, read_bob5, read_bob_csv, sniff_bob
from audit_toolkit.sources.lfw import lfw_header, read_lfw
from audit_toolkit.sources.lines import existing_file, first_line, split_line
from audit_toolkit.sources.matrix import looks_like_matrix, read_matrix
from audit_toolkit.sources.npz import read_npz
from audit_toolkit.sources.pyeer import read_pyeer
from audit_toolkit.sources.table import ColumnMap, ScoreSource


def _table(path: str | Path, *, columns: ColumnMap, delimiter: str | None = None) -> ScoreSource:
    """Parquet, CSV or Arrow with canonical or mapped columns; ``delimiter`` for CSV that is not separated by commas."""
    from audit_toolkit.sources.tabular import open_table

    return open_table(path, columns, delimiter=delimiter)


FORMATS: dict[str, Callable[..., ScoreSource]] = {
    "table": _table,
    "bob4": read_bob4,
    "bob5": read_bob5,
    "bob-csv": read_bob_csv,
    "pyeer": read_pyeer,
    "bfw": read_bfw,
    "lfw": read_lfw,
    "bee": read_bee,
    "matrix": read_matrix,
    "npz": read_npz,
}
"""Format name -> reader. Each takes the path first; what else it takes is its keyword options."""

_TABLE_ENDINGS = (".parquet", ".pq", ".arrow", ".feather", ".ipc")


def open_scores(
    path: str | Path, format: str = "auto", columns: ColumnMap | None = None, **options: Any
) -> ScoreSource:
    """Open a score file of any known format; ``format`` is a name of `FORMATS` or "auto".

    ``columns`` is for formats with free column names (table, npz; the attributes and covariates also for bob-csv).
    ``options`` go to the reader: ``impostor`` for pyeer, ``scores`` for lfw and pairs lists, ``mask``, ``target``, ``query``
    for bee, ``score`` for bfw, ``subject_of`` and ``rows_are`` for matrix. Raises `UsageError` for an unknown format or
    option, listing the known ones, and `InputError` for what the reader finds.
    """
    given = ColumnMap() if columns is None else columns
    name = detect_format(path, given) if format == "auto" else format
    if name not in FORMATS:
        raise UsageError(f"There is no format {name!r}.", mend=f"Known are: {', '.join(FORMATS)}.")
    reader = FORMATS[name]
    takes = {p.name: p for p in list(inspect.signature(reader).parameters.values())[1:]}
    allowed = [o for o in takes if o != "columns"]
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise UsageError(
            f"The format {name} has no option {', '.join(unknown)}.",
            mend=f"It has: {', '.join(allowed) or 'none'}.",
        )
    lacking = [o for o in allowed if takes[o].default is inspect.Parameter.empty and o not in options]
    if lacking:
        raise UsageError(f"The format {name} also needs {', '.join(lacking)}.", mend="Name the file that holds it.")
    options = {name: _typed(value, takes[name]) for name, value in options.items()}
    if "columns" in takes:
        return reader(path, columns=given, **options)
    return reader(path, **_from_map(name, given, options), **options)


def _typed(value: Any, parameter: inspect.Parameter) -> Any:
    """An option as its reader wants it: plans and the command line can only say text, numbers and true or false.

    "true" and "false" where a yes or no is meant; ``gender=female,age=old`` where labels are meant. Raises `UsageError`.
    """
    if isinstance(parameter.default, bool) and not isinstance(value, bool):
        words = {"true": True, "yes": True, "false": False, "no": False}
        if str(value).strip().lower() not in words:
            raise UsageError(f"The option {parameter.name} is neither true nor false.", mend="Write true or false.")
        return words[str(value).strip().lower()]
    if parameter.name in _LABEL_OPTIONS and isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",")]
        if not all(name.strip() and sign and label.strip() for name, sign, label in pairs):
            raise UsageError(
                f"The option {parameter.name} does not read ATTRIBUTE=LABEL.", mend="For example gender=female,age=old."
            )
        return {name.strip(): label.strip() for name, _, label in pairs}
    return value


_LABEL_OPTIONS = ("reference_label", "probe_label")


def _from_map(name: str, columns: ColumnMap, options: dict[str, Any]) -> dict[str, Any]:
    """What of a column map a format with fixed columns can use; anything else is refused, never passed over."""
    used: dict[str, Any] = {}
    if name == "bob-csv":
        mapped = {"attributes": columns.attributes, "covariates": columns.covariates}
        used = {part: value for part, value in mapped.items() if value and part not in options}
    rest = replace(
        columns,
        attributes={} if "attributes" in used else columns.attributes,
        covariates={} if "covariates" in used else columns.covariates,
    )
    if rest != ColumnMap():
        raise UsageError(
            f"The format {name} has fixed columns, so columns cannot be mapped.",
            mend='Leave the mapping out, or read the file as format "table".',
        )
    return used


def detect_format(path: str | Path, columns: ColumnMap | None = None) -> str:
    """The format a file looks like, by its ending and first line; `UsageError` listing the formats where it looks like none."""
    path = existing_file(path)
    ending = path.name.lower()
    if ending.endswith(_TABLE_ENDINGS):
        return "table"
    if ending.endswith((".npz", ".mtx")):
        return "npz" if ending.endswith(".npz") else "bee"
    text = first_line(open_scores_text(path), path.name, 1 << 24)
    if ending.removesuffix(".gz").endswith((".csv", ".tsv")):
        return _detect_csv(path, text, columns or ColumnMap())
    plain = sniff_bob(path) if len(text) < 1 << 16 else None
    if plain is not None:
        return plain
    if (lfw_header(text) is not None and len(text.split()) == 2) or _is_pair(text):
        return "lfw"
    words = text.split(" ")
    if len(words) in (1, 3) and _is_number(words[-1]):
        return "pyeer"
    raise UsageError(
        "The format cannot be told from the file's ending and first line.",
        where=path.name,
        mend=f"Name it: {', '.join(FORMATS)}.",
    )


def _detect_csv(path: Path, header: str, columns: ColumnMap) -> str:
    try:
        names = {n.strip() for d in (",", ";", "\t") for n in split_line(header, d, True)}
    except (ValueError, AuditError):
        names = set()
    if {columns.reference_subject, columns.probe_subject} <= names:
        return "table"
    if {"bio_ref_subject_id", "probe_subject_id"} <= names:
        return "bob-csv"
    if {"p1", "p2", "id1", "id2", "label"} <= names:
        return "bfw"
    return "matrix" if columns == ColumnMap() and looks_like_matrix(path) else "table"


def _is_pair(text: str) -> bool:
    words = text.split("\t")
    return (len(words) == 3 and all(w.isdigit() for w in words[1:])) or (
        len(words) == 4 and words[1].isdigit() and words[3].isdigit()
    )


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
