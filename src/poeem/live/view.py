"""A live index as it was at one moment: never changes, and is searched like an `Index`."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from poeem import _native
from poeem.checks import as_array
from poeem.config import SearchConfig
from poeem.errors import ConfigError, IdError, ShapeError
from poeem.index.arguments import PADDING_ID, as_filter, check_ids
from poeem.index.builder import narrow_ids
from poeem.index.calibration import Calibration
from poeem.index.contents import IndexContents
from poeem.index.engine import pack_bits
from poeem.index.excluded import answer_of_filter, answer_without
from poeem.index.index import Index
from poeem.index.search_call import SearchCall, check_search, padded
from poeem.live.rows import Rows, concatenate, contents_of
from poeem.live.segment import Segment
from poeem.types import Array, FloatArray, IntArray, Metric, SearchResult

# The last segment takes in every change until it has so many rows.
_TAIL_ROWS = 512
# A segment that grew so far takes in its predecessor if that is at most so many times its size.
_MERGE_FACTOR = 128


class SearchOptions(TypedDict, total=False):
    """What may be said by name of a search, besides queries and k: see `LiveView.search`."""

    num_probes: int | None
    target_recall: float | None
    num_threads: int
    allowed: Any
    excluded: Any


@dataclass(frozen=True)
class _Place:
    """Some of the ids asked for, in one segment. rows: their places among those asked for."""

    segment: Segment
    positions: IntArray
    rows: IntArray


class LiveView:
    """A live index as it was when `LiveIndex.view` was called. Any number of threads may use it.

    segments: the snapshot and what came after it, the larger and older ones first.
    number: the last change in it.
    """

    def __init__(self, segments: Sequence[Segment], number: int) -> None:
        """Wrap segments of one quantizer, the snapshot first; no id is alive in two of them."""
        self.segments = tuple(segments)
        self.number = number
        self.num_items = sum(segment.num_alive for segment in segments)
        self._native = _native.Segments()
        for segment in segments:
            self._native.add(segment.arrays, wanted=segment.alive, num_wanted=segment.num_alive)

    @classmethod
    def of_index(cls, index: Index, number: int) -> LiveView:
        """Return a view of a snapshot alone."""
        return cls([Segment.of_index(index._contents, index._arrays)], number)

    def numbered(self, number: int) -> LiveView:
        """Return the same as of this change."""
        return self if number == self.number else LiveView(self.segments, number)

    @property
    def snapshot(self) -> Segment:
        """The first segment, which holds the quantizer."""
        return self.segments[0]

    @property
    def contents(self) -> IndexContents:
        """The snapshot's: for the quantizer and what is said of the index."""
        return self.segments[0].contents

    def changed(self, put: Rows, removed: IntArray, number: int) -> LiveView:
        """Return the view after a change.

        Args:
            put: items to add or replace, in any order, with norms.
            removed: int64 [n], other ids than those put; unknown ones count for nothing.
            number: of the change.
        """
        dead: list[Any] = _native.without(
            [(segment.lookup.native, segment.alive) for segment in self.segments],
            [put.ids, removed],
        )
        segments = [
            segment if cleared is None else segment.with_alive(*cleared)
            for segment, cleared in zip(self.segments, dead, strict=True)
        ]
        _native.let_searches_in()
        kept = [one for one in segments[1:] if one.num_alive]
        return LiveView([segments[0], *self._with_rows(kept, put)], number)

    def _with_rows(self, later: list[Segment], rows: Rows) -> list[Segment]:
        """Return the segments after the snapshot with more rows among them, merged."""
        if not len(rows):
            return later
        taken_in: list[Segment] = []
        count = len(rows)
        if later and later[-1].contents.num_items < _TAIL_ROWS:
            count += later[-1].num_alive
            taken_in.append(later.pop())
        if count >= _TAIL_ROWS:
            while later and later[-1].num_alive <= _MERGE_FACTOR * count:
                count += later[-1].num_alive
                taken_in.append(later.pop())
        joined = Segment.joined(taken_in, rows, self.contents, self.snapshot.arrays)
        _native.let_searches_in()
        return [*later, joined]

    def search(
        self,
        queries: Any,
        k: int = SearchConfig().k,
        *,
        num_probes: int | None = SearchConfig().num_probes,
        target_recall: float | None = None,
        num_threads: int = SearchConfig().num_threads,
        allowed: Any = None,
        excluded: Any = None,
    ) -> SearchResult:
        """Return what a fresh index of the same items would, to the last bit: see `Index.search`.

        Args:
            queries, k, num_probes, target_recall, num_threads: as in `Index.search`.
            allowed: the only items to return: integers, ids (unknown ones count for nothing), or
                bool [num_items], one for each of `ids` of this view; None = all.
            excluded: as in `Index.search`.

        Raises:
            ShapeError, DtypeError, NonFiniteError, ConfigError, IdError: as in `Index.search`.
        """
        if allowed is None and target_recall is None and excluded is None:
            found = _native.search_segments_plain(self._native, queries, k, num_probes, num_threads)
            if found is not None:
                return SearchResult(*found)
        call = check_search(
            queries,
            k,
            num_probes,
            target_recall,
            num_threads,
            dim=self.dim,
            num_items=self.num_items,
            num_lists=self.num_lists,
            calibration=self.calibration,
        )
        wanted = None if allowed is None else self._ids_of_filter(allowed)

        def answer_within(call: SearchCall, ids: IntArray) -> tuple[IntArray, FloatArray]:
            return self._answer(self._filtered(ids), call, widens=True)

        if excluded is not None and wanted is not None and call.num_probes and self.num_lists:
            return padded(*answer_of_filter(call, excluded, wanted, answer_within), call.k)
        segments = self._native if wanted is None else self._filtered(wanted)
        answer = functools.partial(self._answer, segments, widens=wanted is not None)
        if excluded is None:
            return padded(*answer(call), call.k)
        return padded(*answer_without(call, excluded, answer, self.num_items), call.k)

    @staticmethod
    def _answer(
        segments: _native.Segments, call: SearchCall, *, widens: bool
    ) -> tuple[IntArray, FloatArray]:
        ids, scores = _native.search_segments(segments, **call.native_arguments(), widens=widens)
        return ids, scores

    def _ids_of_filter(self, allowed: Any) -> IntArray:
        """Return what is allowed as ids, each once, ascending."""
        array = as_filter(allowed)
        if array.dtype == np.bool_:
            if array.shape != (self.num_items,):
                raise ShapeError(
                    f"allowed: got shape {array.shape}, wanted one per item, ({self.num_items},)"
                )
            array = self.ids[array]
        if not array.size:
            return np.zeros(0, dtype=np.int64)
        return np.unique(check_ids(array, name="allowed"))

    def _filtered(self, ids: IntArray) -> _native.Segments:
        """Return the segments with only those items wanted that have these ids."""
        filtered = _native.Segments()
        for segment in self.segments:
            wanted = np.zeros(segment.contents.num_items, dtype=bool)
            positions = segment.find(ids)
            wanted[positions[positions >= 0]] = True
            filtered.add(segment.arrays, wanted=pack_bits(wanted))
        return filtered

    def find(self, ids: IntArray) -> Array:
        """Return whether ids, int64 [n], are in the index: bool [n]."""
        found = np.zeros(len(ids), dtype=bool)
        for segment in self.segments:
            found |= segment.find(ids) >= 0
        return found

    def rows(self) -> Rows:
        """Return all items, in storage order."""
        parts = [segment.rows() for segment in self.segments if segment.num_alive]
        if not parts:
            return self.snapshot.rows()
        return parts[0] if len(parts) == 1 else concatenate(parts).in_storage_order()

    def to_index(self) -> Index:
        """Return an index of the items of this moment, which never changes; arrays are copied.

        Raises:
            ConfigError: no item is left, and an index has at least one.
        """
        if not self.num_items:
            raise ConfigError("index: no item is left, wanted at least one")
        rows = self.rows()
        contents = contents_of(rows, self.contents)
        return Index(dataclasses.replace(contents, ids=narrow_ids(rows.ids), live=None))

    def reconstruct(self, ids: Any) -> FloatArray:
        """Return T(x) of items, float32 [n, dim]: see `Index.reconstruct`.

        Raises:
            IdError: there is no item of such an id.
        """
        array = self._checked_ids(ids)
        vectors = np.zeros((len(array), self.dim), dtype=np.float32)
        for place in self._places(array):
            vectors[place.rows] = Index(place.segment.contents).reconstruct(array[place.rows])
        return vectors

    def titles(self, ids: Any) -> list[Any]:
        """Return the names of items, [n] or [n, k]; "" for id -1: see `Index.titles`.

        Raises:
            ConfigError: the index was built without titles.
            IdError: there is no item of such an id.
            ShapeError: ids of other dimensions.
        """
        if not self.has_titles:
            raise ConfigError("titles: the index was built without them")
        array = as_array("ids", ids)
        if array.ndim not in (1, 2):
            raise ShapeError(f"ids: got shape {array.shape}, wanted [n] or [n, k]")
        if array.ndim == 2:
            flat = iter(self.titles(array.reshape(-1)))
            return [list(itertools.islice(flat, array.shape[1])) for _ in range(len(array))]
        names = np.full(len(array), "", dtype=object)
        known = np.flatnonzero(array != PADDING_ID)
        wanted = self._checked_ids(array[known])
        for place in self._places(wanted):
            index = Index(place.segment.contents)
            names[known[place.rows]] = index.titles(wanted[place.rows])
        return list(names)

    def _checked_ids(self, ids: Any) -> IntArray:
        array = as_array("ids", ids)
        return check_ids(ids) if array.size else np.zeros(0, dtype=np.int64)

    def _places(self, ids: IntArray) -> Iterator[_Place]:
        """Yield where ids are, segment by segment.

        Raises:
            IdError: some are nowhere.
        """
        missing = np.flatnonzero(~self.find(ids))
        if len(missing):
            named = ", ".join(str(ids[row]) for row in missing[:10])
            raise IdError(f"ids: {len(missing)} not in the index; the first are {named}")
        for segment in self.segments:
            positions = segment.find(ids)
            rows = np.flatnonzero(positions >= 0)
            if len(rows):
                yield _Place(segment, positions[rows], rows)

    @property
    def ids(self) -> IntArray:
        """Ids, int64 [num_items], segment by segment; a copy."""
        return np.concatenate([segment.ids() for segment in self.segments])

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.contents.dim

    @property
    def num_lists(self) -> int:
        """Inverted lists; 0 = none."""
        return self.contents.num_lists

    @property
    def metric(self) -> Metric:
        """How queries and items are compared."""
        return self.contents.metric

    @property
    def calibration(self) -> Calibration | None:
        """Recall by lists visited, as it was measured on the items of then; None if it was not."""
        return self.contents.calibration

    @property
    def has_titles(self) -> bool:
        """Whether `titles` can answer."""
        return self.contents.titles is not None

    @property
    def lineage(self) -> dict[str, Any]:
        """What made the snapshot, as given to the builder."""
        return dict(self.contents.lineage)

    def __len__(self) -> int:
        return self.num_items
