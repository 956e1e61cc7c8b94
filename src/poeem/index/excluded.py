"""Items that one query must not get back, others may: what a user had already."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any

import numpy as np

from poeem.errors import DtypeError, ShapeError
from poeem.index.arguments import PADDING_ID, check_ids
from poeem.index.search_call import SearchCall
from poeem.types import FloatArray, IntArray

_RESULTS = 1 << 24  # held at once, 12 bytes each

Answer = Callable[[SearchCall], tuple[IntArray, FloatArray]]


def answer_without(
    call: SearchCall, excluded: Any, answer: Answer, num_items: int
) -> tuple[IntArray, FloatArray]:
    """Ask for as many more as a query excludes, then drop those: exact, paid by their number.

    Args:
        call: as if nothing were excluded.
        excluded: as `Index.search` takes it.
        answer: does a call; returns ids and scores [n, call.num_found].
        num_items: of the catalogue.

    Returns:
        ids and scores [n, call.num_found], -1 and -inf where nothing is left.

    Raises:
        ShapeError, DtypeError, IdError: of excluded.
    """
    ids_of = _checked(excluded, len(call.queries))
    ids = np.full((len(ids_of), call.num_found), PADDING_ID, dtype=np.int64)
    scores = np.full(ids.shape, -np.inf, dtype=np.float32)
    lengths = np.array([len(one) for one in ids_of], dtype=np.int64)
    for rows in _of_like_length(lengths, call.num_found):
        some = [ids_of[row] for row in rows]
        wanted = min(call.num_found + max(map(len, some)), num_items)
        part = dataclasses.replace(call, queries=call.queries[rows], num_found=max(wanted, 1))
        found, their_scores = answer(part)
        kept = ~_is_excluded(found, some)
        order = np.argsort(~kept, axis=1, kind="stable")[:, : call.num_found]
        left = np.take_along_axis(kept, order, axis=1)
        width = order.shape[1]
        ids[rows, :width] = np.where(left, np.take_along_axis(found, order, axis=1), PADDING_ID)
        their_best = np.take_along_axis(their_scores, order, axis=1)
        scores[rows, :width] = np.where(left, their_best, -np.inf)
    return ids, scores


def answer_of_filter(
    call: SearchCall, excluded: Any, allowed: IntArray, answer: Callable[..., Any]
) -> tuple[IntArray, FloatArray]:
    """Do so where a filter makes a search visit more lists until there are k: query by query.

    How many lists that are must not depend on what others exclude, so each query has a filter of
    its own, without what it excludes.

    Args:
        call, excluded: as `answer_without`.
        allowed: ids of the filter, int64.
        answer: does a call with a filter of ids.
    """
    rows = _checked(excluded, len(call.queries))
    ids = np.full((len(rows), call.num_found), PADDING_ID, dtype=np.int64)
    scores = np.full(ids.shape, -np.inf, dtype=np.float32)
    for row, out in enumerate(rows):
        own = dataclasses.replace(call, queries=call.queries[row : row + 1])
        ids[row], scores[row] = (one[0] for one in answer(own, np.setdiff1d(allowed, out)))
    return ids, scores


def _checked(excluded: Any, num_queries: int) -> list[IntArray]:
    """Return the ids that each query excludes."""
    if isinstance(excluded, (str, bytes)) or not isinstance(excluded, (Sequence, np.ndarray)):
        raise DtypeError(
            f"excluded: got {type(excluded).__name__}, wanted a sequence of ids for each query"
        )
    if len(excluded) != num_queries:
        raise ShapeError(f"excluded: got {len(excluded)} for {num_queries} queries")
    return [_ids_of(row, ids) for row, ids in enumerate(excluded)]


def _ids_of(row: int, ids: Any) -> IntArray:
    """Return the ids of one query, int64 [m]; -1 says "no item" here too."""
    if ids is None or (hasattr(ids, "__len__") and len(ids) == 0):
        return np.zeros(0, dtype=np.int64)  # an empty list is float64 to NumPy
    if isinstance(ids, Set):
        ids = list(ids)
    array = np.asarray(ids) if isinstance(ids, (list, tuple, np.ndarray)) else None
    if array is None or array.ndim != 1 or array.dtype.kind != "i":
        return check_ids(ids, name=f"excluded[{row}]")
    return array.astype(np.int64, copy=False)


def _of_like_length(lengths: IntArray, k: int) -> Iterator[IntArray]:
    """Yield rows whose lengths have as many binary digits: nobody pays for a much longer one.

    So many at a time that their answers of k and as many more take no more than some 200 MB.
    """
    digits = np.frexp(lengths.astype(np.float64))[1]
    for each in np.unique(digits):
        rows = np.flatnonzero(digits == each)
        at_once = max(1, _RESULTS // (k + int(lengths[rows].max())))
        for start in range(0, len(rows), at_once):
            yield rows[start : start + at_once]


def _is_excluded(found: IntArray, excluded: list[IntArray]) -> Any:
    """Return for ids [n, k] whether those of their own row have them, bool [n, k]."""
    known, numbers = np.unique(found, return_inverse=True)
    numbers = numbers.reshape(found.shape)
    rows = np.repeat(np.arange(len(excluded)), [len(one) for one in excluded])
    ids = np.concatenate(excluded)
    places = np.searchsorted(known, ids).clip(max=len(known) - 1)
    there = known[places] == ids
    own = np.arange(len(found))[:, None] * len(known) + numbers
    return np.isin(own, rows[there] * len(known) + places[there])
