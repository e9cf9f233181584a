"""Distances are the mirror of similarities: the same counts, thresholds shown as the file writes them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from audit_toolkit import api
from audit_toolkit.errors import PlanError


def lists(sign: float) -> dict[str, pd.DataFrame]:
    rows = []
    for k in range(40):
        mated = k % 2 == 0
        for rank in (1, 2, 3):
            who = f"e{k}" if mated and rank == 1 else f"e{(k + 7 * rank) % 40 + 40}"
            rows.append((f"q{k}", rank, who, sign * (0.9 - 0.1 * rank - 0.004 * k)))
    made = pd.DataFrame(rows, columns=["probe", "rank", "candidate_subject", "score"])
    searches = pd.DataFrame(
        {
            "probe": [f"q{k}" for k in range(40)],
            "probe_subject": [f"e{k}" for k in range(40)],
            "mated": [k % 2 == 0 for k in range(40)],
            "sex": ["a" if k % 4 < 2 else "b" for k in range(40)],
        }
    )
    enrolled = pd.DataFrame({"subject": [f"e{k}" for k in range(0, 40, 2)] + [f"e{k}" for k in range(40, 80)]})
    return {"candidates": made, "searches": searches, "enrolled": enrolled}


def figures(sign: float, **options: Any) -> tuple[list[Any], set[Any]]:
    audit = api.watchlist(
        frames=lists(sign), groups={"sex": "sex"}, threshold=sign * 0.7, fpir=0.2, growth=False, **options
    )
    rates = [
        (e.quantity, tuple(e.of.items()), e.at.get("rank"), e.numerator, e.denominator)
        for e in audit.record.estimates
        if e.quantity in ("fpir", "fnir")
    ]
    thresholds = {e.at["threshold"] for e in audit.record.estimates if "threshold" in e.at}
    return rates, thresholds


def test_distances_give_the_figures_of_similarities() -> None:
    alike, at = figures(1.0)
    apart, mirrored = figures(-1.0, higher_is="different")
    assert alike == apart
    assert sorted(mirrored) == pytest.approx(sorted(-t for t in at))
    assert any(n for _, _, _, n, _ in alike)


def test_the_metric_and_the_direction_must_agree() -> None:
    with pytest.raises(PlanError, match="higher_is"):
        api.watchlist_plan(gallery="g.npz", probes="p.npz", metric="l2", groups={"sex": "sex"})
