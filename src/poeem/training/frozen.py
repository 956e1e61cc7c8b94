"""Codes that stay: the last phase of training, and how they get into the index."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from poeem.quantize.layer import IndexLayer
from poeem.types import Array, FloatArray, IntArray, QuantizerParts


class ItemCodes(NamedTuple):
    """Codes of the whole catalogue.

    codes: int64 [num_items, num_subspaces]. lists: int64 [num_items], or None without lists.
    beam: residual codes: the width they were looked for with; None = the layer's.
    route_scale: lists by demand: centroids are the routes times this; None = lists of the layer's
        own, whose centroids are as long as vectors.
    """

    codes: Tensor
    lists: Tensor | None
    beam: int | None = None
    route_scale: float | None = None

    def of(self, items: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return codes and lists of item numbers int64 [n]."""
        return self.codes[items], None if self.lists is None else self.lists[items]


class FrozenQuantizer:
    """A layer that gives items of the catalogue the codes they were trained with.

    Once codewords have moved under codes that stayed, the nearest codewords of an item need no
    longer be its own. Vectors that are not in the catalogue get their nearest codewords. Items of
    equal vectors may stand in different lists: the first of them that is asked for gets the list
    of the first, and so on.

    Args:
        layer: past its warm start.
        vectors: float32 [num_items, dim], the catalogue as the item tower gives it.
        frozen: codes of each.
    """

    def __init__(self, layer: IndexLayer, vectors: FloatArray, frozen: ItemCodes) -> None:
        self._layer = layer
        self._beam = frozen.beam
        keys = _keys(vectors)
        self._rows = np.argsort(keys, kind="stable")
        self._keys = keys[self._rows]
        self._asked = np.zeros(len(keys), dtype=np.int64)  # how often, where a key first stands
        self._codes = frozen.codes.cpu().numpy()
        self._lists = None if frozen.lists is None else frozen.lists.cpu().numpy()

    def export_parts(self) -> QuantizerParts:
        """Return the layer's parts, and how codes were found."""
        parts = self._layer.export_parts()
        if self._beam is None:
            return parts
        return dataclasses.replace(
            parts, encoding=dataclasses.replace(parts.encoding, beam=self._beam)
        )

    def encode_numpy(self, vectors: FloatArray) -> tuple[Array, Array | None]:
        """Encode float32 [n, dim]: codes uint8|uint16 [n, num_subspaces], lists int32 [n]."""
        codes, lists = self._layer.encode_numpy(vectors, beam=self._beam)
        keys = _keys(vectors)
        place = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        known = np.flatnonzero(self._keys[place] == keys)
        rows = self._rows[self._in_turn(place[known])]
        codes[known] = self._codes[rows]
        if lists is not None and self._lists is not None:
            lists[known] = self._lists[rows]
        return codes, lists

    def _in_turn(self, first: IntArray) -> IntArray:
        """Return places among the keys, int64 [n]: of equal ones, from `first` on, in turn."""
        count = np.searchsorted(self._keys, self._keys[first], side="right") - first
        order = np.argsort(first, kind="stable")
        groups, start, times = np.unique(first[order], return_index=True, return_counts=True)
        turn = np.empty_like(first)
        turn[order] = np.arange(len(first)) - np.repeat(start, times)
        places: IntArray = first + (self._asked[first] + turn) % count
        self._asked[groups] += times
        return places


def _keys(vectors: FloatArray) -> IntArray:
    """Return a 64-bit number for each row, equal for rows with equal bits."""
    words = np.ascontiguousarray(vectors, dtype=np.float32).view(np.uint32).astype(np.uint64)
    odd = np.random.default_rng(0).integers(1 << 63, size=words.shape[1], dtype=np.uint64) * 2 + 1
    mixed: IntArray = ((words ^ (words << np.uint64(32))) * odd).sum(1, dtype=np.uint64)
    return mixed


@torch.no_grad()
def encode_items(
    layer: IndexLayer, vectors: Tensor, *, beam: int | None = None, batch_size: int = 65_536
) -> ItemCodes:
    """Return the codes that the layer finds for float [num_items, dim]."""
    parts = [layer.encode(part, beam=beam) for part in vectors.split(batch_size)]
    lists = [part for _, part in parts if part is not None]
    codes = torch.cat([codes for codes, _ in parts])
    return ItemCodes(codes, torch.cat(lists) if lists else None, beam)
