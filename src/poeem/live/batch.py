"""A change of a live index, and several folded into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from poeem.live.rows import Rows, concatenate
from poeem.types import IntArray


@dataclass(frozen=True)
class Batch:
    """Items put (added or replaced) and items removed, at once; no id is twice in it.

    number: of the change, from 1. made: seconds since 1970, UTC. put: without norms.
    removed: int64 [n].
    """

    number: int
    made: float
    put: Rows
    removed: IntArray


def fold(batches: Sequence[Batch]) -> Batch:
    """Return one change that does what several do, one after the other; at least one."""
    if len(batches) == 1:
        return batches[0]
    put = concatenate([batch.put for batch in batches])
    ids, rows, first = [], [], 0
    for batch in batches:
        ids += [batch.put.ids, batch.removed]
        rows += [np.arange(first, first + len(batch.put)), np.full(len(batch.removed), -1)]
        first += len(batch.put)
    # The last that was done to an id counts: the first of it from behind.
    distinct, last = np.unique(np.concatenate(ids)[::-1], return_index=True)
    row = np.concatenate(rows)[::-1][last]
    return Batch(batches[-1].number, batches[0].made, put.take(row[row >= 0]), distinct[row < 0])
