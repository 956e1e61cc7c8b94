"""Filtered search: exactly the best of the items allowed, and k of them wherever k are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poeem.errors import DtypeError, IdError, ShapeError
from poeem.index import Index, reference
from tests.index.helpers import Shape, random_index, random_queries
from tests.index.test_kernels import kernel, lengths, shapes  # noqa: F401
from tests.index.test_search import assert_same


def assert_filter_is_reference(
    index: Index, queries: np.ndarray, k: int, num_probes: int | None, threads: int, flags
) -> None:
    got = index.search(queries, k, num_probes=num_probes, num_threads=threads, allowed=flags)
    assert_same(got, reference.search(index._contents, queries, k, num_probes, flags))
    assert np.isin(got.ids[got.ids >= 0], index.ids[flags]).all()
    found = (got.scores > -np.inf).sum(axis=1)
    assert (found == min(k, flags.sum())).all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=shapes,
    seed=st.integers(0, 2**32 - 1),
    num_heads=st.integers(1, 2),
    k=lengths,
    num_probes=st.one_of(st.none(), st.integers(1, 20)),
    num_threads=st.integers(1, 3),
    share=st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5, 0.99, 1.0]),
)
def test_filters_equal_the_reference(
    kernel,  # noqa: F811
    shape,
    seed,
    num_heads,
    k,
    num_probes,
    num_threads,
    share,
):
    index = random_index(shape, seed)
    queries = random_queries(2, num_heads, shape.dim, seed=seed)
    flags = np.random.default_rng(seed).random(shape.num_items) < share
    assert_filter_is_reference(index, queries, k, num_probes, num_threads, flags)


def test_filters_over_a_large_catalogue(kernel):  # noqa: F811
    for num_lists, family in ((0, "product"), (30, "product"), (0, "residual")):
        sub_dim = 16 if family == "residual" else 1
        index = random_index(Shape("ip", 150_000, 16, 256, sub_dim, num_lists, family=family))
        for share in (0.5, 0.05, 0.001):
            flags = np.random.default_rng(1).random(150_000) < share
            assert_filter_is_reference(index, random_queries(2, 1, 16), 10, 2, 3, flags)


def test_ids_and_flags_say_the_same():
    index = random_index(Shape(num_items=200, ids="int64", num_lists=4))
    flags = np.random.default_rng(0).random(200) < 0.2
    queries = random_queries(3, 6)
    by_flags = index.search(queries, 10, num_probes=1, allowed=flags)
    unknown = [7, *index.ids[flags].tolist(), 8]
    assert_same(index.search(queries, 10, num_probes=1, allowed=unknown), by_flags)


@pytest.mark.parametrize("ids", ["positions", "uint32", "int64"])
@pytest.mark.parametrize("spread", [1, 10**6, 10**14])
def test_ids_far_apart_and_unknown_ones(ids, spread):
    index = random_index(Shape(num_items=300, ids=ids, num_lists=3))
    known = index.ids[::7].tolist()
    unknown = [-spread - 2, spread, 2**32 + 5, int(index.ids.max()) + 3]
    unknown = [number for number in unknown if number not in index.ids]
    flags = np.isin(index.ids, known)
    contents = index._contents
    for asked in ([*known, *unknown], known, unknown, [*known, -3]):
        wanted = flags if asked is not unknown else np.zeros(300, bool)
        asked_ids = np.array([number for number in asked if number != -1], np.int64)
        if -3 in index.ids and -3 in asked:
            wanted = wanted | (index.ids == -3)
        np.testing.assert_array_equal(contents.flags_of(asked_ids), wanted)


def test_a_filter_that_allows_nothing():
    index = random_index(Shape())
    wanted = index.search(random_queries(6), 3, allowed=[7, 9])
    assert_same(index.search(random_queries(6), 3, allowed={9, 7}), wanted)
    ids, scores = random_index(Shape()).search(random_queries(6), 3, allowed=[])
    assert ids.tolist() == [[-1, -1, -1]]
    assert (scores == -np.inf).all()


def test_filters_of_the_wrong_kind():
    index = random_index(Shape(num_items=50))
    with pytest.raises(ShapeError, match=r"allowed: got shape \(49,\)"):
        index.search(random_queries(6), allowed=np.ones(49, bool))
    with pytest.raises(IdError):
        index.search(random_queries(6), allowed=[0.5])
    for packed in (np.packbits(np.ones(50, bool)), np.ones(50, np.uint8), np.ones(50, np.int8)):
        with pytest.raises(DtypeError, match=r"allowed: got u?int8, wanted bool"):
            index.search(random_queries(6), allowed=packed)
    with pytest.raises(DtypeError, match="allowed: got a masked array"):
        index.search(random_queries(6), allowed=np.ma.masked_less(np.arange(50), 7))
