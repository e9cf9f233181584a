"""A synthetic record with every shape a report must carry: no data set, no run, plain numbers made in code."""

from __future__ import annotations

import math

from audit_toolkit.evidence.estimate import Chance, Estimate, Interval, Support
from audit_toolkit.evidence.finding import Finding, Method
from audit_toolkit.evidence.record import Exclusion, Input, Record, Run, Statement
from audit_toolkit.evidence.requirement import Requirement, Source
from audit_toolkit.evidence.series import Series

SCRIPT = "<script>alert(1)</script>"
LONG = "people who gave a description of themselves that is much longer than any column was made for"
VIETNAMESE = "người Việt 東アジア"
GENDERS = ("female", "male")
ORIGINS = ("Black", SCRIPT, VIETNAMESE, LONG)
AXIS = "gender × origin"
THRESHOLDS = (
    ("0.363", 0.363, "vendor's value"),
    ("0.4215", 0.4215, "lowest threshold with overall FMR <= 1e-3"),
)
WITHHELD = "withheld: fewer than 5 people in this group"
METHOD = Method(
    name="logit interval, leave-one-person-out variance",
    version="1",
    reference="subject jackknife with Satterthwaite degrees of freedom",
    assumptions=("people are drawn independently of each other",),
)


def _interval(p: float, n: int, spread: float) -> Interval:
    """A Wilson-like interval on the logit scale, wide enough to look like one with clustering."""
    if p == 0:
        return Interval(low=None, high=round(3 * spread / n, 9), level=0.95, method="rule of three over deff")
    centre, half = math.log(p / (1 - p)), 1.96 * spread / math.sqrt(p * (1 - p) * n)
    low, high = (1 / (1 + math.exp(-(centre + s * half))) for s in (-1, 1))
    return Interval(low=round(low, 9), high=round(high, 9), level=0.95, method="logit jackknife t")


def _rate(quantity: str, of: dict[str, str], at: dict, errors: int | None, n: int, people: int) -> Estimate:
    if errors is None:
        return Estimate(quantity=quantity, of=of, at=at, undefined=WITHHELD)
    wide = _interval(errors / n, n, 2.4)
    return Estimate(
        quantity=quantity,
        of=of,
        at=at,
        value=errors / n,
        interval=_interval(errors / n, n, 1.7),
        simultaneous=None if errors == 0 else wide,
        numerator=errors,
        denominator=n,
        support=Support(comparisons=n, subjects=people, errors=errors),
        notes=("no error seen: only an upper limit can be given",) if errors == 0 else (),
    )


_FMR = {
    ("female",): (149, 61_340, 212), ("male",): (58, 60_112, 201),
    ("Black",): (96, 31_004, 104), (SCRIPT,): (41, 30_800, 108), (VIETNAMESE,): (66, 30_111, 99), (LONG,): (4, 29_537, 102),
    ("female", "Black"): (71, 7_812, 52), ("female", SCRIPT): (28, 7_744, 54), ("female", VIETNAMESE): (50, 7_410, 50),
    ("female", LONG): (0, 7_120, 51), ("male", "Black"): (25, 7_690, 52), ("male", SCRIPT): (13, 7_656, 54),
    ("male", VIETNAMESE): (16, 7_200, 49), ("male", LONG): (None, 0, 4),
}  # fmt: skip
_FNMR = {
    ("female",): (38, 1_060, 212), ("male",): (29, 1_005, 201),
    ("Black",): (19, 520, 104), (SCRIPT,): (14, 540, 108), (VIETNAMESE,): (21, 495, 99), (LONG,): (13, 510, 102),
    ("female", "Black"): (11, 260, 52), ("female", SCRIPT): (8, 270, 54), ("female", VIETNAMESE): (13, 250, 50),
    ("female", LONG): (6, 255, 51), ("male", "Black"): (8, 260, 52), ("male", SCRIPT): (6, 270, 54),
    ("male", VIETNAMESE): (8, 245, 49), ("male", LONG): (None, 0, 4),
}  # fmt: skip


def _of(labels: tuple[str, ...]) -> dict[str, str]:
    if len(labels) == 2:
        return {"gender": labels[0], "origin": labels[1]}
    return {"gender" if labels[0] in GENDERS else "origin": labels[0]}


def _rates() -> list[Estimate]:
    out = []
    for k, (_, threshold, policy) in enumerate(THRESHOLDS):
        at: dict = {"threshold": threshold, "policy": policy}
        out.append(_rate("fmr", {}, at, 207 >> (2 * k), 121_452, 413))
        out += [_rate("fmr", _of(g), at, None if e is None else e >> (2 * k), n, s) for g, (e, n, s) in _FMR.items()]
        out.append(_rate("fnmr", {}, at, 67 << k, 2_065, 413))
        out += [_rate("fnmr", _of(g), at, None if e is None else e << k, n, s) for g, (e, n, s) in _FNMR.items()]
    for gender, failed, n in (("female", 3, 215), ("male", 0, 201)):
        out.append(_rate("fta", {"gender": gender}, {}, failed, n, n))
    return out


def _ratio(
    of: dict[str, str],
    against: str,
    value: float | None,
    low: float,
    high: float,
    n: int,
    errors: tuple[int, int],
) -> Estimate:
    at = {
        "threshold": 0.363,
        "policy": "vendor's value",
        "against": against,
        "errors": errors[0],
        "errors_against": errors[1],
    }
    if value is None:
        return Estimate(
            quantity="fmr_ratio",
            of=of,
            at=at,
            undefined="no false match in one of the two groups",
            support=Support(comparisons=14_000, subjects=n, errors=0),
        )
    return Estimate(
        quantity="fmr_ratio",
        of=of,
        at=at,
        value=value,
        interval=Interval(low=low, high=high, level=0.95, method="log ratio, joint jackknife"),
        simultaneous=Interval(low=low * 0.9, high=high * 1.1, level=0.95, method="max-t over 3 ratios"),
        support=Support(comparisons=30_000, subjects=n, errors=min(errors)),
    )


def _ratios() -> list[Estimate]:
    return [
        _ratio({"gender": "female"}, "male", 2.52, 1.85, 3.43, 413, (149, 58)),
        _ratio({"origin": "Black"}, LONG, 22.87, 6.9, 75.8, 206, (96, 4)),
        _ratio({"origin": SCRIPT}, LONG, 9.83, 0.8, 29.6, 210, (41, 4)),
        _ratio({"gender": "female", "origin": LONG}, "everybody else", None, 0, 0, 51, (0, 207)),
        Estimate(
            quantity="fnmr_ratio",
            of={"gender": "female"},
            at={"threshold": 0.363, "policy": "vendor's value", "against": "male"},
            value=1.2424,
            interval=Interval(low=0.76, high=1.42, level=0.95, method="log ratio, joint jackknife"),
            support=Support(comparisons=2_065, subjects=413, errors=67),
        ),
    ]


def _spread() -> list[Estimate]:
    out = []
    for rate in ("fmr", "fnmr"):
        for axis, scale in (("gender", 0.6), (AXIS, 1.0)):
            at: dict = {"rate": rate, "axis": axis, "threshold": 0.363}
            undefined = rate == "fmr" and axis == AXIS
            out.append(
                Estimate(
                    quantity="max_min_ratio",
                    at=at,
                    undefined="a group shows no error: the smallest rate is 0",
                )
                if undefined
                else Estimate(
                    quantity="max_min_ratio",
                    at=at,
                    value=2.52 * scale,
                    interval=Interval(low=1.0, high=4.1, level=0.95, method="projection of simultaneous intervals"),
                    chance=Chance(
                        expected=1.31,
                        high=1.88,
                        corrected=1.0 + scale,
                        method="counts redrawn under equality",
                    ),
                )
            )
            out.append(
                Estimate(
                    quantity="gini_normalised",
                    at=at,
                    value=0.4312 * scale,
                    interval=Interval(low=0.11, high=None, level=0.95, method="joint jackknife"),
                    chance=Chance(
                        expected=0.196,
                        high=0.33,
                        corrected=0.236 * scale,
                        method="counts redrawn under equality",
                    ),
                )
            )
    for alpha in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = {"alpha": alpha, "axis": AXIS, "threshold": 0.363}
        out.append(
            Estimate(
                quantity="fairness_discrepancy_rate",
                at=at,
                value=0.97 + alpha / 50,
                interval=Interval(low=0.94, high=0.995, level=0.95, method="projection of simultaneous intervals"),
            )
        )
        out.append(
            Estimate(quantity="inequity_rate", at=at, undefined="a group shows no error: the smallest rate is 0")
        )
        out.append(
            Estimate(
                quantity="garbe",
                at=at,
                value=0.25 + alpha / 5,
                chance=Chance(
                    expected=0.17,
                    high=0.26,
                    corrected=0.1 + alpha / 5,
                    method="counts redrawn under equality",
                ),
            )
        )
    at = {"rate": "fmr", "axis": "gender", "threshold": 0.363}
    out.append(
        Estimate(
            quantity="equality_p",
            at=at,
            value=0.00049,
            notes=("1,999 resamples; the smallest value is 5e-4",),
        )
    )
    out.append(Estimate(quantity="equality_p", at={**at, "rate": "fnmr"}, value=0.312))
    out.append(Estimate(quantity="permutation_p", at=at, value=0.0015))
    out.append(Estimate(quantity="minimum_detectable_ratio", at={**at, "rate": "fnmr"}, value=1.92))
    out.append(Estimate(quantity="equivalence_ratio", at={**at, "rate": "fnmr"}, value=1.62))
    for k, gender in enumerate(GENDERS):
        out.append(
            Estimate(
                quantity="ks_distance",
                of={"gender": gender},
                at={"class": "non-mated"},
                value=0.081 + k / 100,
                interval=Interval(low=0.05, high=0.12, level=0.95, method="subject bootstrap"),
            )
        )
    return out


def _series() -> list[Series]:
    out = []
    for k, gender in enumerate(GENDERS):
        fmr = [10 ** (-5 + i / 8) for i in range(37)]
        fnmr = [round((0.03 + 0.008 * k) * (x / 1e-3) ** -0.31, 9) for x in fmr]
        curve = [None if x < 2e-5 else min(1.0, y) for x, y in zip(fmr, fnmr, strict=True)]
        out.append(
            Series(
                kind="curve",
                quantity="det",
                of={"gender": gender},
                x=tuple(fmr),
                y=tuple(curve),
                x_name="FMR",
                y_name="FNMR",
            )
        )
    pairs = [(g, o) for g in GENDERS for o in ORIGINS]
    for k, (gender, origin) in enumerate(pairs):
        if k == 7:
            continue
        fmr = [10 ** (-4 + i / 6) for i in range(22)]
        fnmr = [min(1.0, (0.02 + 0.004 * k) * (x / 1e-3) ** -0.3) for x in fmr]
        out.append(
            Series(
                kind="curve",
                quantity="det",
                of={"gender": gender, "origin": origin},
                x=tuple(fmr),
                y=tuple(round(y, 9) for y in fnmr),
                x_name="FMR",
                y_name="FNMR",
            )
        )
    names = tuple(f"{g} & {o}" for g, o in pairs)
    y, low, high, numerators, denominators = [], [], [], [], []
    for i in range(8):
        for j in range(8):
            if 7 in (i, j):
                cell: tuple = (None, None, None, None, None)
            else:
                n = 7_400 if i == j else 15_200
                errors = (71, 28, 50, 0, 25, 13, 16)[i] if i == j else (i * j) % 5
                p = errors / n
                cell = (p, 0.0 if errors == 0 else 0.6 * p, 1.7 * p + 2e-4, errors, n)
            for column, value in zip((y, low, high, numerators, denominators), cell, strict=True):
                column.append(value)
    out.append(
        Series(
            kind="matrix",
            quantity="fmr",
            of={"axis": AXIS},
            at={"threshold": 0.363},
            x=names,
            rows=names,
            y=tuple(y),
            low=tuple(low),
            high=tuple(high),
            numerators=tuple(numerators),
            denominators=tuple(denominators),
            x_name="probe group",
            y_name="reference group",
            notes=("cells that touch a withheld group are withheld",),
        )
    )
    for gender, shift in zip(GENDERS, (0.0, 0.04), strict=True):
        for kind, centre, width, total in (("non-mated", 0.1, 0.09, 60_000), ("mated", 0.68, 0.12, 1_030)):
            x = tuple(round(-0.2 + k / 40, 4) for k in range(49))
            shape = [math.exp(-(((v - centre - shift) / width) ** 2) / 2) for v in x]
            counts = [round(total * s / sum(shape)) for s in shape]
            out.append(
                Series(
                    kind="histogram",
                    quantity="score_distribution",
                    of={"gender": gender},
                    at={"class": kind},
                    x=x,
                    y=tuple(float(c) for c in counts),
                    x_name="score",
                    y_name="comparisons",
                )
            )
    return out


def _findings(ratios: list[Estimate], rates: list[Estimate]) -> tuple[Finding, ...]:
    ratio = Requirement(
        id="ratio-2",
        title="FMR of any group at most twice that of another",
        quantity="fmr_ratio",
        comparator="<=",
        limit=2.0,
        of={"origin": "*"},
        at={"threshold": 0.363},
        source=Source(title="Procurement specification", clause="4.2 (b)"),
        rationale="The agency asked for it in its call for tenders.",
    )
    fnmr = Requirement(
        id="fnmr-ratio",
        title="FNMR of women at most 1.5 times that of men",
        quantity="fnmr_ratio",
        comparator="<=",
        limit=1.5,
        of={"gender": "female"},
        at={"threshold": 0.363},
        source=Source(title="ISO/IEC 19795-10:2024", clause="reporting", read="secondary"),
    )
    plain = "This does not show why, nor that other thresholds behave alike."
    black, script, zero = ratios[1], ratios[2], ratios[3]
    return (
        Finding(
            id="fnmr-ratio",
            claim="At threshold 0.363 (vendor's value), FNMR of women was 1.24 times that of men "
            "(95 % interval 0.76 to 1.42; 38 and 29 false non-matches).",
            verdict="satisfied",
            reason="the whole interval keeps the limit",
            requirement=fnmr,
            estimates=(ratios[4],),
            method=METHOD,
            limits=("A larger true ratio than 1.92 would have been detected with 80 % power.",),
        ),
        Finding(
            id="measured-gap",
            claim="At threshold 0.363 (vendor's value), FMR was 0.00243 for women and 0.000965 for men; in this sample the "
            "difference is larger than chance gives (p = 4.9e-4).",
            estimates=tuple(e for e in rates if e.of.get("gender") and len(e.of) == 1 and e.quantity == "fmr")[:2],
            method=METHOD,
            limits=(plain,),
        ),
        Finding(
            id="ratio-2/script",
            claim=f"At threshold 0.363, FMR of the group {SCRIPT} was 9.83 times that of the group held against it "
            "(95 % interval 0.72 to 32.6).",
            verdict="inconclusive",
            reason="the interval straddles the limit",
            requirement=ratio,
            estimates=(script,),
            method=METHOD,
            limits=(plain,),
        ),
        Finding(
            id="ratio-2/black",
            claim="At threshold 0.363, FMR of the group Black was 22.9 times that of the group held against it "
            "(95 % interval 6.21 to 83.4; 96 and 4 false matches).",
            verdict="violated",
            reason="the whole interval lies beyond the limit",
            requirement=ratio,
            estimates=(black,),
            method=METHOD,
            limits=(plain, "The group held against has 4 errors only."),
        ),
        Finding(
            id="ratio-2/zero",
            claim="At threshold 0.363, the ratio of FMR cannot be given for one group: it shows no false match.",
            verdict="not_assessed",
            reason="no false match in one of the two groups",
            requirement=ratio,
            estimates=(zero,),
            method=METHOD,
            limits=(plain,),
        ),
    )


def make_record(*, required: bool = True) -> Record:
    """The record; with ``required=False`` nothing was required, so no finding has a verdict."""
    rates, ratios = _rates(), _ratios()
    findings = _findings(ratios, rates)
    return Record(
        toolkit_version="0.0.0",
        title="Error rates by gender and origin of a face matcher",
        plan={
            "title": "Error rates by gender and origin of a face matcher",
            "system": {
                "name": "Example Matcher",
                "version": "2.1",
                "vendor": "Example Vendor",
                "use": "verification at a gate",
            },
            "parties": {"auditor": "Example Auditor", "client": "Example Agency"},
            "disparity": {
                "attributes": ["gender", "origin"],
                "thresholds": [0.363, "overall FMR <= 1e-3"],
                "support": {"min_subjects": 30, "min_errors": 10},
            },
            "disclosure": {"min_people": 5},
            "note": f"a hostile note {SCRIPT}",
        },
        plan_digest="5e" * 32,
        statements=(
            Statement(name="evaluation type", text="technology evaluation"),
            Statement(name="label source", text="self-reported by the people in the sample"),
            Statement(name="impostor selection", text="all pairs within and across groups"),
            Statement(name="days between mated captures", text=""),
        ),
        inputs=(
            Input(
                name="scores.parquet",
                sha256="ab" * 32,
                format="parquet",
                rows_read=124_000,
                rows_used=123_517,
                exclusions=(
                    Exclusion(reason="score is not a number", count=17),
                    Exclusion(reason="a person is compared with the same sample", count=413),
                    Exclusion(reason="a label is missing on one side", count=53),
                    Exclusion(reason="identical rows that were kept", count=12, used=True),
                ),
                warnings=("0.4 % of the scores equal the largest one; the score may be cut off above.",),
            ),
        ),
        runs=(
            Run(
                measure="verification_grid",
                version="1",
                parameters={"edges": "sha256:" + "cd" * 32, "groups": 8},
                state_digest="12" * 32,
                codebook_digest="34" * 32,
            ),
            Run(
                measure="verification_by_subject",
                version="1",
                parameters={"thresholds": [0.363, 0.4215]},
                state_digest="56" * 32,
            ),
        ),
        estimates=tuple(rates + ratios + _spread()),
        series=tuple(_series()),
        findings=findings if required else tuple(f for f in findings if f.requirement is None),
        limits=(
            "The people in the sample are not a random sample of those who will pass the gate.",
            "Thresholds above 0.4215 were not assessed.",
        ),
    )
