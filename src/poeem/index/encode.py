"""From vectors to codes with nothing but the parts of an index: no torch, no layer."""

from __future__ import annotations

import numpy as np

from poeem import _native
from poeem.index.codes import packed_dtype
from poeem.index.contents import IndexContents
from poeem.index.kernels import wanted_kernel
from poeem.types import Array, FloatArray


def encode(
    contents: IndexContents, vectors: FloatArray, num_threads: int = 1
) -> tuple[Array, Array | None]:
    """Return what a layer of the same parts would: codes, and lists where there are some.

    Of codewords whose distances differ by rounding alone, a layer may take another one.

    Args:
        contents: an index, for its quantizer.
        vectors: float32 [n, dim], finite.
        num_threads: at least 1.

    Returns:
        codes uint8|uint16 [n, num_subspaces], lists int32 [n] or None.
    """
    residuals = vectors if contents.rotation is None else vectors @ contents.rotation.T
    lists = None
    if contents.centroids is not None:
        lists = _nearest(residuals[None], contents.centroids[None], num_threads)[:, 0]
        residuals = residuals - contents.centroids[lists]
        lists = lists.astype(np.int32)
    parts = residuals.reshape(len(vectors), contents.num_subspaces, -1)
    codes = _nearest(parts.transpose(1, 0, 2), contents.codebooks, num_threads)
    return codes.astype(packed_dtype(contents.code_bits)), lists


def _nearest(points: Array, centers: Array, num_threads: int) -> Array:
    """Return the nearest of centers [groups, c, w] to points [groups, n, w]: int64 [n, groups]."""
    found: Array = _native.nearest(points, centers, num_threads=num_threads, kernel=wanted_kernel())
    return found
