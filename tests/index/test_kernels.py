"""Every kernel of this machine returns the reference's ids and score bits, whatever the tables."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poeem import _native
from poeem.errors import ConfigError
from poeem.index import active_kernel, available_kernels, build_index_from_codes
from tests.index.helpers import Shape, random_index, random_queries
from tests.index.test_search import FAMILIES, METRICS, assert_engine_is_reference, assert_same

KERNELS = [str(kernel["name"]) for kernel in available_kernels() if kernel["supported"]]

# More items than are scored in float before the bounds are built, at the k of these tests; now and
# then more than any shortlist has, so that later ones are told by their bounds alone.
many_items = st.one_of(st.integers(300, 3000), st.integers(300, 3000), st.integers(33_000, 40_000))
FULL = 36_000
# Mostly the short codes that each have an unrolled scan, but every number that there may be.
subspaces = st.one_of(st.integers(1, 17), st.sampled_from([32, 64, 128]), st.integers(1, 128))
# Mostly few; now and then all items, and more than there are.
lengths = st.one_of(st.integers(1, 60), st.integers(1, 60), st.integers(61, 3001))
one_monkeypatch = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

shapes = st.builds(
    Shape,
    metric=st.sampled_from(METRICS),
    num_items=many_items,
    num_subspaces=subspaces,
    num_codewords=st.sampled_from([2, 15, 16, 17, 200, 256]),
    sub_dim=st.integers(1, 3),
    num_lists=st.sampled_from([0, 0, 1, 3, 40]),
    rotation=st.booleans(),
    ids=st.sampled_from(["positions", "uint32", "int64"]),
    few_codes=st.booleans(),
    family=st.sampled_from(FAMILIES),
)


@pytest.fixture(params=KERNELS)
def kernel(request, monkeypatch):
    monkeypatch.setenv("POEEM_KERNEL", request.param)
    assert active_kernel() == request.param
    return request.param


@one_monkeypatch
@given(
    shape=shapes,
    seed=st.integers(0, 2**32 - 1),
    num_queries=st.integers(1, 3),
    num_heads=st.integers(1, 2),
    k=lengths,
    num_probes=st.one_of(st.none(), st.integers(1, 20)),
    num_threads=st.integers(1, 3),
)
def test_every_kernel_equals_the_reference(
    kernel, shape, seed, num_queries, num_heads, k, num_probes, num_threads
):
    index = random_index(shape, seed)
    queries = random_queries(num_queries, num_heads, shape.dim, seed=seed)
    assert_engine_is_reference(index, queries, k, num_probes, num_threads)


def filled(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> np.ndarray:
    """Return a table [num_subspaces, num_codewords] that is hard on 8-bit bounds."""
    values = rng.standard_normal(shape)
    if kind == "huge range":
        values = np.sign(values) * 10.0 ** rng.uniform(-30, 30, shape)
    elif kind == "constant":
        values = np.full(shape, rng.standard_normal())
    elif kind == "one high":
        values[0, rng.integers(shape[1])] = 10.0 ** rng.uniform(1, 30)
    elif kind == "one low":
        values[-1, rng.integers(shape[1])] = -(10.0 ** rng.uniform(1, 30))
    elif kind == "negative":
        values = -np.abs(values) - 100
    elif kind == "neighbours":  # one unit in the last place apart, where float sums round
        values = np.float32(2**20) + np.round(values * 4) / 8
    elif kind == "one subspace":
        values[1:] *= 1e-6
    elif kind == "tiny":
        values *= 1e-42
    elif kind == "near overflow":
        values *= 1e37
    elif kind == "zeros":
        values *= rng.random(shape) < 0.05
    return values.astype(np.float32)


KINDS = (
    "normal",
    "huge range",
    "constant",
    "one high",
    "one low",
    "negative",
    "neighbours",
    "one subspace",
    "tiny",
    "near overflow",
    "zeros",
)


@one_monkeypatch
@given(
    kind=st.sampled_from(KINDS),
    metric=st.sampled_from(METRICS),
    num_items=many_items,
    num_subspaces=st.one_of(st.integers(1, 40), st.integers(1, 128)),
    num_codewords=st.sampled_from([16, 256]),
    with_lists=st.booleans(),
    skewed=st.booleans(),
    k=lengths,
    num_threads=st.integers(1, 2),
    num_probes=st.one_of(st.none(), st.integers(1, 7)),
    num_heads=st.integers(1, 2),
    share=st.sampled_from([None, None, 0.5, 0.02]),
    seed=st.integers(0, 2**32 - 1),
)
def test_hard_tables_lose_nothing(
    kernel,
    kind,
    metric,
    num_items,
    num_subspaces,
    num_codewords,
    with_lists,
    skewed,
    k,
    num_threads,
    num_probes,
    num_heads,
    share,
    seed,
):
    rng = np.random.default_rng(seed)
    table = filled(rng, kind, (num_subspaces, num_codewords))
    codes = rng.integers(0, num_codewords, (num_items, num_subspaces))
    if skewed:  # most items alike, so that few are above the others
        codes[rng.random(num_items) < 0.9] = codes[0]
    parts = {"codes": codes, "codebooks": table[:, :, None], "metric": metric}
    if with_lists:
        parts["centroids"] = filled(rng, kind, (7, num_subspaces))
        parts["lists"] = rng.integers(0, 7, num_items)
    try:
        index = build_index_from_codes(**parts)
    except ValueError:
        assert kind in ("huge range", "one high", "one low", "near overflow")  # norms overflow
        return
    # By inner product, the table of the first query is the codebooks themselves.
    queries = np.stack([np.ones(num_subspaces), rng.standard_normal(num_subspaces)])
    queries = queries.astype(np.float32)
    allowed = None if share is None else rng.random(num_items) < share
    assert_engine_is_reference(
        index,
        queries if num_heads == 1 else queries[None],
        k,
        num_probes if with_lists else None,
        num_threads=num_threads,
        allowed=allowed,
    )


@one_monkeypatch
@given(
    kind=st.sampled_from(KINDS),
    metric=st.sampled_from(METRICS),
    num_subspaces=st.one_of(st.integers(1, 17), st.integers(1, 128)),
    dim=st.integers(1, 3),
    num_lists=st.sampled_from([0, 5]),
    k=lengths,
    seed=st.integers(0, 2**32 - 1),
)
def test_hard_tables_of_codewords_that_add_up(
    kernel, kind, metric, num_subspaces, dim, num_lists, k, seed
):
    rng = np.random.default_rng(seed)
    words = [filled(rng, kind, (num_subspaces, 256)) for _ in range(dim)]
    num_items = int(rng.integers(300, 1500))
    parts = {
        "codes": rng.integers(0, 256, (num_items, num_subspaces)),
        "codebooks": np.stack(words, axis=2),
        "metric": metric,
        "family": "residual",
    }
    if num_lists:
        parts["centroids"] = filled(rng, kind, (dim, num_lists)).T
        parts["lists"] = rng.integers(0, num_lists, num_items)
    try:
        index = build_index_from_codes(**parts)
    except ValueError:
        assert kind in ("huge range", "one high", "one low", "near overflow")  # norms overflow
        return
    queries = np.stack([np.ones(dim), rng.standard_normal(dim)]).astype(np.float32)
    assert_engine_is_reference(index, queries, k)


@one_monkeypatch
@given(
    kind=st.sampled_from(KINDS),
    num_lists=st.integers(1, 200),
    dim=st.integers(1, 40),
    few_probes=st.booleans(),
    repeated=st.booleans(),
    size=st.sampled_from([0.0, 1e-40, 1e-20, 1.0, 1e15, 1e30]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_lists_of_one_query_are_the_best(
    kernel, kind, num_lists, dim, few_probes, repeated, size, seed
):
    # Bounds may rule lists out only where one query probes few of many.
    rng = np.random.default_rng(seed)
    centroids = filled(rng, kind, (dim, num_lists)).T
    if repeated:  # ties
        centroids = centroids[rng.integers(0, num_lists, num_lists)]
    index = build_index_from_codes(
        codes=rng.integers(0, 256, (3 * num_lists, dim)),
        codebooks=np.float32(1e-3) * rng.standard_normal((dim, 256, 1)).astype(np.float32),
        centroids=centroids,
        lists=rng.permutation(3 * num_lists) % num_lists,
    )
    query = rng.standard_normal((1, dim)) * size
    most = max(num_lists // 8, 1) if few_probes else num_lists
    num_probes = int(rng.integers(1, most + 1))
    assert_engine_is_reference(index, query.astype(np.float32), 10, num_probes)


@pytest.mark.parametrize("num_lists", [0, 3, 50])
@pytest.mark.parametrize("num_subspaces", [16, 17])
@pytest.mark.parametrize("k", [1, 100, 1000])
@pytest.mark.parametrize(
    ("metric", "family"), [("ip", "product"), ("l2", "product"), ("l2", "residual")]
)
def test_more_items_than_a_shortlist_looks_at(kernel, num_lists, num_subspaces, k, metric, family):
    sub_dim = 16 if family == "residual" else 1
    shape = Shape(metric, 50_000, num_subspaces, 256, sub_dim, num_lists, ids="uint32")
    index = random_index(dataclasses.replace(shape, family=family))
    for num_probes in (None, 6):
        assert_engine_is_reference(index, random_queries(1, index.dim), k, num_probes)


@pytest.mark.parametrize("num_codewords", [16, 256])
@pytest.mark.parametrize("num_subspaces", [40, 64, 128])
@pytest.mark.parametrize("where", [300, FULL - 1])
def test_float_sums_may_round_above_the_exact_ones(kernel, num_codewords, num_subspaces, where):
    # From 2^24 on floats are 2 apart: adding a little more than 1 adds 2. So the best item's float
    # score is num_subspaces - 1 above the exact sum of its entries, which bounds are made of, and
    # all others come near it: only the margin for rounding saves it.
    table = np.full((num_subspaces, num_codewords), 0.9, np.float32)
    table[0] = 2.0**24
    table[1:, 1] = np.nextafter(np.float32(1), np.float32(2))
    codes = np.ones((FULL, num_subspaces), np.int64)
    codes[:, 1] = 0
    codes[where, 1] = 1
    index = build_index_from_codes(codes=codes, codebooks=table[:, :, None])
    query = np.ones((1, num_subspaces), np.float32)
    found = assert_engine_is_reference(index, query, 1)
    assert found.ids.tolist() == [[where]]
    assert found.scores[0, 0] > table.max(axis=1).astype(np.float64).sum()


@pytest.mark.parametrize("num_subspaces", [40, 64, 128])
@pytest.mark.parametrize("where", [77, FULL - 77])
def test_float_sums_may_come_in_another_order_than_the_exact_ones(kernel, num_subspaces, where):
    # As above: ones are lost one by one, what is a little more counts twice. So by exact sums all
    # items are ahead of the best.
    table = np.full((num_subspaces, 256), 0.9, np.float32)
    table[0] = 2.0**24
    table[1:, 1] = 1.0
    table[1:, 2] = np.nextafter(np.float32(1), np.float32(2))
    codes = np.ones((FULL, num_subspaces), np.int64)
    codes[where] = np.arange(num_subspaces) % 2 * 2
    index = build_index_from_codes(codes=codes, codebooks=table[:, :, None])
    exact = table.astype(np.float64)[np.arange(num_subspaces), codes].sum(axis=1)
    assert exact.argmin() == where
    found = assert_engine_is_reference(index, np.ones((1, num_subspaces), np.float32), 1)
    assert found.ids.tolist() == [[where]]


@pytest.mark.parametrize("num_subspaces", [1, 2, 3, 8, 16, 17, 40])
@pytest.mark.parametrize("lead", [0, 1])
@pytest.mark.parametrize("best", [1500, FULL - 1])
def test_shortfalls_that_round_as_badly_as_they_can(kernel, num_subspaces, lead, best):
    # In steps of 1, a 127th of the range: five items round off .99 of each entry, the best one
    # nothing, so that its sum of rounded shortfalls is the highest by far.
    table = np.full((num_subspaces, 256), -127.0, np.float32)
    table[:, :4] = np.array([0.0, -10.99, -11.0, -10.0])
    codes = np.full((FULL, num_subspaces), 5, np.int64)
    codes[[3, 400, 401, 900, 2900]] = 1
    codes[best] = 2
    codes[best, 0] = 3
    parts = {"codes": codes, "codebooks": table[:, :, None]}
    if lead:  # the list's share rounds too
        parts["lists"] = np.zeros(FULL, np.int64)
        parts["lists"][best] = 1
        parts["centroids"] = np.zeros((2, num_subspaces), np.float32)
        parts["centroids"][:, 0] = 1000.0, 999.001
        codes[best, 0] = 0
    index = build_index_from_codes(**parts)
    found = assert_engine_is_reference(index, np.ones((1, num_subspaces), np.float32), 3)
    if num_subspaces > 1:
        assert found.ids[0, 0] == best


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("num_codewords", [16, 256])
@pytest.mark.parametrize("family", FAMILIES)
def test_batches_parts_and_heads(kernel, metric, num_codewords, family):
    sub_dim = 16 if family == "residual" else 1
    shape = Shape(metric, 150_000, 16, num_codewords, sub_dim, ids="uint32", family=family)
    index = random_index(shape)
    queries = random_queries(70, 16)
    alone = [index.search(query, 10) for query in queries]
    together = index.search(queries, 10, num_threads=3)
    parts = [index.search(query, 10, num_threads=4) for query in queries[:8]]
    for row, one in enumerate(alone):
        np.testing.assert_array_equal(together.ids[row], one.ids[0])
        np.testing.assert_array_equal(together.scores[row], one.scores[0])
    for one, split in zip(alone, parts, strict=False):
        assert_same(split, one)
    assert_engine_is_reference(index, queries[:2], 10, num_threads=2)
    assert_engine_is_reference(index, queries.reshape(35, 2, 16)[:2], 10, num_threads=4)


@pytest.mark.parametrize("num_lists", [0, 30])
@pytest.mark.parametrize("k", [500, 2000, 19_999, 20_000, 25_000])
def test_answers_of_any_length(kernel, k, num_lists):
    shape = Shape("ip", 20_000, 8, 256, 2, num_lists, ids="uint32")
    assert_engine_is_reference(random_index(shape), random_queries(2, 16), k, num_threads=2)


def test_lists_are_split_among_threads(kernel):
    shape = Shape("l2", 100_000, 24, 256, 1, 20)
    assert_engine_is_reference(random_index(shape), random_queries(1, 24), 10, num_threads=4)


def test_an_unsupported_kernel_says_what_it_needs(monkeypatch):
    lacking = [entry["name"] for entry in available_kernels() if not entry["supported"]]
    if not lacking:
        pytest.skip("this machine has all that kernels ask for")
    for name in lacking:
        monkeypatch.setenv("POEEM_KERNEL", str(name))
        with pytest.raises(ConfigError, match="which this machine lacks"):
            active_kernel()


@pytest.mark.parametrize("num_lists", [0, 20])
def test_few_items_are_scored_in_float(kernel, num_lists):
    shape = Shape("ip", 200_000, 8, 256, 2, num_lists)
    index, queries = random_index(shape), random_queries(20, 1, 16)
    settings = {"queries": queries, "k": 10, "num_probes": 0, "kernel": kernel}
    # Which queries share a look at codes, and so what it is by, depends on the threads.
    for num_threads in (1, 3):
        count = _native.count_scored(index._arrays, num_threads=num_threads, **settings)
        if kernel == "scalar":
            assert count == len(queries) * shape.num_items  # it has no bounds
        else:
            assert 10 <= count / len(queries) < 0.01 * shape.num_items


@pytest.mark.parametrize("metric", METRICS)
def test_few_more_than_k_are_scored_in_float_where_few_lists_are_probed(kernel, metric):
    index, queries = random_index(Shape(metric, 200_000, 8, 256, 2, 50)), random_queries(20, 1, 16)
    settings = {"queries": queries, "k": 100, "num_probes": 2, "kernel": kernel}
    count = _native.count_scored(index._arrays, num_threads=1, **settings) / len(queries)
    if kernel == "scalar":
        assert count > 30 * 100  # it has no bounds
    else:
        has_shortlist = kernel.startswith("avx512") and metric == "ip"
        assert 100 <= count < (4 if has_shortlist else 12) * 100
