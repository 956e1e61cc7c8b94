"""How codes are stored: two to a byte, a byte each, or two bytes each, in transposed blocks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from poeem._native import BLOCK_ITEMS
from poeem.types import Array, Family, FloatArray, IntArray

MAX_CODEWORDS = 65_536
CHUNK = 1 << 20  # rows looked at together where a whole temporary would cost memory
CODES_ALIGNMENT = 64  # a vector register, a cache line: a load that crosses lines costs two


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


def packed_shape(num_items: int, num_subspaces: int, code_bits: int) -> tuple[int, int, int]:
    """Return [num_blocks, packed_columns, BLOCK_ITEMS]."""
    num_blocks = -(-num_items // BLOCK_ITEMS)
    return num_blocks, packed_columns(num_subspaces, code_bits), BLOCK_ITEMS


def pack(codes: Array, code_bits: int) -> Array:
    """Pack codes [n, num_subspaces] into a new [num_blocks, packed_columns, BLOCK_ITEMS].

    Item i is packed[i // BLOCK_ITEMS, :, i % BLOCK_ITEMS]; two 4-bit codes share a byte, the first
    in the low nibble; what no item fills is 0.
    """
    num_items, num_subspaces = codes.shape
    shape = packed_shape(num_items, num_subspaces, code_bits)
    packed = aligned_zeros(shape, packed_dtype(code_bits))
    for start in range(0, num_items, CHUNK):
        rows = _pack_rows(codes[start : start + CHUNK], code_bits)
        whole = len(rows) // BLOCK_ITEMS * BLOCK_ITEMS
        block = start // BLOCK_ITEMS
        blocks = rows[:whole].reshape(-1, BLOCK_ITEMS, shape[1])  # [blocks, BLOCK_ITEMS, columns]
        packed[block : block + len(blocks)] = blocks.transpose(0, 2, 1)
        if whole < len(rows):
            packed[block + len(blocks), :, : len(rows) - whole] = rows[whole:].T
    return packed


def _pack_rows(codes: Array, code_bits: int) -> Array:
    """Return codes as [n, packed_columns] in their stored type."""
    if code_bits != 4:
        return codes.astype(packed_dtype(code_bits))
    low = codes[:, 0::2].astype(np.uint8)
    high = codes[:, 1::2].astype(np.uint8)
    low[:, : high.shape[1]] |= high << 4
    return low


def aligned_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros that start at a multiple of CODES_ALIGNMENT."""
    num_bytes = math.prod(shape) * dtype.itemsize
    room = np.zeros(num_bytes + CODES_ALIGNMENT, dtype=np.uint8)
    start = -room.ctypes.data % CODES_ALIGNMENT
    return room[start : start + num_bytes].view(dtype).reshape(shape)


def unpack(packed: Array, num_items: int, num_subspaces: int, code_bits: int) -> Array:
    """Return codes uint8|uint16 [num_items, num_subspaces], a copy."""
    rows = packed.transpose(0, 2, 1).reshape(-1, packed.shape[1])[:num_items]
    return _unpack_rows(rows, num_subspaces, code_bits)


def unpack_items(packed: Array, positions: IntArray, num_subspaces: int, code_bits: int) -> Array:
    """Return the codes of the items at positions [n]: uint8|uint16 [n, num_subspaces], a copy."""
    rows = packed[positions // BLOCK_ITEMS, :, positions % BLOCK_ITEMS]
    return _unpack_rows(rows, num_subspaces, code_bits)


def _unpack_rows(rows: Array, num_subspaces: int, code_bits: int) -> Array:
    if code_bits != 4:
        return rows
    both = np.stack([rows & 15, rows >> 4], axis=-1)  # [n, packed_columns, 2]
    return both.reshape(len(rows), -1)[:, :num_subspaces]


def in_range(
    packed: Array, num_items: int, num_subspaces: int, num_codewords: int, code_bits: int
) -> bool:
    """Return whether codes are < num_codewords and unused places 0, in little memory."""
    spare = num_items % BLOCK_ITEMS
    if spare and packed[-1, :, spare:].any():
        return False
    if code_bits != 4:
        return num_codewords == 1 << code_bits or int(packed.max()) < num_codewords
    if num_subspaces % 2 == 1 and int(packed[:, -1].max()) > 15:
        return False
    if num_codewords == 16:
        return True
    for start in range(0, len(packed), CHUNK // BLOCK_ITEMS):
        chunk = packed[start : start + CHUNK // BLOCK_ITEMS]
        if int((chunk & 15).max()) >= num_codewords or int((chunk >> 4).max()) >= num_codewords:
            return False
    return True


def decode(codes: Array, codebooks: FloatArray, family: str = Family.PRODUCT) -> FloatArray:
    """Return what the codewords stand for, float32 [n, dim], of codes [n, num_subspaces].

    product: they are concatenated.  residual: they are added up, the first ones first.
    """
    if family == Family.RESIDUAL:
        total = np.zeros((len(codes), codebooks.shape[2]), dtype=np.float32)
        for m, words in enumerate(codebooks):
            total += words[codes[:, m]]
        return total
    subspaces = np.arange(codebooks.shape[0])
    width = codebooks.shape[0] * codebooks.shape[2]
    return codebooks[subspaces, codes].reshape(
        len(codes), width
    )  # from [n, num_subspaces, sub_dim]


def lists_from_offsets(offsets: IntArray) -> Array:
    """Return the list of every item in storage order, int32 [num_items]."""
    numbers = np.arange(len(offsets) - 1, dtype=np.int32)
    return np.repeat(numbers, np.diff(offsets))
