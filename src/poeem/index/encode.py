"""From vectors to codes with nothing but the parts of an index: no torch, no layer."""

from __future__ import annotations

import numpy as np

from poeem import _native
from poeem.index.codes import code_bits_for, packed_dtype
from poeem.index.kernels import wanted_kernel
from poeem.types import (
    MOST_PASSES,
    Array,
    Encoding,
    Family,
    FloatArray,
    IntArray,
    QuantizerParts,
)


@np.errstate(over="ignore", invalid="ignore")  # near the end of float32 all codes are as good
def encode(
    parts: QuantizerParts, vectors: FloatArray, num_threads: int = 1, *, beam: int | None = None
) -> tuple[Array, Array | None]:
    """Return what a layer of the same parts would: codes, and lists where there are some.

    Of codewords whose distances differ by rounding alone, a layer may take another one.

    Args:
        parts: checked ones; an index's contents are such.
        vectors: float32 [n, dim], finite.
        num_threads: at least 1.
        beam: residual codes: partial sums kept in the search for a code, 1 to 256; None = that of
            the parts.

    Returns:
        codes uint8|uint16 [n, num_subspaces], lists int32 [n] or None.
    """
    rotated = vectors if parts.rotation is None else vectors @ parts.rotation.T
    rests, lists = rotated, None
    if parts.centroids is not None:
        lists = _nearest(rests[None], parts.centroids[None], num_threads)[:, 0]
        rests = rests - parts.centroids[lists]
        lists = lists.astype(np.int32)
    along = costly_direction(rotated, parts.encoding)
    if parts.family == Family.RESIDUAL:
        metric = parts.encoding.error_metric
        weighed = rests if metric is None else rests @ metric.T
        codes: IntArray = _native.encode_residual(
            np.ascontiguousarray(weighed),
            parts.weighed_codebooks,
            beam=parts.encoding.beam if beam is None else beam,
            num_threads=num_threads,
            kernel=wanted_kernel(),
            along=along,
        )
    else:
        slices = rests.reshape(len(vectors), parts.num_subspaces, parts.codebooks.shape[2])
        codes = _nearest(slices.transpose(1, 0, 2), parts.codebooks, num_threads)
        if along is not None:
            _native.descend(
                codes,
                np.ascontiguousarray(rests),
                parts.codebooks,
                along,
                num_passes=MOST_PASSES,
                num_threads=num_threads,
                kernel=wanted_kernel(),
            )
    return codes.astype(packed_dtype(code_bits_for(parts.num_codewords))), lists


def costly_direction(rotated: FloatArray, encoding: Encoding) -> FloatArray | None:
    """Return a_i with <E e, a_i>^2 = w <e, x_i / |x_i|>^2 for every e, float32 [n, dim].

    None where w is 0. The same for torch is `poeem.quantize.along.costly_direction`.
    """
    if not encoding.parallel_weight:
        return None
    lengths = np.maximum(np.linalg.norm(rotated, axis=1, keepdims=True), np.float32(1e-12))
    along = rotated / lengths * np.float32(np.sqrt(encoding.parallel_weight))
    if encoding.error_metric is not None:
        along = along @ np.linalg.inv(encoding.error_metric)
    return np.ascontiguousarray(along, dtype=np.float32)


def _nearest(points: FloatArray, centers: FloatArray, num_threads: int) -> IntArray:
    """Return the nearest of centers [groups, c, w] to points [groups, n, w]: int64 [n, groups]."""
    found: IntArray = _native.nearest(
        points, centers, num_threads=num_threads, kernel=wanted_kernel()
    )
    return found
