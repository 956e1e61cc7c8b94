"""Items as rows: what changes bring, and what segments are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from poeem import _native
from poeem.errors import NonFiniteError
from poeem.index.codes import lists_from_offsets, pack, packed_dtype
from poeem.index.contents import IndexContents, Titles
from poeem.types import Array, FloatArray, IntArray, Metric

_TITLE_ROWS = 1 << 16  # rows whose titles are gathered at a time: an index per byte takes memory


@dataclass(frozen=True)
class Rows:
    """Items, all different.

    ids: int64 [n]. codes: uint8|uint16 [n, num_subspaces]. lists: int32 [n], None without lists.
    norms: float32 [n], None where the metric needs none. titles: None without titles.
    """

    ids: IntArray
    codes: Array
    lists: Array | None
    norms: FloatArray | None
    titles: Titles | None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_bytes(self) -> int:
        """Bytes of ids, codes, lists and titles."""
        lists = 0 if self.lists is None else self.lists.nbytes
        titles = 0 if self.titles is None else self.titles.offsets.nbytes + self.titles.blob.nbytes
        return self.ids.nbytes + self.codes.nbytes + lists + titles

    def take(self, positions: IntArray) -> Rows:
        """Return the rows at these positions."""
        return Rows(
            self.ids[positions],
            self.codes[positions],
            None if self.lists is None else self.lists[positions],
            None if self.norms is None else self.norms[positions],
            None if self.titles is None else take_titles(self.titles, positions),
        )

    def in_storage_order(self) -> Rows:
        """Return the rows by list, then by id."""
        order = np.argsort(self.ids, kind="stable")
        if self.lists is not None:
            # 16-bit keys get NumPy's radix sort, which is several times faster.
            keys = self.lists[order]
            narrow = keys.size == 0 or int(keys.max()) < 1 << 16
            order = order[np.argsort(keys.astype(np.uint16) if narrow else keys, kind="stable")]
        return self.take(order)


def concatenate(several: Sequence[Rows]) -> Rows:
    """Return the rows of all, one after the other; they have the same optional parts."""
    first = several[0]
    if len(several) == 1:
        return first
    return Rows(
        np.concatenate([rows.ids for rows in several]),
        np.concatenate([rows.codes for rows in several]),
        _joined([rows.lists for rows in several]),
        _joined([rows.norms for rows in several]),
        join_titles([rows.titles for rows in several if rows.titles is not None]),
    )


def no_rows(like: IndexContents) -> Rows:
    """Return rows of no item for an index like this."""
    return Rows(
        np.zeros(0, dtype=np.int64),
        np.zeros((0, like.num_subspaces), dtype=packed_dtype(like.code_bits)),
        None if like.centroids is None else np.zeros(0, dtype=np.int32),
        None,
        None if like.titles is None else no_titles(0),
    )


def no_titles(count: int) -> Titles:
    """Return so many empty titles."""
    return Titles(np.zeros(count + 1, dtype=np.int64), np.zeros(0, dtype=np.uint8))


def rows_of(contents: IndexContents, alive: Array | None) -> Rows:
    """Return the items of an index that are alive (bool [num_items], None = all) as rows."""
    lists = None
    if contents.list_offsets is not None:
        lists = lists_from_offsets(contents.list_offsets)
    ids = contents.ids_between(0, contents.num_items)
    rows = Rows(ids, contents.unpacked_codes(), lists, contents.norms, contents.titles)
    return rows if alive is None else rows.take(np.flatnonzero(alive))


def contents_of(rows: Rows, like: IndexContents) -> IndexContents:
    """Return rows in storage order as an index of the same quantizer."""
    offsets = None
    if rows.lists is not None:
        offsets = np.searchsorted(rows.lists, np.arange(like.num_lists + 1))
    return dataclasses.replace(
        like,
        num_items=len(rows),
        codes=pack(rows.codes, like.code_bits),
        list_offsets=offsets,
        ids=rows.ids,
        norms=rows.norms,
        titles=rows.titles,
        fingerprint="",
    )


def with_norms(rows: Rows, like: IndexContents, quantizer: _native.Arrays) -> Rows:
    """Return rows in storage order with the norms that the metric wants.

    Raises:
        NonFiniteError: a norm overflows float32.
    """
    if not len(rows) or like.norms is None:
        return rows
    arrays = items_of(contents_of(rows, like), quantizer, with_norms=False)
    norms: FloatArray = _native.item_norms(arrays, squared=like.metric is Metric.L2)
    if not np.isfinite(norms).all():
        raise NonFiniteError("vectors: so large that norms of items overflow float32")
    return dataclasses.replace(rows, norms=norms)


def items_of(
    contents: IndexContents, quantizer: _native.Arrays, *, with_norms: bool = True
) -> _native.Arrays:
    """Return the engine's face of an index of the same quantizer, whose arrays are shared."""
    return _native.Arrays(
        quantizer,
        num_items=contents.num_items,
        codes=contents.codes,
        list_offsets=contents.list_offsets,
        ids=contents.ids,
        norms=contents.norms if with_norms else None,
    )


def take_titles(titles: Titles, positions: IntArray) -> Titles:
    """Return the titles at these positions."""
    starts = titles.offsets[positions]
    offsets = np.zeros(len(positions) + 1, dtype=np.int64)
    np.cumsum(titles.offsets[positions + 1] - starts, out=offsets[1:])
    blob = np.empty(int(offsets[-1]), dtype=np.uint8)
    for first in range(0, len(positions), _TITLE_ROWS):
        chunk = offsets[first : first + _TITLE_ROWS + 1]
        begin, end = int(chunk[0]), int(chunk[-1])
        shift = np.repeat(starts[first : first + _TITLE_ROWS] - chunk[:-1], np.diff(chunk))
        blob[begin:end] = titles.blob[shift + np.arange(begin, end)]
    return Titles(offsets, blob)


def join_titles(several: Sequence[Titles]) -> Titles | None:
    """Return the titles of all, one after the other; None if there are none."""
    if not several:
        return None
    lengths = np.concatenate([np.diff(titles.offsets) for titles in several])
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return Titles(offsets, np.concatenate([titles.blob for titles in several]))


def _joined(arrays: Sequence[Array | None]) -> Array | None:
    present = [array for array in arrays if array is not None]
    return np.concatenate(present) if present else None
