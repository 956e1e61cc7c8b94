"""Items that are searched together: the snapshot, or some that came later; some may be dead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poeem import _native
from poeem.index.contents import IndexContents
from poeem.index.engine import pack_bits
from poeem.live.rows import Rows, contents_of, items_of, rows_of
from poeem.types import Array, IntArray


class Lookup:
    """Where ids stand in an index: like `IndexContents.positions_of`, but fast for few ids.

    Takes sorted ids and their order, 8 to 16 bytes an item, where they do not rise from first to
    last.
    """

    def __init__(self, contents: IndexContents) -> None:
        """Nothing is sorted before it is needed."""
        self._ids = contents.ids
        self._num_items = contents.num_items
        self._has_lists = contents.list_offsets is not None
        self._sorted = contents.ids
        self._order: Array | None = None

    def positions(self, ids: IntArray) -> IntArray:
        """Return the storage position of each of int64 [n] ids, -1 where there is no such item."""
        if self._ids is None or self._sorted is None:
            return np.where((ids >= 0) & (ids < self._num_items), ids, -1)
        if self._has_lists and self._order is None:
            order = np.argsort(self._ids, kind="stable")
            self._sorted = self._ids[order]
            self._order = order.astype(np.int32) if self._num_items < 1 << 31 else order
        wanted = ids
        if self._ids.dtype != np.int64:  # another type would have all of them converted
            info = np.iinfo(self._ids.dtype)
            wanted = np.clip(ids, info.min, info.max).astype(self._ids.dtype)
        place = np.minimum(np.searchsorted(self._sorted, wanted), self._num_items - 1)
        found = self._sorted[place] == ids
        return np.where(found, place if self._order is None else self._order[place], -1)


@dataclass(frozen=True)
class Segment:
    """An index of items and which of them are alive; never changes.

    alive: a bit per item, uint64 [ceil(num_items / 64)]; None = all are.
    """

    contents: IndexContents
    arrays: _native.Arrays
    lookup: Lookup
    alive: Array | None
    num_alive: int

    @classmethod
    def of_rows(cls, rows: Rows, like: IndexContents, quantizer: _native.Arrays) -> Segment:
        """Make a segment of at least one row, in storage order with norms."""
        contents = contents_of(rows, like)
        arrays = items_of(contents, quantizer)
        return cls(contents, arrays, Lookup(contents), None, contents.num_items)

    @classmethod
    def of_index(cls, contents: IndexContents, arrays: _native.Arrays) -> Segment:
        """Make a segment of a whole index."""
        return cls(contents, arrays, Lookup(contents), None, contents.num_items)

    def find(self, ids: IntArray) -> IntArray:
        """Return the positions of ids, int64 [n], -1 where none is alive."""
        positions = self.lookup.positions(ids)
        if self.alive is None:
            return positions
        bits = self.alive[positions >> 6] >> (positions & 63).astype(np.uint64)  # of -1: any
        return np.where((bits & np.uint64(1)).astype(bool) & (positions >= 0), positions, -1)

    def without(self, positions: IntArray) -> Segment:
        """Return the same with the items at these positions dead; all of them are alive now."""
        if not len(positions):
            return self
        if self.alive is None:
            alive = pack_bits(np.ones(self.contents.num_items, dtype=bool))
        else:
            alive = self.alive.copy()
        bits = np.uint64(1) << (positions & 63).astype(np.uint64)
        np.bitwise_and.at(alive, positions >> 6, ~bits)
        num_alive = self.num_alive - len(positions)
        return Segment(self.contents, self.arrays, self.lookup, alive, num_alive)

    def flags(self) -> Array | None:
        """Return whether items are alive, bool [num_items]; None = all are."""
        if self.alive is None:
            return None
        bits = np.unpackbits(self.alive.view(np.uint8), bitorder="little")
        return bits[: self.contents.num_items].view(np.bool_)

    def rows(self) -> Rows:
        """Return the items that are alive, in storage order."""
        return rows_of(self.contents, self.flags())

    def ids(self) -> IntArray:
        """Return the ids that are alive, int64, in storage order."""
        flags = self.flags()
        ids = self.contents.ids_between(0, self.contents.num_items)
        return ids if flags is None else ids[flags]
