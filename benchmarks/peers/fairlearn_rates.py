"""The peer's side of disparity_speed.py: fairlearn's MetricFrame over the same arrays; runs in the peer's environment.

``python fairlearn_rates.py ARRAYS THRESHOLD`` prints one JSON line. What is favourable to the peer: decisions (score >=
threshold) and each row's group are worked out before the clock starts, groups are integers (of bool, int8, int64, category
and string inputs none was faster beyond noise), and a first call on a few rows has loaded everything.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from fairlearn.metrics import MetricFrame, false_negative_rate, false_positive_rate


def rates(mated, match, group):
    """By group and between groups: false positive and false negative rate, as fairlearn's users ask for them."""
    frame = MetricFrame(
        metrics={"fmr": false_positive_rate, "fnmr": false_negative_rate},
        y_true=mated,
        y_pred=match,
        sensitive_features=group,
    )
    return frame.by_group, frame.difference(method="between_groups"), frame.ratio(method="between_groups")


def main() -> None:
    """Load, warm up on a few rows, time one call, print."""
    folder, threshold = Path(sys.argv[1]), np.float32(sys.argv[2])
    mated = np.load(folder / "mated.npy")
    match = np.load(folder / "score.npy") >= threshold
    group = np.load(folder / "group.npy")[np.load(folder / "ref.npy")]
    few = min(len(mated), 10_000)
    rates(mated[:few], match[:few], group[:few])
    start = time.perf_counter()
    by_group, difference, ratio = rates(mated, match, group)
    seconds = time.perf_counter() - start
    answer = {
        name: {
            "by_group": [float(v) for v in by_group[name].sort_index()],
            "difference": float(difference[name]),
            "ratio": float(ratio[name]),
        }
        for name in ("fmr", "fnmr")
    }
    sys.stdout.write(json.dumps({"seconds": seconds, "rates": answer}) + "\n")


if __name__ == "__main__":
    main()
