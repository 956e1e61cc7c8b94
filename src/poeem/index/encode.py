"""From vectors to codes with nothing but the parts of an index: no torch, no layer."""

from __future__ import annotations

import numpy as np

from poeem import _native
from poeem.config import LayerConfig
from poeem.index.codes import code_bits_for, packed_dtype
from poeem.index.kernels import wanted_kernel
from poeem.types import Array, Family, FloatArray, IntArray, QuantizerParts


def encode(
    parts: QuantizerParts,
    vectors: FloatArray,
    num_threads: int = 1,
    *,
    beam: int = LayerConfig().beam,
) -> tuple[Array, Array | None]:
    """Return what a layer of the same parts would: codes, and lists where there are some.

    Of codewords whose distances differ by rounding alone, a layer may take another one.

    Args:
        parts: checked ones; an index's contents are such.
        vectors: float32 [n, dim], finite.
        num_threads: at least 1.
        beam: residual codes: partial sums kept in the search for a code, 1 to 256.

    Returns:
        codes uint8|uint16 [n, num_subspaces], lists int32 [n] or None.
    """
    rests = vectors if parts.rotation is None else vectors @ parts.rotation.T
    lists = None
    if parts.centroids is not None:
        lists = _nearest(rests[None], parts.centroids[None], num_threads)[:, 0]
        rests = rests - parts.centroids[lists]
        lists = lists.astype(np.int32)
    if parts.family == Family.RESIDUAL:
        codes: IntArray = _native.encode_residual(
            np.ascontiguousarray(rests),
            parts.codebooks,
            beam=beam,
            num_threads=num_threads,
            kernel=wanted_kernel(),
        )
    else:
        slices = rests.reshape(len(vectors), parts.num_subspaces, -1)
        codes = _nearest(slices.transpose(1, 0, 2), parts.codebooks, num_threads)
    return codes.astype(packed_dtype(code_bits_for(parts.num_codewords))), lists


def _nearest(points: FloatArray, centers: FloatArray, num_threads: int) -> IntArray:
    """Return the nearest of centers [groups, c, w] to points [groups, n, w]: int64 [n, groups]."""
    found: IntArray = _native.nearest(
        points, centers, num_threads=num_threads, kernel=wanted_kernel()
    )
    return found
