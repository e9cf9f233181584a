"""Searches, wherever they come from, as the few numbers a search that every identification measure is made of.

Promise: templates and candidate lists end in the same value, `Searches`, and everything after it is the same formulas. What a
list cannot know (who stood below its last line) is carried along as a reason, and no formula guesses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audit_toolkit.core import search as core
from audit_toolkit.core.fold import digest_arrays
from audit_toolkit.engines.context import Context
from audit_toolkit.errors import InputError
from audit_toolkit.evidence.record import Exclusion, Input, Run

UNLISTED = 2**31
"""People "ahead" of a mate whom the list does not name: more than any rank that can be asked for."""


class TemplateFile(Protocol):
    """What a file of templates offers (`audit_toolkit.sources.embeddings.Templates` is one)."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def format(self) -> str:
        """Its format."""

    @property
    def sha256(self) -> str:
        """Its digest."""

    @property
    def vectors(self) -> NDArray[Any]:
        """[templates, dimensions] as stored."""

    @property
    def subject(self) -> NDArray[np.int32]:
        """[templates] code of the person, -1 where the row is not used."""

    @property
    def image(self) -> NDArray[np.int32]:
        """[templates] code of the image, -1 = unknown."""

    @property
    def identity(self) -> NDArray[np.uint64]:
        """[people] hash of each id."""

    @property
    def enrol(self) -> NDArray[np.int64]:
        """[people, 2] templates, and how many of them failed."""

    @property
    def attributes(self) -> tuple[str, ...]:
        """Attributes with labels."""

    @property
    def labels(self) -> tuple[tuple[str, ...], ...]:
        """Per attribute its labels, sorted."""

    @property
    def subject_labels(self) -> NDArray[np.int16]:
        """[people, attributes] label codes, -1 = none."""

    @property
    def rows_read(self) -> int:
        """Rows that were read."""

    @property
    def rows_used(self) -> int:
        """Rows that are used."""

    @property
    def exclusions(self) -> tuple[Exclusion, ...]:
        """Rows that are not, with reasons."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What struck the reader."""

    def check(self) -> None:
        """Refuse a file that was cut short since it was opened."""


@dataclass(frozen=True, slots=True, eq=False)
class TemplateSearch:
    """A gallery and the probes that are searched in it; the same value twice = every image against all others.

    ``attributes``, ``labels`` and ``labels_of`` (people by the hash of their id -> label codes) replace the files' own labels
    where labels come from a table of people.
    """

    gallery: TemplateFile
    probes: TemplateFile
    metric: core.Metric = "cosine"
    attributes: tuple[str, ...] = ()
    labels: tuple[tuple[str, ...], ...] = ()
    labels_of: Callable[[NDArray[np.uint64]], NDArray[np.int16]] | None = None
    inputs: tuple[Input, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Searches:
    """Every search with what its errors are decided by; scores: larger = more alike.

    [searches]: ``subject`` int64 code of the probe's person; ``mated`` bool; ``mate_score`` float64 (-inf: mate not returned,
    NaN: non-mated); ``ahead`` int64 = other people at or above the mate's score (`UNLISTED`: mate not returned, -1: non-mated);
    ``competitors`` [searches, kept] who they are, -1 where there are more; ``best`` [searches, levels] highest score of another
    person in each nested sub-gallery, column 0 = whole gallery (-inf: nobody), ``best_subject`` whose, ``second`` the highest of
    anybody else. ``above(thresholds)`` [searches, thresholds] counts other people at or above each.

    ``enrolled`` int64 = sorted codes of everybody in the gallery; ``sizes`` [levels] people in each sub-gallery.
    ``longest``: candidates in the longest list, ``None`` where the whole gallery was ranked. ``lists_to(t)``: why counts at a
    threshold are not known, or ``None``.
    """

    subject: NDArray[np.int64]
    mated: NDArray[np.bool_]
    mate_score: NDArray[np.float64]
    ahead: NDArray[np.int64]
    competitors: NDArray[np.int64]
    best: NDArray[np.float64]
    best_subject: NDArray[np.int64]
    second: NDArray[np.float64]
    above: Callable[[Sequence[float]], NDArray[np.int64]]
    enrolled: NDArray[np.int64]
    gallery_known: bool
    sizes: NDArray[np.int64]
    longest: int | None
    fpir_unknown: Callable[[float], str | None]
    count_unknown: Callable[[float], str | None]
    thresholds_known: str | None
    attributes: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    subject_labels: NDArray[np.int16]
    inputs: tuple[Input, ...]
    warnings: tuple[str, ...]
    runs: tuple[Run, ...]

    @property
    def n(self) -> int:
        """How many searches."""
        return len(self.subject)


def halvings(people: int) -> int:
    """How often a gallery is halved for the growth curve: down to about 8 people, at most 8 times."""
    return max(0, min(8, int(np.log2(max(1, people) / 8))))


# ---- from templates ------------------------------------------------------------------------------------------------------


def search_templates(
    source: TemplateSearch, thresholds: Sequence[float], kept: int, context: Context, *, growth: bool = True
) -> Searches:
    """Search every probe in the gallery. ``thresholds`` (ascending) are counted at once; others later cost a pass more.

    Probe templates that failed are searches that return nobody. Two templates are of the same image where both files are one
    and it says so, or where they show the same person and are equal number for number. Raises `InputError` for an empty
    gallery, files of different dimensions, and probes of whom none can be used.
    """
    source.gallery.check()
    source.probes.check()
    together = source.gallery is source.probes
    people = np.unique(np.concatenate([source.gallery.identity, source.probes.identity]))
    in_gallery = _codes(source.gallery, people)
    in_probes = _codes(source.probes, people)
    enrolled_rows, probe_rows = np.flatnonzero(in_gallery >= 0), np.flatnonzero(in_probes >= 0)
    if len(enrolled_rows) == 0:
        raise InputError("The gallery is empty.", where=source.gallery.name, mend="Give at least one usable template.")
    if len(probe_rows) == 0:
        raise InputError("There is no probe to search with.", where=source.probes.name, mend="Check the probe file.")
    images = [
        _images(f, rows, people[codes[rows]], together)
        for f, rows, codes in (
            (source.gallery, enrolled_rows, in_gallery),
            (source.probes, probe_rows, in_probes),
        )
    ]
    gallery, usable = core.prepare(
        _rows(source.gallery, enrolled_rows), in_gallery[enrolled_rows], images[0], source.metric, by_subject=True
    )
    probes, good = core.prepare(
        _rows(source.probes, probe_rows), in_probes[probe_rows], images[1], source.metric, by_subject=False
    )
    enrolled = np.unique(gallery.subject)
    depth = halvings(len(enrolled)) if growth else 0
    level = core.subgallery_levels(people, depth)
    asked = np.asarray(thresholds, np.float64)
    total = len(probes.vectors) * len(gallery.vectors)
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if context.progress is not None:
            context.progress("searching", done, total)

    run: Any = context.engine
    found = core.search(
        probes, gallery, asked, kept=kept, level=level[gallery.subject], levels=depth + 1, run=run, progress=tell
    )
    failed = np.repeat(_people(source.probes, people), source.probes.enrol[:, 1])
    failed = np.concatenate([failed, in_probes[probe_rows[~good]]])
    empty = len(failed)
    is_mated = np.isfinite(found.mate_score)
    mated = np.concatenate([is_mated, np.isin(failed, enrolled)])
    ahead = np.concatenate([found.ahead, np.where(mated[len(is_mated) :], UNLISTED, -1)])
    counted = {float(t): found.above[:, k] for k, t in enumerate(asked)}

    def above(wanted: Sequence[float]) -> NDArray[np.int64]:
        new = sorted({float(t) for t in wanted if np.isfinite(t)} - counted.keys())
        if new:
            # nobody else can be above them, so only these searches are made again
            rows = np.flatnonzero(found.best[:, 0] >= new[0])
            some = core.Templates(probes.vectors[rows], probes.subject[rows], probes.image[rows], probes.metric)
            again = (
                core.search(some, gallery, new, kept=0, run=run).above
                if len(rows)
                else np.zeros((0, len(new)), np.int64)
            )
            for k, t in enumerate(new):
                counted[t] = np.zeros(len(probes.vectors), np.int64)
                counted[t][rows] = again[:, k]
        columns = [np.concatenate([counted[float(t)], np.zeros(empty, np.int64)]) for t in wanted]
        return np.stack(columns, axis=1) if columns else np.zeros((len(mated), 0), np.int64)

    warnings = []
    alone = int((found.same_image & ~is_mated).sum())
    if alone:
        warnings.append(
            f"{alone} searches were made with the only image of the person; that very image is left out of the gallery for "
            "them, so they are non-mated searches."
        )
    if empty:
        warnings.append(f"{empty} probe templates failed; they count as searches that returned nobody.")
    attributes, labels, subject_labels, two = _join_labels(source, people)
    if two:
        warnings.append(
            f"{two} people have one label in the gallery and another among the probes; they are in no group."
        )
    arrays = {
        "subject": np.concatenate([probes.subject, failed]),
        "mated": mated,
        "mate_score": np.concatenate([found.mate_score, np.where(mated[len(is_mated) :], -np.inf, np.nan)]),
        "ahead": ahead,
        "competitors": _more(found.competitors, empty, -1),
        "best": _more(found.best, empty, -np.inf),
        "best_subject": _more(found.best_subject, empty, -1),
        "second": _more(found.second, empty, -np.inf),
    }
    parameters = {"metric": source.metric, "kept": kept, "levels": depth + 1, "same_file": together}
    return Searches(
        **arrays,
        above=above,
        enrolled=enrolled,
        gallery_known=True,
        sizes=np.array([int((level[enrolled] >= k).sum()) for k in range(depth + 1)]),
        longest=None,
        fpir_unknown=lambda t: None,
        count_unknown=lambda t: None,
        thresholds_known=None,
        attributes=attributes,
        labels=labels,
        subject_labels=subject_labels,
        inputs=(*_inputs(source, int((~usable).sum())), *source.inputs),
        warnings=tuple(warnings),
        runs=(Run(measure="search", version="1", parameters=parameters, state_digest=digest_arrays(arrays)),),
    )


def _more(values: NDArray[Any], rows: int, fill: float) -> NDArray[Any]:
    return np.concatenate([values, np.full((rows, *values.shape[1:]), fill, values.dtype)])


def _people(file: TemplateFile, people: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.searchsorted(people, file.identity).astype(np.int64)


def _codes(file: TemplateFile, people: NDArray[np.uint64]) -> NDArray[np.int64]:
    """[templates] joint code of each row's person, -1 where the row is not used."""
    mine = np.append(_people(file, people), -1)
    return np.asarray(mine[np.where(file.subject >= 0, file.subject, -1)], np.int64)


def _rows(file: TemplateFile, rows: NDArray[np.int64]) -> NDArray[Any]:
    return file.vectors if len(rows) == len(file.vectors) else np.asarray(file.vectors[rows])


def _images(
    file: TemplateFile, rows: NDArray[np.int64], person: NDArray[np.uint64], together: bool
) -> NDArray[np.int64]:
    """[rows] codes that are equal for the same image on both sides: the file's own, else a hash of person and numbers."""
    bits = np.empty(len(rows), np.uint64)
    step = max(1, (1 << 21) // file.vectors.shape[1])
    rng = np.random.Generator(np.random.PCG64(20_177))
    factors = rng.integers(0, 2**64, file.vectors.shape[1], np.uint64, endpoint=False) | np.uint64(1)
    with np.errstate(over="ignore"):
        for at in range(0, len(rows), step):
            block = np.ascontiguousarray(file.vectors[rows[at : at + step]], np.float32).view(np.uint32)
            bits[at : at + step] = (block * factors).sum(axis=1, dtype=np.uint64)
        bits ^= person * np.uint64(0x9E3779B97F4A7C15)
        bits ^= bits >> np.uint64(32)
    hashed = ((bits >> np.uint64(2)) | np.uint64(1 << 61)).astype(np.int64)
    own = file.image[rows].astype(np.int64)
    return np.where(own >= 0, own, hashed) if together else hashed


def _join_labels(
    source: TemplateSearch, people: NDArray[np.uint64]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], NDArray[np.int16], int]:
    if source.labels_of is not None:
        return source.attributes, source.labels, source.labels_of(people), 0
    attributes = source.probes.attributes
    labels: list[tuple[str, ...]] = []
    out = np.full((len(people), len(attributes)), -1, np.int16)
    two = np.zeros(len(people), np.bool_)
    for a, name in enumerate(attributes):
        files = [f for f in (source.probes, source.gallery) if name in f.attributes]
        words = sorted({w for f in files for w in f.labels[f.attributes.index(name)]})
        labels.append(tuple(words))
        for f in files:
            k = f.attributes.index(name)
            table = np.array([*(words.index(w) for w in f.labels[k]), -1], np.int16)
            mine, at = table[f.subject_labels[:, k]], _people(f, people)
            there = mine >= 0
            two[at[there & (out[at, a] >= 0) & (out[at, a] != mine)]] = True
            out[at[there], a] = mine[there]
    out[two] = -1
    return attributes, tuple(labels), out, int(two.sum())


def _inputs(source: TemplateSearch, unusable: int) -> tuple[Input, ...]:
    files = [source.gallery] if source.gallery is source.probes else [source.gallery, source.probes]
    made = []
    for k, file in enumerate(files):
        exclusions = file.exclusions
        if k == 0 and unusable:
            exclusions += (Exclusion(reason="enrolled templates that are no numbers", count=unusable),)
        made.append(
            Input(
                name=file.name,
                sha256=file.sha256,
                format=file.format,
                rows_read=file.rows_read,
                rows_used=file.rows_used - (unusable if k == 0 else 0),
                exclusions=exclusions,
                # what a file lacks for 1:1 comparisons does not matter to searches
                warnings=tuple(w for w in file.warnings if "FNMR" not in w and "single image" not in w),
            )
        )
    return tuple(made)
