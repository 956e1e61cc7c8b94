"""Codes as strings of bits, the lowest bit of the first code first: how Faiss stores them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poeem.types import Array

_ROWS = 1 << 16  # made bits of at a time: a bit takes a byte meanwhile


def pack_bits(codes: Array, widths: Sequence[int]) -> Array:
    """Return codes [n, m] as uint8 [n, ceil(sum(widths) / 8)], code j in widths[j] bits."""
    packed = np.zeros((len(codes), -(-sum(widths) // 8)), dtype=np.uint8)
    for start in range(0, len(codes), _ROWS):
        rows = codes[start : start + _ROWS].astype(np.uint32)
        bits = np.concatenate(
            [
                rows[:, j, None] >> np.arange(width, dtype=np.uint32)
                for j, width in enumerate(widths)
            ],
            axis=1,
        )
        packed[start : start + _ROWS] = np.packbits(
            (bits & 1).astype(np.uint8), axis=1, bitorder="little"
        )
    return packed


def unpack_bits(packed: Array, widths: Sequence[int]) -> Array:
    """Return codes uint8|uint16 [n, m] from what `pack_bits` made; trailing bits are ignored."""
    dtype = np.uint8 if max(widths) <= 8 else np.uint16
    if all(width == 8 for width in widths):
        return np.ascontiguousarray(packed[:, : len(widths)])
    codes = np.zeros((len(packed), len(widths)), dtype=dtype)
    for start in range(0, len(packed), _ROWS):
        bits = np.unpackbits(packed[start : start + _ROWS], axis=1, bitorder="little")
        first = 0
        for j, width in enumerate(widths):
            places = bits[:, first : first + width].astype(np.uint32)
            codes[start : start + _ROWS, j] = places @ (1 << np.arange(width, dtype=np.uint32))
            first += width
    return codes
