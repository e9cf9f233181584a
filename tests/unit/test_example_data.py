"""The shipped score table is what its cards say it is."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter
from importlib.resources import files
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

EXAMPLES = files("audit_toolkit.examples")
TABLE = EXAMPLES / "london_sface_scores.parquet"
SHORT_CARD = EXAMPLES / "london_sface_scores.md"
# The full card stands in the checkout, not in the installed package.
FULL_CARD = Path(__file__).parents[2] / "datasets" / "london_faces.md"

PEOPLE = 102
SUBJECTS = [f"P{n:03d}" for n in range(1, PEOPLE + 1)]
SIDES = ("reference", "probe")
ATTRIBUTES = ("gender", "ethnicity", "age")
COLUMNS = {
    **{f"{side}_{name}": pa.string() for name in ("subject", "sample", *ATTRIBUTES) for side in SIDES},
    "mated": pa.bool_(),
    "score": pa.float32(),
    "failure": pa.string(),
}
VENDOR_THRESHOLD = np.float32(0.363)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    with TABLE.open("rb") as file:
        return pq.read_table(file)


def column(table: pa.Table, name: str) -> np.ndarray:
    return np.array(table[name].to_pylist())


def people_of(table: pa.Table, side: str) -> dict[str, tuple[str, ...]]:
    """Groups by subject as one side of the table tells them; a subject told in two ways fails."""
    names = ("subject", *ATTRIBUTES)
    told = set(zip(*(table[f"{side}_{name}"].to_pylist() for name in names), strict=True))
    people = {subject: groups for subject, *groups in told}
    assert len(people) == len(told)
    return {subject: tuple(groups) for subject, groups in people.items()}


def test_columns_and_types(table: pa.Table) -> None:
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == COLUMNS
    assert list(table.schema.names) == list(COLUMNS)
    assert table.num_rows == PEOPLE**2 == 10_404


def test_the_file_carries_its_attribution_and_nothing_of_the_tools_that_wrote_it(table: pa.Table) -> None:
    assert set(table.schema.metadata) == {b"attribution"}
    assert b"10.6084/m9.figshare.5047666.v5, CC BY 4.0" in table.schema.metadata[b"attribution"]


def test_every_reference_meets_every_probe_once_in_order(table: pa.Table) -> None:
    pairs = list(zip(*(table[f"{side}_subject"].to_pylist() for side in SIDES), strict=True))
    assert pairs == list(product(SUBJECTS, SUBJECTS))


def test_mated_means_the_same_subject(table: pa.Table) -> None:
    mated = column(table, "mated")
    assert mated.sum() == PEOPLE
    np.testing.assert_array_equal(mated, column(table, "reference_subject") == column(table, "probe_subject"))


@pytest.mark.parametrize(("side", "ending"), [("reference", "-n"), ("probe", "-s")])
def test_samples_name_their_subject_and_portrait(table: pa.Table, side: str, ending: str) -> None:
    samples, subjects = table[f"{side}_sample"].to_pylist(), table[f"{side}_subject"].to_pylist()
    assert samples == [subject + ending for subject in subjects]


def test_scores_are_cosines_and_only_a_failure_has_none(table: pa.Table) -> None:
    failure = table["failure"].to_pylist()
    assert set(failure) <= {None, "fte", "fta"}
    np.testing.assert_array_equal(np.array([word is not None for word in failure]), table["score"].is_null().to_numpy())
    scores = table["score"].drop_null().to_numpy()
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert scores.min() >= -1
    assert scores.max() <= 1


def test_no_group_is_missing_and_no_exact_age_is_told(table: pa.Table) -> None:
    for side, attribute in product(SIDES, ATTRIBUTES):
        assert all(table[f"{side}_{attribute}"].to_pylist())
    assert set(table["reference_age"].to_pylist()) == {"18-24", "25-34", "35+", "not provided"}


def test_a_person_has_the_same_groups_on_both_sides(table: pa.Table) -> None:
    assert people_of(table, "reference") == people_of(table, "probe")


def stated_sha256(card: str) -> str:
    (found,) = re.finditer(r"^\| sha256 \| `([0-9a-f]{64})` \|$", card, flags=re.MULTILINE)
    return str(found[1])


def test_the_short_card_states_the_sha256_of_the_table() -> None:
    assert stated_sha256(SHORT_CARD.read_text("utf-8")) == hashlib.sha256(TABLE.read_bytes()).hexdigest()


def test_the_full_card_states_the_sha256_of_the_table() -> None:
    if not FULL_CARD.exists():
        pytest.skip("the datasets folder is not part of an installed package")
    assert stated_sha256(FULL_CARD.read_text("utf-8")) == hashlib.sha256(TABLE.read_bytes()).hexdigest()


def test_the_full_card_states_the_counts_of_the_table(table: pa.Table) -> None:
    if not FULL_CARD.exists():
        pytest.skip("the datasets folder is not part of an installed package")
    row = r"^\| (all|gender|ethnicity|age) \| ([^|]+) " + r"\| ([\d,]+) " * 5 + r"\|$"
    rows = re.findall(row, FULL_CARD.read_text("utf-8"), flags=re.MULTILINE)
    stated = {(attribute, group): [int(n.replace(",", "")) for n in ns] for attribute, group, *ns in rows}

    mated, match = column(table, "mated"), column(table, "score") >= VENDOR_THRESHOLD
    within = {("all", "all"): np.ones(table.num_rows, dtype=bool)}
    for attribute in ATTRIBUTES:
        reference, probe = (column(table, f"{side}_{attribute}") for side in SIDES)
        within |= {(attribute, str(g)): (reference == g) & (probe == g) for g in np.unique(reference)}
    counted = {
        group: [
            len(set(column(table, "reference_subject")[rows])),
            int((rows & ~mated & match).sum()),
            int((rows & ~mated).sum()),
            int((rows & mated & ~match).sum()),
            int((rows & mated).sum()),
        ]
        for group, rows in within.items()
    }
    assert stated == counted


def test_groups_agree_with_the_source(table: pa.Table) -> None:
    root = os.environ.get("AUDIT_TOOLKIT_DATA")
    if not root:
        pytest.skip("AUDIT_TOOLKIT_DATA is not set: the source's table of people is not at hand")
    info = Path(root) / "london-faces" / "london_info.csv"
    if not info.exists():
        pytest.skip("london_info.csv is not in the folder named by AUDIT_TOOLKIT_DATA")

    def band(age: str) -> str:
        if age == "":
            return "not provided"
        return "18-24" if 18 <= int(age) <= 24 else "25-34" if 25 <= int(age) <= 34 else "35+"

    with info.open(newline="", encoding="utf-8") as file:
        source = Counter((row["face_gender"], row["face_eth"], band(row["face_age"])) for row in csv.DictReader(file))
    # Joint counts: equal margins could hide labels swapped between people.
    assert Counter(people_of(table, "reference").values()) == source
