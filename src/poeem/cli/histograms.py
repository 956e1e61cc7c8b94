"""Histograms drawn as bars of text."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from poeem.types import IntArray

WIDTH = 40
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bars(found: dict[str, list[int]]) -> dict[str, str]:
    """Return a line per range: its name, and a bar with the count behind it."""
    edges, counts = found["edges"], found["counts"]
    highest = max(counts)
    names = [
        f"{a:,}" if b == a + 1 else f"{a:,} to {b - 1:,}" for a, b in itertools.pairwise(edges)
    ]
    width = max(map(len, names))
    return {
        name.rjust(width): f"{_bar(count / highest)} {count:,}"
        for name, count in zip(names, counts, strict=True)
    }


def code_counts(codes: Any, num_codewords: int) -> IntArray:
    """Return how many items have each codeword, int64 [num_subspaces, num_codewords]."""
    return np.stack([np.bincount(column, minlength=num_codewords) for column in codes.T])


def _bar(share: float) -> str:
    eighths = round(share * WIDTH * 8)
    if share > 0:
        eighths = max(eighths, 1)  # something is not nothing
    return _EIGHTHS[8] * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
