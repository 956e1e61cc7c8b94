"""How codes are stored: two to a byte, a byte each, or two bytes each."""

from __future__ import annotations

import numpy as np

from poeem.types import Array, FloatArray, IntArray

MAX_CODEWORDS = 65_536
CHUNK = 1 << 20  # rows looked at together where a whole temporary would cost memory


def code_bits_for(num_codewords: int) -> int:
    """Return the bits of one code: 4 up to 16 codewords, 8 up to 256, else 16."""
    if num_codewords <= 16:
        return 4
    return 8 if num_codewords <= 256 else 16


def packed_columns(num_subspaces: int, code_bits: int) -> int:
    """Return the columns of the packed array: a byte per pair of codes at 4 bits, else one each."""
    return (num_subspaces + 1) // 2 if code_bits == 4 else num_subspaces


def packed_dtype(code_bits: int) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    """Return the element type of the packed array."""
    return np.dtype(np.uint16) if code_bits == 16 else np.dtype(np.uint8)


def pack(codes: Array, code_bits: int) -> Array:
    """Pack codes [n, num_subspaces] into a new [n, packed_columns]; low nibble first."""
    if code_bits != 4:
        return np.array(codes, dtype=packed_dtype(code_bits), order="C")
    low = codes[:, 0::2].astype(np.uint8)
    high = codes[:, 1::2].astype(np.uint8)
    low[:, : high.shape[1]] |= high << 4
    return np.ascontiguousarray(low)


def unpack(packed: Array, num_subspaces: int, code_bits: int) -> Array:
    """Return codes uint8|uint16 [n, num_subspaces]; a view where nothing was packed."""
    if code_bits != 4:
        return packed
    both = np.stack([packed & 15, packed >> 4], axis=-1)  # [n, packed_columns, 2]
    return both.reshape(len(packed), -1)[:, :num_subspaces]


def in_range(packed: Array, num_subspaces: int, num_codewords: int, code_bits: int) -> bool:
    """Return whether all codes are < num_codewords, and unused nibbles 0, without a large copy."""
    if code_bits == 4:
        for start in range(0, len(packed), CHUNK):
            chunk = packed[start : start + CHUNK]
            if int((chunk & 15).max()) >= num_codewords or int((chunk >> 4).max()) >= num_codewords:
                return False
            if num_subspaces % 2 == 1 and int(chunk[:, -1].max()) > 15:
                return False
        return True
    return num_codewords == 1 << code_bits or int(packed.max()) < num_codewords


def decode(codes: Array, codebooks: FloatArray) -> FloatArray:
    """Return the concatenated codewords, float32 [n, dim], of codes [n, num_subspaces]."""
    subspaces = np.arange(codebooks.shape[0])
    return codebooks[subspaces, codes].reshape(len(codes), -1)  # from [n, num_subspaces, sub_dim]


def lists_from_offsets(offsets: IntArray) -> Array:
    """Return the list of every item in storage order, int32 [num_items]."""
    numbers = np.arange(len(offsets) - 1, dtype=np.int32)
    return np.repeat(numbers, np.diff(offsets))
