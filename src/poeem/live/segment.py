"""Items that are searched together: the snapshot, or some that came later; some may be dead."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poeem import _native
from poeem.index.contents import IndexContents
from poeem.live.rows import Rows, items_of, join_titles, rows_of, take_titles
from poeem.types import Array, IntArray


class Lookup:
    """Where ids stand in an index: like `IndexContents.positions_of`, but fast for few ids.

    Takes sorted ids and their order, 8 to 16 bytes an item, where they do not rise from first to
    last.
    """

    def __init__(self, contents: IndexContents) -> None:
        """Nothing is sorted before it is needed."""
        self._contents = contents

    @functools.cached_property
    def native(self) -> _native.Lookup:
        """What the engine looks up in."""
        ids, num_items = self._contents.ids, self._contents.num_items
        if ids is None or self._contents.list_offsets is None:
            return _native.Lookup(num_items, sorted=ids)
        order = np.argsort(ids, kind="stable")
        narrow = order.astype(np.int32) if num_items < 1 << 31 else order
        return _native.Lookup(num_items, sorted=ids[order], order=narrow)

    @classmethod
    def known(cls, contents: IndexContents, ids: Array, order: Array) -> Lookup:
        """Return one of ids that are sorted already, and their order."""
        lookup = cls(contents)
        lookup.native = _native.Lookup(contents.num_items, sorted=ids, order=order)
        return lookup


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
    def joined(
        cls, several: Sequence[Segment], rows: Rows, like: IndexContents, quantizer: _native.Arrays
    ) -> Segment:
        """Make a segment of what is alive in several and at least one row more, in any order.

        Args:
            several: segments of one quantizer.
            rows: with norms; their ids are not alive in any of the segments.
            like: the snapshot's contents. quantizer: its arrays.
        """
        parts: dict[str, Any] = _native.join(
            quantizer,
            [(segment.arrays, segment.alive) for segment in several],
            ids=rows.ids,
            codes=np.ascontiguousarray(rows.codes),
            lists=rows.lists,
            norms=rows.norms,
        )
        _native.let_searches_in()
        titles = None
        if rows.titles is not None:
            theirs = [segment.contents.titles for segment in several]
            all_titles = join_titles([one for one in theirs if one is not None] + [rows.titles])
            titles = None if all_titles is None else take_titles(all_titles, parts["places"])
        contents = dataclasses.replace(
            like,
            num_items=len(parts["ids"]),
            codes=parts["codes"],
            list_offsets=parts.get("list_offsets"),
            ids=parts["ids"],
            norms=parts.get("norms"),
            titles=titles,
            fingerprint="",
        )
        _native.let_searches_in()
        lookup = Lookup(contents)
        if "order" in parts:
            lookup = Lookup.known(contents, parts["sorted"], parts["order"])
        _native.let_searches_in()
        return cls(contents, items_of(contents, quantizer), lookup, None, contents.num_items)

    @classmethod
    def of_index(cls, contents: IndexContents, arrays: _native.Arrays) -> Segment:
        """Make a segment of a whole index."""
        return cls(contents, arrays, Lookup(contents), None, contents.num_items)

    def find(self, ids: IntArray) -> IntArray:
        """Return the positions of ids, int64 [n], -1 where none is alive."""
        found: IntArray = self.lookup.native.find(np.ascontiguousarray(ids), alive=self.alive)
        return found

    def with_alive(self, alive: Array, num_fewer: int) -> Segment:
        """Return the same with other bits, so many of them cleared."""
        count = self.num_alive - num_fewer
        return Segment(self.contents, self.arrays, self.lookup, alive, count)

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
