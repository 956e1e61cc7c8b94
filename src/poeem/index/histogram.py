"""Counts of whole numbers in a few ranges."""

from __future__ import annotations

import numpy as np

from poeem.types import IntArray

MAX_BARS = 10


def histogram(values: IntArray) -> dict[str, list[int]]:
    """Count whole numbers in at most ten ranges as wide as each other.

    Returns:
        edges [bars + 1] and counts [bars]: of values from edges[i] up to edges[i + 1], without it.
    """
    low, high = int(values.min()), int(values.max())
    step = -(-(high + 1 - low) // MAX_BARS)
    edges = np.arange(low, high + step + 1, step)
    counts, _ = np.histogram(values, bins=np.append(edges[:-1], edges[-1] - 0.5))
    return {"edges": edges.tolist(), "counts": counts.tolist()}
