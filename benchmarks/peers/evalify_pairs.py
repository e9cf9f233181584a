"""The peer's side of pairs_speed.py: all pairs of the same templates by evalify; runs in the peer's environment.

``python evalify_pairs.py ARRAYS THRESHOLD`` prints one JSON line: the time from vectors and subjects in memory to the table of
all pairs with their cosine similarity, and what was counted in it (counting is outside the clock). What is favourable to the
peer: batches of 100,000 pairs; left to choose, it asked for 34 GiB at 6,000 x 512 and failed.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from evalify import Experiment

BATCH = 100_000


def main() -> None:
    """Load, run once, print."""
    folder, threshold = Path(sys.argv[1]), float(sys.argv[2])
    vectors, subject = np.load(folder / "vectors.npy"), np.load(folder / "subject.npy")
    start = time.perf_counter()
    table = Experiment("cosine_similarity", "full", ("full", "full"), seed=1).run(vectors, subject, batch_size=BATCH)
    seconds = time.perf_counter() - start
    mated = table["target"].to_numpy() == 1
    score = table["cosine_similarity"].to_numpy()
    counts = {
        "nonmated": int((~mated).sum()),
        "mated": int(mated.sum()),
        "false_matches": int((~mated & (score >= threshold)).sum()),
    }
    sys.stdout.write(json.dumps({"seconds": seconds, "counts": counts}) + "\n")


if __name__ == "__main__":
    main()
