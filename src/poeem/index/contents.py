"""What an index holds, in memory or in a file: arrays in storage order and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from poeem import _native
from poeem.index.calibration import Calibration
from poeem.index.codes import CHUNK, code_bits_for, unpack, unpack_items
from poeem.types import Array, Family, FloatArray, IntArray, Metric, QuantizerParts

# What the database of changes of an index is called beside its file (`poeem.live`).
CHANGES_SUFFIX = ".changes"

# Flags of a filter: 8 bytes an item and call at most.
MAX_FLAGS_PER_ITEM = 8


@dataclass(frozen=True)
class Titles:
    """Names of items in storage order, as one blob.

    offsets: int64 [num_items + 1], from 0 to the length of the blob.
    blob: uint8 [bytes], UTF-8.
    """

    offsets: IntArray
    blob: Array


@dataclass(frozen=True)
class LiveMark:
    """Which changes of a live index are in its snapshot (`poeem.live`).

    series: names the row of changes, 32 lower-case hexadecimal digits.
    generation: snapshots that were written from the first one on.
    folded: the number of the last change that the snapshot holds.
    """

    series: str
    generation: int
    folded: int


@dataclass(frozen=True, kw_only=True)
class IndexContents(QuantizerParts):
    """The parts of an index and its items, which are sorted by list, and by id within a list.

    rotation, centroids, codebooks, family, encoding: see `QuantizerParts`.
    list_offsets: int64 [num_lists + 1]; None = no lists.
    codes: uint8|uint16 [num_blocks, packed columns, BLOCK_ITEMS], see `poeem.index.codes`.
    ids: uint32|int64 [num_items]; None = the ids are 0..num_items-1 in storage order.
    norms: float32 [num_items]; l2: |T(x)|^2, cosine: |T(x)|; None where `metric_uses_norms` says
        so.
    calibration: recall by lists visited, as far as it was measured.
    lineage: what made the index, JSON values only.
    live: of a snapshot that changes were folded into; else None.
    fingerprint: SHA-256 of the header of the file it was read from, hexadecimal; else "".
    created: UTC, ISO 8601.
    """

    metric: Metric
    num_items: int
    codes: Array
    list_offsets: IntArray | None = None
    ids: Array | None = None
    norms: FloatArray | None = None
    titles: Titles | None = None
    calibration: Calibration | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)
    live: LiveMark | None = None
    fingerprint: str = ""
    created: str = ""
    library_version: str = ""

    @property
    def code_bits(self) -> int:
        """Bits of one stored code."""
        return code_bits_for(self.num_codewords)

    def unpacked_codes(self) -> Array:
        """Return the codes of all items, uint8|uint16 [num_items, num_subspaces], a copy."""
        return unpack(self.codes, self.num_items, self.num_subspaces, self.code_bits)

    def codes_at(self, positions: IntArray) -> Array:
        """Return the codes of the items at positions [n], uint8|uint16 [n, num_subspaces]."""
        return unpack_items(self.codes, positions, self.num_subspaces, self.code_bits)

    def ids_between(self, start: int, stop: int) -> IntArray:
        """Return the ids of positions start..stop-1, int64."""
        if self.ids is None:
            return np.arange(start, min(stop, self.num_items), dtype=np.int64)
        return self.ids[start:stop].astype(np.int64)

    def flags_of(self, ids: IntArray) -> Array:
        """Return whether an item's id is among int64 [n] ids, bool [num_items], in storage order.

        Where the ids lie close together, a flag for each number between the least and the most of
        them is looked up: one pass over the stored ids instead of a search for each.
        """
        flags = np.zeros(self.num_items, dtype=bool)
        if not len(ids):
            return flags
        low, span = int(ids.min()), int(ids.max()) - int(ids.min()) + 1
        if self.ids is None or span > MAX_FLAGS_PER_ITEM * self.num_items:
            positions = self.positions_of(ids)
            flags[positions[positions >= 0]] = True
            return flags
        if self.ids.dtype == np.uint32 and (low < 0 or low + span > 2**32):
            return self.flags_of(ids[(ids >= 0) & (ids < 2**32)])
        wanted = np.zeros(span + 1, dtype=bool)  # the last is for all ids that are not between
        wanted[ids - low] = True
        return _native.flags_of(self.ids, wanted, low=low)

    def positions_of(self, ids: IntArray) -> IntArray:
        """Return the storage position of each of int64 [n] ids, -1 where there is no such item.

        Passes over the stored ids in chunks: a map from id to position would cost more memory than
        the ids themselves.
        """
        if self.ids is None:
            return np.where((ids >= 0) & (ids < self.num_items), ids, -1)
        wanted, inverse = np.unique(ids, return_inverse=True)
        found = np.full(len(wanted), -1, dtype=np.int64)
        for start in range(0, self.num_items, CHUNK):
            stored = self.ids_between(start, start + CHUNK)
            slot = np.minimum(np.searchsorted(wanted, stored), len(wanted) - 1)
            hit = np.flatnonzero(wanted[slot] == stored)
            found[slot[hit]] = start + hit
        return np.asarray(found[inverse], dtype=np.int64)


def metric_uses_norms(metric: Metric, has_lists: bool, family: str = Family.PRODUCT) -> bool:
    """Return whether items carry norms.

    For l2 of product codes without lists they fold into the table, exactly.
    """
    if metric is Metric.L2:
        return has_lists or family == Family.RESIDUAL
    return metric is Metric.COSINE
