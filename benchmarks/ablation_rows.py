"""What the rows of an ablation say: by how much each change moves recall@100 of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

OURS = "ours"


def ratios_to_ours(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], list[float]]:
    """Return recall@100 of each change over that of ours, for each size one ratio a seed.

    Of seeds in which both the change and its own recipe's "ours" were run.
    """
    found = {(r["bytes"], r["name"], r["seed"]): r for r in rows}
    ratios: dict[tuple[int, str], list[float]] = {}
    for (size, name, seed), row in found.items():
        ours = found.get((size, OURS, seed))
        if name != OURS and ours is not None and ours["settings"] == row.get("recipe"):
            ratios.setdefault((size, name), []).append(row["recall@100"] / ours["recall@100"])
    return ratios


def moved_by(rows: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    """Return by how many per cent each change moves recall@100, size by size, means over seeds."""
    moved: dict[int, dict[str, float]] = {}
    for (size, name), each in ratios_to_ours(rows).items():
        moved.setdefault(size, {})[name] = 100 * (sum(each) / len(each) - 1)
    return dict(sorted(moved.items()))
