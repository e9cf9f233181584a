"""Which groups must stay out of every table because too few people stand behind them.

Promise: a group with fewer people than the minimum is withheld, and where a withheld count could be worked out by
subtraction (a total and all groups but one), the smallest remaining group is withheld too (complementary suppression).
The decision is taken before anything is computed, so no rate, ratio, summary, curve or title can carry a withheld number.

Not promised: that published numbers say nothing about anyone. This is a rule on counts of people, not a privacy proof.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Cell = tuple[str, ...]


def withhold(counts: Mapping[Cell, int], minimum: int, sums: Sequence[Sequence[Cell]]) -> dict[Cell, str]:
    """The cells to withhold, each with its reason; ``counts`` = people per cell.

    ``sums`` lists sets of cells whose total is published or can be known (all groups of an attribute; the groups of one
    attribute within a group of another). A set with exactly one withheld cell gets a second one, the smallest left;
    repeated until no set has exactly one. Cells with 0 people are no cells and are ignored.
    """
    withheld = {
        cell: f"withheld: fewer than {minimum} people in this group" for cell, n in counts.items() if 0 < n < minimum
    }
    changed = True
    while changed:
        changed = False
        for members in sums:
            present = [cell for cell in members if counts.get(cell, 0) > 0]
            hidden = [cell for cell in present if cell in withheld]
            open_cells = sorted((counts[cell], cell) for cell in present if cell not in withheld)
            if len(hidden) == 1 and open_cells:
                cell = open_cells[0][1]
                withheld[cell] = "withheld: another group's number could be worked out from it"
                changed = True
    return withheld
