"""What the engine gets of an index."""

from __future__ import annotations

import numpy as np

from poeem import _native
from poeem.index import reference
from poeem.index.contents import IndexContents
from poeem.types import Array


def native_arrays(contents: IndexContents) -> _native.Arrays:
    """Return what the engine works on: references to the arrays, no copies of items."""
    norms = None
    if contents.centroids is not None:
        norms = reference.list_norms(contents.metric, contents.centroids)
    return _native.Arrays(
        metric=contents.metric.value,
        family=contents.family,
        num_items=contents.num_items,
        code_bits=contents.code_bits,
        codes=contents.codes,
        codebooks=contents.codebooks,
        rotation=contents.rotation,
        centroids=contents.centroids,
        list_norms=norms,
        list_offsets=contents.list_offsets,
        ids=contents.ids,
        norms=contents.norms,
    )


def pack_bits(flags: Array) -> Array:
    """Return bool [n] as uint64 [ceil(n / 64)], the first in the lowest bit."""
    words = np.zeros(-(-len(flags) // 64), dtype="<u8")
    packed = np.packbits(flags, bitorder="little")
    words.view(np.uint8)[: len(packed)] = packed
    return words
