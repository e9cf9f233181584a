"""Plans from TOML and JSON: every mistake names its place, and the digest knows the question but not the folder."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_toolkit.disparity.plan import FRAME, Section, Threshold, axis_name, check_axis
from audit_toolkit.errors import PlanError
from audit_toolkit.evidence.quantities import ALL
from audit_toolkit.plan.catalogue import catalogue
from audit_toolkit.plan.model import Plan, load_plan, make_plan, moved

LEAST = """
[disparity]
scores = "data/scores.csv"
evaluation_type = "technology"
label_source = "not provided"
impostor_selection = "not provided"
days_between_mated_captures = "not provided"
thresholds = [{ policy = "eer" }]

[disparity.attributes.gender]
reference_column = "reference_gender"
probe_column = "probe_gender"
"""
REQUIREMENT = {"id": "r", "title": "R", "quantity": "fmr", "comparator": "<=", "limit": 0.01}


def least() -> dict[str, Any]:
    return tomllib.loads(LEAST)


def changed(path: str, value: Any) -> dict[str, Any]:
    """The least plan with ``value`` put at a dotted path; numbers index into lists."""
    raw = least()
    *way, last = path.split(".")
    at: Any = raw
    for name in way:
        at = at[int(name)] if isinstance(at, list) else at.setdefault(name, {})
    if isinstance(at, list):
        at[int(last)] = value
    else:
        at[last] = value
    return raw


def test_defaults_are_written_out() -> None:
    plan = make_plan(least())
    written = plan.canonical()
    assert written["schema"] == "audit_toolkit/plan/1"
    assert written["disparity"]["uncertainty"] == {"method": "logit-jackknife", "level": 0.95, "replicates": 1024}
    assert 0.5 in written["disparity"]["alphas"]
    assert written["disclosure"] == {"min_people": 5}
    assert "execution" not in written
    assert json.loads(json.dumps(written)) == json.loads(msgspec.json.encode(written))


def test_toml_and_json_are_the_same_plan(tmp_path: Path) -> None:
    for name, text in (("p.toml", LEAST), ("bom.toml", "\ufeff" + LEAST), ("p.json", json.dumps(least()))):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert load_plan(tmp_path / name) == make_plan(least())


def test_a_plan_survives_its_own_json(tmp_path: Path) -> None:
    plan = make_plan(least() | {"requirements": [REQUIREMENT], "catalogue": ["fmr-ratio-at-most-2"]})
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(plan))
    assert load_plan(tmp_path / "plan.json") == plan


def test_canonical_form_holds_file_names_without_folders() -> None:
    raw = changed("disparity.scores", r"C:\secret\folder\scores.csv")
    raw["disparity"] |= {
        "subjects": {"path": "/home/somebody/people.csv"},
        "format": "pyeer",
        "format_options": {"impostor": "/home/somebody/impostor.txt", "delimiter": "/"},
    }
    section = make_plan(raw).canonical()["disparity"]
    assert section["scores"] == "scores.csv"
    assert section["subjects"]["path"] == "people.csv"
    assert section["format_options"] == {"impostor": "impostor.txt", "delimiter": "/"}


@pytest.mark.parametrize(
    ("path", "value", "same"),
    [
        ("execution.threads", 7, True),
        ("execution.chunk_rows", 10, True),
        ("execution.memory_rows", 10, True),
        ("disparity.scores", "elsewhere/renamed.parquet", True),
        ("disparity.subjects", {"path": "people.csv"}, True),
        ("disparity.format_options", {"impostor": "renamed.txt"}, True),
        ("title", "Another title", False),
        ("system.version", "2", False),
        ("disparity.format_options", {"delimiter": ";"}, False),
        ("disparity.thresholds.0", {"policy": "vendor", "value": 0.5}, False),
        ("disparity.uncertainty.level", 0.9, False),
        ("disparity.scope", "probe-group", False),
        ("disclosure.min_people", 6, False),
        ("requirements", [REQUIREMENT], False),
    ],
)
def test_the_digest_leaves_out_execution_and_files_and_nothing_else(path: str, value: Any, same: bool) -> None:
    one, other = make_plan(least()).digest(), make_plan(changed(path, value)).digest()
    assert re.fullmatch("[0-9a-f]{64}", one)
    assert (one == other) is same


@given(st.permutations(list(least()["disparity"])))
def test_the_digest_does_not_depend_on_the_order_of_fields(order: list[str]) -> None:
    raw = least()
    raw["disparity"] = {name: raw["disparity"][name] for name in order}
    assert make_plan(raw).digest() == make_plan(least()).digest()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(
        ["title", "disparity", "disparity.attributes", "disparity.thresholds.0", "execution", "requirements"]
    ),
)
def test_whatever_stands_in_a_plan_it_is_a_plan_or_a_plan_error(value: Any, path: str) -> None:
    try:
        plan = make_plan(changed(path, value))
    except PlanError as error:
        refused = error
    else:
        assert plan.digest()
        return
    assert refused.exit_code == 2
    assert "$" in str(refused)
    assert refused.mend


@pytest.mark.parametrize(
    ("path", "value", "where", "what"),
    [
        ("titel", "x", "$", "There is no field `titel` here."),
        ("disparity.tresholds", [], "$.disparity", "There is no field `tresholds` here."),
        ("disparity.scores", 5, "$.disparity.scores", "Expected `str`, got `int`."),
        ("disparity.scores", " ", "$.disparity", "`scores` names no file."),
        ("disparity.scores", "\ud800.csv", "$.disparity.scores", "must be valid Unicode."),
        (
            "disparity.evaluation_type",
            "fun",
            "$.disparity.evaluation_type",
            "'fun' is not one of 'technology', 'scenario'",
        ),
        ("disparity.higher_is", "up", "$.disparity.higher_is", "'up' is not one of 'same', 'different'."),
        ("disparity.scope", "x", "$.disparity.scope", "is not one of 'within-group', 'probe-group', 'all-impostor'."),
        ("disparity.attributes", {}, "$.disparity", "names no attribute"),
        ("disparity.attributes", {"a:b": {}}, "$.disparity", "holds ':' or ' x '"),
        (
            "disparity.attributes.gender",
            {"probe_column": "b"},
            "$.disparity.attributes.gender",
            "`reference_column` and `pro",
        ),
        ("disparity.attributes.gender.column", "c", "$.disparity.attributes.gender", "the score file's own columns"),
        ("disparity.attributes.gender.labels", "f", "$.disparity.attributes.gender.labels", "Expected `array`"),
        ("disparity.attributes.gender.labels", ["f", ""], "$.disparity.attributes.gender", "lists an empty label"),
        ("disparity.attributes.gender.labels", ["f", "f"], "$.disparity.attributes.gender", "or one twice"),
        (
            "disparity.attributes.gender",
            {"column": "g", "labels": ["f", "m"], "reference": "x"},
            "$.disparity.attributes.gender",
            "`reference` group is not among `labels`",
        ),
        ("disparity.thresholds", [], "$.disparity", "`thresholds` is empty"),
        ("disparity.thresholds", [{"policy": "eer"}] * 17, "$.disparity", "At most 16 thresholds"),
        (
            "disparity.thresholds.0.policy",
            "x",
            "$.disparity.thresholds[0].policy",
            "is not one of 'vendor', 'fmr', 'eer'",
        ),
        (
            "disparity.thresholds.0.value",
            0.5,
            "$.disparity.thresholds[0]",
            "`value` would have no effect on a threshold by",
        ),
        ("disparity.thresholds.0", {"policy": "vendor"}, "$.disparity.thresholds[0]", "needs `value`"),
        ("disparity.thresholds.0", {"policy": "vendor", "value": "1"}, "$.disparity.thresholds[0].value", "got `str`"),
        ("disparity.thresholds.0", {"policy": "vendor", "value": 1e31}, "$.disparity.thresholds[0]", "at most 1e+30"),
        (
            "disparity.thresholds.0",
            {"policy": "vendor", "value": float("nan")},
            "$.disparity.thresholds[0].value",
            "finite",
        ),
        ("disparity.thresholds.0", {"policy": "fmr"}, "$.disparity.thresholds[0]", "needs `target` between 0 and 1"),
        ("disparity.thresholds.0", {"policy": "fmr", "target": 1.0}, "$.disparity.thresholds[0]", "between 0 and 1"),
        (
            "disparity.thresholds.0",
            {"policy": "fmr", "target": 0.1, "axis": "gender"},
            "$.disparity.thresholds[0]",
            "`axis` would have no effect",
        ),
        (
            "disparity.thresholds.0",
            {"policy": "fmr", "target": 0.1, "of": {"age": "old"}},
            "$.disparity",
            "`thresholds[0].of` names an attribute",
        ),
        (
            "disparity.thresholds.0",
            {"policy": "fmr_per_group", "target": 0.1, "axis": "age"},
            "$.disparity",
            "`thresholds[0].axis` is none of gender",
        ),
        ("disparity.intersections", [["gender"]], "$.disparity", "two or more different names"),
        ("disparity.intersections", [["gender", "age"]], "$.disparity", "two or more different names"),
        ("disparity.alphas", [1.5], "$.disparity", "`alphas` must lie in [0, 1]"),
        ("disparity.alphas", [0.5, 0.5], "$.disparity", "each once"),
        ("disparity.failure_scores", [float("inf")], "$.disparity.failure_scores[0]", "must be finite"),
        ("disparity.columns.zz", "x", "$.disparity.columns", "no field `zz`"),
        ("disparity.uncertainty.level", 1.5, "$.disparity.uncertainty", "between 0.5 and 1"),
        ("disparity.uncertainty.level", 0.5, "$.disparity.uncertainty", "between 0.5 and 1"),
        ("disparity.uncertainty.replicates", 100, "$.disparity.uncertainty", "multiple of 64"),
        ("disparity.support.min_subjects", -1, "$.disparity.support", "0 or more"),
        ("disparity.support.min_errors", 1.5, "$.disparity.support.min_errors", "Expected `int`, got `float`"),
        ("disclosure.min_people", 0, "$.disclosure", "at least 1"),
        ("execution.threads", -1, "$.execution", "0 or more"),
        ("execution.chunk_rows", 0, "$.execution", "at least 1"),
        ("schema", "audit_toolkit/plan/2", "$.schema", "is not one of 'audit_toolkit/plan/1'"),
        ("catalogue", ["none"], "$.catalogue[0]", "There is no requirement 'none' in the catalogue"),
        ("requirements", [REQUIREMENT | {"quantity": "zz"}], "$.requirements[0].quantity", "There is no quantity 'zz'"),
        (
            "requirements",
            [REQUIREMENT | {"comparator": "<"}],
            "$.requirements[0].comparator",
            "'<' is not one of '<=', '>='",
        ),
        ("requirements", [REQUIREMENT | {"limit": float("nan")}], "$.requirements[0].limit", "must be finite"),
        ("requirements", [REQUIREMENT | {"limit": True}], "$.requirements[0].limit", "Expected `float`, got `bool`"),
        ("requirements", [REQUIREMENT, REQUIREMENT], "$.requirements[1]", "Two requirements have the id 'r'"),
    ],
)
def test_every_mistake_names_its_place(path: str, value: Any, where: str, what: str) -> None:
    with pytest.raises(PlanError) as caught:
        make_plan(changed(path, value), where="audit.toml")
    assert caught.value.where == f"audit.toml: {where}"
    assert what in caught.value.what
    assert caught.value.what[0].isupper() or not caught.value.what[0].isalpha()
    assert caught.value.mend


@pytest.mark.parametrize("name", ["scores", "evaluation_type", "label_source", "impostor_selection", "thresholds"])
def test_what_cannot_be_left_out(name: str) -> None:
    raw = least()
    del raw["disparity"][name]
    with pytest.raises(PlanError, match=rf"\$.disparity: The field `{name}` is missing"):
        make_plan(raw)


def test_catalogue_and_own_requirements_must_not_clash() -> None:
    own = REQUIREMENT | {"id": "fmr-ratio-at-most-2"}
    with pytest.raises(PlanError, match=r"\$.catalogue\[0\]: Two requirements have the id"):
        make_plan(least() | {"requirements": [own], "catalogue": ["fmr-ratio-at-most-2"]})


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("p.toml", b"title = ", "This is no TOML plan: "),
        ("p.toml", b"[disparity\n", "line 1"),
        ("p.toml", b"title = 'a'\ntitle = 'b'", "This is no TOML plan: "),
        ("p.json", b"{", "This is no JSON plan: "),
        ("p.json", b'{"title": "a", "title": "b"}', "The field 'title' stands twice in one object"),
        ("p.json", b"[]", r"\$: Expected `object`, got `array`"),
        ("p.json", b"null", r"\$: Expected `object`, got `null`"),
        ("p.json", b'{"disparity": NaN}', r"\$.disparity: A number in a plan must be finite"),
        ("p.json", b"[" * 100_000, "nested too deeply"),
        ("p.toml", b'title = "\xe9"', "not UTF-8 text. Save"),
        ("p.toml", b"", r"\$: The field `disparity` is missing"),
    ],
)
def test_files_that_are_no_plan(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PlanError, match=f"^{name}: .*{what}"):
        load_plan(tmp_path / name)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"none.toml: There is no such plan file. Check"):
        load_plan(tmp_path / "none.toml")
    with pytest.raises(PlanError, match=r"this is a folder\. Name the TOML file"):
        load_plan(tmp_path)


def test_paths_move_with_the_plan(tmp_path: Path) -> None:
    raw = changed("disparity.scores", "data/scores.csv")
    raw["disparity"] |= {
        "subjects": {"path": str(tmp_path / "people.csv")},
        "format_options": {"impostor": "impostor.txt", "delimiter": ","},
    }
    plan = make_plan(raw)
    there = moved(plan, tmp_path, tmp_path / "out" / "deep")
    section = there["disparity"]
    assert section["scores"] == "../../data/scores.csv"
    assert section["subjects"]["path"] == "../../people.csv"
    assert section["format_options"] == {"impostor": "../../impostor.txt", "delimiter": ","}
    back = moved(make_plan(there), tmp_path / "out" / "deep", tmp_path)
    assert back["disparity"]["subjects"]["path"] == "people.csv"
    assert make_plan(back).canonical() == make_plan(there).canonical() == plan.canonical()
    assert make_plan(there).digest() == plan.digest()
    frame = make_plan(changed("disparity.scores", FRAME))
    assert moved(frame, tmp_path, tmp_path / "out")["disparity"]["scores"] == FRAME


def test_a_linked_file_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "9f3a").write_text("x")
    (tmp_path / "scores.csv").symlink_to(tmp_path / "store" / "9f3a")
    plan = make_plan(changed("disparity.scores", "scores.csv"))
    assert moved(plan, tmp_path, tmp_path / "out")["disparity"]["scores"] == "../scores.csv"


def test_axes_by_their_printed_names() -> None:
    raw = changed("disparity.attributes.age", {"reference_column": "a", "probe_column": "b"})
    raw["disparity"]["intersections"] = [["gender", "age"]]
    section = make_plan(raw).disparity
    assert check_axis(section, "gender") == ("gender",)
    assert check_axis(section, axis_name(("gender", "age"))) == ("gender", "age")
    with pytest.raises(PlanError, match="Known: age, gender, gender x age"):
        check_axis(section, "age x gender")
    with pytest.raises(PlanError, match="lists the same attributes twice"):
        make_plan({"disparity": raw["disparity"] | {"intersections": [["gender", "age"], ["age", "gender"]]}})
    of = {"policy": "fmr", "target": 0.1, "of": {"age": "old", "gender": "f"}}
    assert make_plan({"disparity": raw["disparity"] | {"thresholds": [of]}}).disparity.thresholds[0].of["age"] == "old"
    with pytest.raises(PlanError, match=r"needs its attributes together in `intersections`"):
        make_plan({"disparity": raw["disparity"] | {"thresholds": [of], "intersections": []}})


def test_statements_are_what_the_report_prints() -> None:
    statements = make_plan(changed("disparity.scope", "probe-group")).disparity.statements()
    assert statements["evaluation type"] == "technology"
    assert statements["rate in every summary"].startswith("probe-group: ")
    assert len(statements) == 5


def test_values_are_frozen() -> None:
    plan = make_plan(least())
    with pytest.raises(AttributeError):
        plan.title = "x"  # type: ignore[misc]
    assert copy.deepcopy(plan) == plan
    assert isinstance(plan, Plan)
    assert isinstance(plan.disparity, Section)
    assert plan.disparity.thresholds == (Threshold(policy="eer"),)


def test_the_catalogue_names_known_quantities_and_its_sources() -> None:
    entries = catalogue()
    assert len(entries) >= 3
    for name, entry in entries.items():
        assert name == entry.id
        assert entry.quantity in ALL
        assert entry.source.title
        assert entry.rationale.endswith(".")
    taken = make_plan(least() | {"catalogue": list(entries)}).all_requirements()
    assert taken == tuple(entries.values())
