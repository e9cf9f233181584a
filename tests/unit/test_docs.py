from __future__ import annotations

import inspect
import json
import re
import tomllib
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import msgspec
import pytest

from audit_toolkit import _version
from audit_toolkit.cli import main as cli
from audit_toolkit.disparity.identification.plan import AlertColumns, SearchColumns, SearchThreshold
from audit_toolkit.disparity.identification.plan import Section as Identification
from audit_toolkit.disparity.plan import Attribute, Columns, Section, Subjects, SupportRule, Threshold, Uncertainty
from audit_toolkit.evidence.requirement import Requirement, Source
from audit_toolkit.plan.model import Disclosure, Execution, Parties, Plan, SearchPlan, System, make_plan
from audit_toolkit.sources.formats import FORMATS
from audit_toolkit.sources.table import PLAIN_COLUMNS
from audit_toolkit.stats.intervals import INTERVALS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PLAN = (DOCS / "plan.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WRITTEN = [
    *(DOCS / name for name in ("plan.md", "concepts.md", "threat-model.md")),
    *(ROOT / name for name in ("SECURITY.md", "CHANGELOG.md", "CITATION.cff", "notebooks/README.md")),
]
TABLES: dict[str, type[msgspec.Struct]] = {
    "The plan itself": Plan,
    "`[system]`": System,
    "`[parties]`": Parties,
    "`[disparity]`": Section,
    "`[disparity.columns]`": Columns,
    "`[disparity.attributes.NAME]`": Attribute,
    "`[disparity.subjects]`": Subjects,
    "`[[disparity.thresholds]]`": Threshold,
    "`[disparity.uncertainty]`": Uncertainty,
    "`[disparity.support]`": SupportRule,
    "`[[requirements]]`": Requirement,
    "`[requirements.source]`": Source,
    "`[disclosure]`": Disclosure,
    "`[execution]`": Execution,
    "`[identification]`": Identification,
    "`[[identification.thresholds]]`": SearchThreshold,
    "`[identification.columns]`": SearchColumns,
    "`[identification.alert_columns]`": AlertColumns,
}
LIMITS_OF_READERS = {"path", "genuine", "pairs", "columns"}
"""What a plan says elsewhere: the file itself, and the columns."""


def section(text: str, heading: str) -> str:
    level = re.search(rf"^(#+) {re.escape(heading)}$", text, re.M)
    assert level, heading
    rest = text[level.end() :]
    end = re.search(rf"^#{{1,{len(level[1])}}} ", rest, re.M)
    return rest[: end.start()] if end else rest


def rows(text: str) -> list[list[str]]:
    cells = [re.split(r" \| ", line.strip("| ")) for line in text.splitlines() if line.startswith("|")]
    return [row for row in cells if not set(row[0]) <= set("-|")][1:]


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```toml\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


def printed(info: msgspec.structs.FieldInfo) -> str | None:
    """A field's default as the tables print it; ``None`` for a table of its own."""
    if info.required:
        return "required"
    value: Any = info.default if info.default is not msgspec.NODEFAULT else info.default_factory()
    if value is None:
        return "none"
    if isinstance(value, msgspec.Struct):
        return None
    return f"`{json.dumps(value)}`"


@pytest.mark.parametrize("path", sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")]), ids=lambda p: p.name)
def test_every_toml_block_is_a_plan(path: Path) -> None:
    for text in blocks(path):
        assert isinstance(make_plan(tomllib.loads(text)), Plan | SearchPlan)


def test_the_reference_has_its_examples() -> None:
    made = [make_plan(tomllib.loads(text)) for text in blocks(DOCS / "plan.md")]
    assert [type(plan) for plan in made] == [Plan, Plan, SearchPlan]


def test_the_smallest_plan_runs() -> None:
    from audit_toolkit.api import run

    with as_file(files("audit_toolkit.examples")) as folder:
        audit = run(tomllib.loads(blocks(DOCS / "plan.md")[0]), folder=folder)
    assert audit.exit_code == 0
    overall = next(e for e in audit.estimates("fmr") if not e.of)
    assert (overall.numerator, overall.denominator) == (37, 10_302)


def test_the_complete_example_sets_every_table_and_most_fields() -> None:
    raw = tomllib.loads(blocks(DOCS / "plan.md")[1])
    plan = make_plan(raw)
    assert set(raw) == set(Plan.__struct_fields__) - {"catalogue"}
    # a file holds scores or templates; the example is one of scores
    assert set(raw["disparity"]) == set(Section.__struct_fields__) - {"metric", "curves"}
    assert {t.policy for t in plan.disparity.thresholds} == {"vendor", "fmr", "eer", "fmr_per_group"}
    assert set(raw["requirements"][0]) == set(Requirement.__struct_fields__)


def test_the_complete_example_of_searches_sets_what_lists_can_have() -> None:
    raw = tomllib.loads(blocks(DOCS / "plan.md")[2])
    plan = make_plan(raw)
    assert isinstance(plan, SearchPlan)
    assert set(SearchPlan.__struct_fields__) - set(raw) == {"parties", "catalogue"}
    others = {"gallery", "probes", "metric", "alerts", "passers_by", "alert_columns"}
    assert set(raw["identification"]) == set(Identification.__struct_fields__) - others
    assert set(raw["identification"]["columns"]) == set(SearchColumns.__struct_fields__)
    assert {t.policy for t in plan.identification.thresholds} == {"vendor", "fpir", "fpir_per_group"}


def test_a_plan_of_searches_differs_in_its_section_alone() -> None:
    """So that the table of the plan itself describes both."""
    pair = [
        {
            info.encode_name: info
            for info in msgspec.structs.fields(kind)
            if info.name not in ("disparity", "identification")
        }
        for kind in (Plan, SearchPlan)
    ]
    assert {name: printed(info) for name, info in pair[0].items()} == {
        name: printed(info) for name, info in pair[1].items()
    }
    assert set(SearchPlan.__struct_fields__) - set(Plan.__struct_fields__) == {"identification"}


def test_every_struct_of_the_plan_has_a_table() -> None:
    def reach(kind: Any, seen: set[type]) -> set[type]:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in seen:
            seen.add(kind)
            for info in msgspec.structs.fields(kind):
                reach(info.type, seen)
        for inner in getattr(kind, "__args__", ()):
            reach(inner, seen)
        return seen

    assert reach(Plan, set()) | reach(SearchPlan, set()) - {SearchPlan} == set(TABLES.values())


@pytest.mark.parametrize(("heading", "struct"), TABLES.items(), ids=[s.__name__ for s in TABLES.values()])
def test_every_field_stands_in_its_table_with_its_default(heading: str, struct: type[msgspec.Struct]) -> None:
    table = {row[0].strip("`"): row for row in rows(section(PLAN, heading))}
    known = {info.encode_name: info for info in msgspec.structs.fields(struct)}
    assert set(table) == set(known)
    for name, info in known.items():
        expected = printed(info)
        assert table[name][2] == ("see below" if expected is None else expected), name
        for choice in getattr(info.type, "__args__", ()):
            if isinstance(choice, str) and choice and name != "schema":
                assert f"`{choice}`" in table[name][1], name


def test_every_format_and_option_is_listed() -> None:
    table = {row[0].strip("`"): row for row in rows(section(PLAN, "Formats"))}
    assert set(table) == set(FORMATS)
    simple = re.compile(r"str|bool|int|float|Path|Failure|Literal|SubjectOf")
    for name, reader in FORMATS.items():
        for option, parameter in list(inspect.signature(reader).parameters.items())[1:]:
            if option in LIMITS_OF_READERS or re.search(r"Mapping|Sequence", str(parameter.annotation)):
                continue  # tables and lists cannot be format options
            assert simple.search(str(parameter.annotation))
            assert f"`{option}`" in table[name][2], (name, option)


def test_every_column_method_and_exit_code_is_listed() -> None:
    columns = section(PLAN, "The comparison table")
    assert all(f"`{column}`" in columns for column in PLAIN_COLUMNS)
    assert all(f"`{method}`" in section(PLAN, "`[disparity.uncertainty]`") for method in INTERVALS)
    codes = {row[0] for row in rows(section(PLAN, "Exit codes"))}
    assert codes == {
        *re.findall(r"(?<![\d.])\d+(?= )", (cli.__doc__ or "").split("Exit codes:")[1].split("Commands")[0])
    }


def test_the_files_listed_are_the_files_written(tmp_path: Path) -> None:
    from audit_toolkit.api import demo

    demo().save(tmp_path)
    listed = {row[0].strip("`") for row in rows(section(PLAN, "What a run leaves"))}
    assert listed == {p.name for p in tmp_path.iterdir()}


@pytest.mark.parametrize("path", WRITTEN, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        name, _, anchor = target.partition("#")
        if "://" in target:
            continue
        there = path if not name else (path.parent / name).resolve()
        assert there.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, target


@pytest.mark.parametrize("path", [*WRITTEN, *NOTEBOOKS], ids=lambda p: p.name)
def test_words_that_are_not_used(path: Path) -> None:
    rules = (DOCS / "language.md").read_text(encoding="utf-8")
    words = [row[0] for row in rows(section(rules, "Words that are not used"))]
    assert {"unbiased", "guarantee"} <= set(words)
    text = re.sub(r"Fairness\s+Discrepancy\s+Rate|fairness_discrepancy_rate", "", path.read_text(encoding="utf-8"))
    assert re.findall(rf"\b({'|'.join(words)})\b", text, re.I) == []


@pytest.mark.parametrize("path", [*WRITTEN, *NOTEBOOKS, ROOT / "LICENSE"], ids=lambda p: p.name)
def test_no_machine_and_no_host_is_named(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users|opt|mnt)/", text)
    assert set(re.findall(r"https?://([^/\s)\"]+)", text)) <= {
        "www.apache.org",
        "doi.org",
        "keepachangelog.com",
        "semver.org",
    }


def test_licence_is_the_one_the_metadata_names() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "license_expression = Apache-2.0" in (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert "Apache License" in text.splitlines()[0] + text.splitlines()[1]
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert all(f"   {n}. " in text for n in range(1, 10))


def test_citation_names_the_version_and_the_licence() -> None:
    lines = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    top = dict(line.split(": ", 1) for line in lines if re.match(r"^[a-z-]+: \S", line))
    assert top["cff-version"] == "1.2.0"
    assert top["version"].strip('"') == _version.__version__
    assert top["license"] == "Apache-2.0"
    assert {"message", "title", "abstract", "type"} <= set(top)
    assert "authors:" in lines
    assert not any("\t" in line for line in lines)


def test_changelog_has_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[([^\]]+)\]", text, re.M)
    assert versions[0] == _version.__version__
    assert set(re.findall(r"^### (.+)$", text, re.M)) <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }


def test_security_says_how_to_report() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "security advisor" in text.lower()
    assert "privately" in text.lower()


def test_the_errors_needed_are_what_the_formula_gives() -> None:
    from audit_toolkit.stats.power import errors_needed

    text = " ".join(section((DOCS / "concepts.md").read_text(encoding="utf-8"), "No difference found").split())
    for ratio in (2.0, 1.5, 1.25, 1.1):
        assert re.search(rf"{errors_needed(ratio, 1.0):,.0f} for (a ratio of )?{ratio:g}\b", text), ratio


def test_the_zero_error_limit_is_what_the_formula_gives() -> None:
    from audit_toolkit.stats.proportion import zero_error_upper

    limit = zero_error_upper(102, 1.0, 0.95)
    assert limit is not None
    assert 0.035 < limit < 0.036  # "3.5 % is still consistent with them"
