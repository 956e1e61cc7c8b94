"""Recall and precision of ranked answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from poeem.errors import ShapeError
from poeem.types import IntArray


@dataclass(frozen=True)
class Grouped:
    """A list of item numbers per row, stored one after the other.

    offsets: int64 [num_rows + 1]; row r has items[offsets[r]:offsets[r + 1]].
    items: int64 [offsets[-1]].
    """

    offsets: IntArray
    items: IntArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def by_row(cls, rows: IntArray, items: IntArray, num_rows: int) -> Grouped:
        """Group pairs (row, item), both int [n], by row."""
        order = np.argsort(rows, kind="stable")
        counts = np.bincount(rows, minlength=num_rows)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(offsets, np.asarray(items, dtype=np.int64)[order])

    def lengths(self) -> IntArray:
        """Return the number of items per row, int64 [num_rows]."""
        return np.diff(self.offsets)

    def rows(self) -> IntArray:
        """Return the row of each item, int64 [len(items)]."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths())

    def select(self, wanted: IntArray) -> Grouped:
        """Return the rows `wanted`, int64 [n], in that order."""
        lengths = self.lengths()[wanted]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Grouped(offsets, self.items[np.repeat(self.offsets[wanted], lengths) + within])


def hits(ranked: IntArray, relevant: Grouped) -> NDArray[np.bool_]:
    """Return bool [n, k]: is each of the ranked item numbers int64 [n, k] relevant to its row?

    Raises:
        ShapeError: different numbers of rows.
    """
    if ranked.ndim != 2 or len(ranked) != len(relevant):
        raise ShapeError(
            f"ranked: got shape {list(ranked.shape)}, wanted [{len(relevant)}, k], a row per query"
        )
    width = int(max(ranked.max(initial=0), relevant.items.max(initial=0))) + 1
    keys = np.sort(relevant.rows() * width + relevant.items)
    if keys.size == 0:
        return np.zeros(ranked.shape, dtype=bool)
    wanted = np.arange(len(ranked), dtype=np.int64)[:, None] * width + ranked
    found = keys[np.minimum(np.searchsorted(keys, wanted), keys.size - 1)] == wanted
    result: NDArray[np.bool_] = found & (ranked >= 0)
    return result


def ranking_metrics(
    ranked: IntArray, relevant: Grouped, cutoffs: Sequence[int] = (20, 100)
) -> dict[str, float]:
    """Return `recall@k` and `precision@k`, means over the rows that have something relevant.

    recall@k = relevant among the first k / all relevant; precision@k = the same / k.

    Args:
        ranked: int64 [n, at least max(cutoffs)], best first, -1 = nothing.
        relevant: the relevant items of each of the n rows, distinct.
        cutoffs: the k.
    """
    lengths = relevant.lengths()
    counted = lengths > 0
    found = hits(ranked, relevant)[counted]
    result: dict[str, float] = {}
    for k in cutoffs:
        first = found[:, :k].sum(1)
        result[f"recall@{k}"] = float((first / lengths[counted]).mean()) if len(first) else 0.0
        result[f"precision@{k}"] = float((first / k).mean()) if len(first) else 0.0
    return result
