"""Exact search over float vectors: what every index is measured against."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from poeem.evaluation.metrics import Grouped
from poeem.types import IntArray

# Scores held at once, in floats.
_BLOCK = 2**25


@torch.no_grad()
def exact_search(
    queries: Tensor,
    items: Tensor,
    k: int,
    exclude: Grouped | None = None,
    advance: Callable[[int], None] | None = None,
) -> IntArray:
    """Return the k items of highest inner product, without those excluded.

    Args:
        queries: float32 [n, dim].
        items: float32 [num_items, dim].
        k: answers per query.
        exclude: items that must not be returned, per query.
        advance: called with how many more queries were answered, as it goes on.

    Returns:
        int64 [n, k], item numbers, best first; -1 where nothing is left.
    """
    num_items = len(items)
    found = np.full((len(queries), k), -1, dtype=np.int64)
    rows = max(1, _BLOCK // num_items)
    top = min(k, num_items)
    for start in range(0, len(queries), rows):
        scores = queries[start : start + rows] @ items.T
        stop = start + len(scores)
        if exclude is not None:
            part = exclude.select(np.arange(start, stop))
            at = (torch.as_tensor(part.rows()), torch.as_tensor(part.items))
            scores[at[0].to(scores.device), at[1].to(scores.device)] = -torch.inf
        best = scores.topk(top, dim=1)
        ids = best.indices.masked_fill(best.values == -torch.inf, -1)
        found[start:stop, :top] = ids.cpu().numpy()
        if advance is not None:
            advance(stop - start)
    return found
