"""Several arrays of one quantizer, some of their items dead, answer as one index of the rest."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poeem import _native
from poeem.errors import ShapeError
from poeem.index import build_index_from_codes
from poeem.index.engine import native_arrays
from poeem.index.index import pack_bits
from poeem.index.kernels import wanted_kernel
from poeem.types import SearchResult
from tests.index.helpers import Shape, random_parts, random_queries
from tests.index.test_kernels import kernel, shapes  # noqa: F401
from tests.index.test_search import assert_same


def other_items(quantizer, contents):
    """Return arrays of other items, with the parts of the first."""
    return _native.Arrays(
        quantizer,
        num_items=contents.num_items,
        codes=contents.codes,
        list_offsets=contents.list_offsets,
        ids=contents.ids,
        norms=contents.norms,
    )


def search(segments, queries, k, num_probes, num_threads, widens):
    return SearchResult(
        *_native.search_segments(
            segments,
            queries=queries,
            k=k,
            num_probes=num_probes or 0,
            num_threads=num_threads,
            kernel=wanted_kernel(),
            widens=widens,
        )
    )


def split(shape, seed, num_segments, dead_share):
    """Return segments, and the index of all of their items that are not dead."""
    rng = np.random.default_rng(seed)
    parts = random_parts(shape, rng)
    parts.setdefault("ids", np.arange(shape.num_items))
    rows = {name: np.asarray(parts.pop(name)) for name in ("codes", "ids")}
    if "lists" in parts:
        rows["lists"] = parts.pop("lists")
    where = rng.integers(num_segments, size=shape.num_items)
    where[rng.integers(shape.num_items)] = 0  # the first segment holds the quantizer
    alive = rng.random(shape.num_items) >= dead_share
    alive[rng.integers(shape.num_items)] = True
    segments, quantizer = _native.Segments(), None
    for number in range(num_segments):
        here = where == number
        if not here.any():
            continue
        index = build_index_from_codes(**parts, **{n: row[here] for n, row in rows.items()})
        contents = index._contents
        if contents.ids is None:
            contents = dataclasses.replace(contents, ids=index.ids)
        arrays = other_items(quantizer, contents) if quantizer else native_arrays(contents)
        quantizer = quantizer or arrays
        flags = np.isin(index.ids, rows["ids"][alive])
        segments.add(arrays, wanted=None if flags.all() else pack_bits(flags))
    return segments, build_index_from_codes(**parts, **{n: r[alive] for n, r in rows.items()})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=shapes,
    seed=st.integers(0, 2**32 - 1),
    num_segments=st.integers(1, 5),
    dead_share=st.sampled_from([0.0, 0.05, 0.5, 0.99]),
    num_heads=st.integers(1, 2),
    k=st.integers(1, 60),
    num_probes=st.one_of(st.none(), st.integers(1, 20)),
    num_threads=st.integers(1, 3),
    widens=st.booleans(),
)
def test_segments_equal_one_index(
    kernel,  # noqa: F811
    shape,
    seed,
    num_segments,
    dead_share,
    num_heads,
    k,
    num_probes,
    num_threads,
    widens,
):
    segments, whole = split(shape, seed, num_segments, dead_share)
    queries = random_queries(3, num_heads, shape.dim, seed=seed)
    got = search(segments, queries, k, num_probes, num_threads, widens)
    everything = np.ones(whole.num_items, dtype=bool) if widens else None
    assert_same(got, whole.search(queries, k, num_probes=num_probes, allowed=everything))


@pytest.mark.parametrize("num_lists", [0, 30])
def test_segments_over_many_blocks_and_threads(kernel, num_lists):  # noqa: F811
    segments, whole = split(Shape("ip", 100_000, 16, 256, 1, num_lists), 0, 4, 0.05)
    queries = random_queries(2, 1, 16)
    for num_threads in (1, 3):
        got = search(segments, queries, 20, 5, num_threads, False)
        assert_same(got, whole.search(queries, 20, num_probes=5))


def test_segments_of_another_quantizer_are_refused():
    segments = _native.Segments()
    for seed in (0, 1):
        index = build_index_from_codes(**random_parts(Shape(), np.random.default_rng(seed)))
        arrays = native_arrays(index._contents)
        if seed == 0:
            segments.add(arrays, wanted=None)
            continue
        with pytest.raises(ShapeError, match="not of one quantizer"):
            segments.add(arrays, wanted=None)


def test_bits_of_the_wrong_length_are_refused():
    arrays = native_arrays(
        build_index_from_codes(**random_parts(Shape(), np.random.default_rng(0)))._contents
    )
    with pytest.raises(ShapeError, match="not a bit per item"):
        _native.Segments().add(arrays, wanted=np.zeros(2, np.uint64))
