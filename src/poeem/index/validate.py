"""What must hold inside the arrays of an index file before they are used."""

from __future__ import annotations

import numpy as np

from poeem.errors import CorruptIndexError
from poeem.index.arguments import ORTHONORMAL_TOLERANCE, PADDING_ID, orthonormal_error
from poeem.index.codes import CHUNK, in_range
from poeem.index.contents import IndexContents
from poeem.types import Array, IntArray


def validate(contents: IndexContents, *, every_item: bool = True) -> None:
    """Check every invariant that shapes do not tell; `every_item` includes ids, norms and titles.

    Temporaries stay small: an index may take most of the memory there is.

    Raises:
        CorruptIndexError: one does not hold.
    """
    for name in ("codebooks", "centroids", "rotation"):
        array = getattr(contents, name)
        if array is not None:
            _check_finite(name, array)
    if contents.rotation is not None:
        error = orthonormal_error(contents.rotation)
        if error > ORTHONORMAL_TOLERANCE:
            raise CorruptIndexError(f"rotation: R R^T is off the identity by {error:.3g}")
    if contents.list_offsets is not None:
        _check_rising("list_offsets", contents.list_offsets, contents.num_items)
    # Always: the engine takes 16-bit codes at their word.
    if not in_range(
        contents.codes,
        contents.num_items,
        contents.num_subspaces,
        contents.num_codewords,
        contents.code_bits,
    ):
        raise CorruptIndexError(
            f"codes: some are not below {contents.num_codewords}, or not 0 beyond the last item"
        )
    if every_item:
        _check_ids(contents)
        _check_norms(contents)
        if contents.titles is not None:
            _check_rising("title_offsets", contents.titles.offsets, len(contents.titles.blob))


def _check_finite(name: str, array: Array) -> None:
    for start in range(0, len(array), CHUNK):
        if not np.isfinite(array[start : start + CHUNK]).all():
            raise CorruptIndexError(f"{name}: NaN or infinity")


def _check_norms(contents: IndexContents) -> None:
    if contents.norms is None:
        return
    _check_finite("norms", contents.norms)
    if float(contents.norms.min()) < 0:
        raise CorruptIndexError("norms: some are negative")


def _check_rising(name: str, offsets: IntArray, last: int) -> None:
    if int(offsets[0]) != 0 or int(offsets[-1]) != last:
        raise CorruptIndexError(f"{name}: from {offsets[0]} to {offsets[-1]}, wanted 0 to {last}")
    for start in range(0, len(offsets) - 1, CHUNK):
        part = offsets[start : start + CHUNK + 1]
        if (part[1:] < part[:-1]).any():
            raise CorruptIndexError(f"{name}: they fall")


def _check_ids(contents: IndexContents) -> None:
    """Ids rise within a list, so that none is twice in it and ties come out in order."""
    ids = contents.ids
    if ids is None:
        return
    starts = np.zeros(1, np.int64) if contents.list_offsets is None else contents.list_offsets
    for start in range(0, len(ids), CHUNK):
        part = ids[start : start + CHUNK + 1]
        if ids.dtype == np.int64 and (part == PADDING_ID).any():
            raise CorruptIndexError("ids: -1 is among them")
        falls = np.flatnonzero(part[1:] <= part[:-1]) + start + 1
        if not np.isin(falls, starts).all():
            raise CorruptIndexError("ids: they do not rise within a list")
