"""The native entries, called with arrays that do not go together: they raise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from poeem import _native
from poeem.errors import ConfigError, CorruptIndexError, ShapeError
from poeem.index.engine import native_arrays
from tests.index.helpers import Shape, random_index, random_queries

LISTS = random_index(Shape("l2", num_items=300, num_lists=3, rotation=True, ids="uint32"))
WIDE = random_index(Shape("cosine", num_items=300, num_codewords=300, num_lists=2))


def arguments(index=LISTS, **changes: Any) -> dict[str, Any]:
    contents = index._contents
    names = ("codes", "codebooks", "rotation", "centroids", "list_offsets", "ids", "norms")
    return {
        "metric": contents.metric.value,
        "num_items": contents.num_items,
        "code_bits": contents.code_bits,
        "list_norms": np.ones(contents.num_lists, np.float32),
        **{name: getattr(contents, name) for name in names},
        **changes,
    }


def search(arrays: _native.Arrays, **changes: Any) -> Any:
    settings = {"queries": random_queries(2, 1, 6), "k": 3, "num_probes": 0, "num_threads": 1}
    return _native.search(arrays, **{"kernel": "", **settings, **changes})


def plain(**changes: Any) -> Any:
    settings = {"queries": random_queries(2, 1, 6), "k": 3, "num_probes": None, "num_threads": 1}
    return _native.search_plain(_native.Arrays(**arguments()), **{**settings, **changes})


def test_the_short_way_finds_the_same():
    queries = random_queries(2, 2, 6)
    for some in (queries, queries[:, :1], queries[:, 0], queries[0, 0]):
        for probes in (None, 1, 2):
            ids, scores = plain(queries=np.ascontiguousarray(some), num_probes=probes)
            rows = some[None] if some.ndim == 1 else some
            rows = rows[:, None] if rows.ndim == 2 else rows
            wanted = search(
                _native.Arrays(**arguments()),
                queries=np.ascontiguousarray(rows),
                num_probes=probes or 0,
            )
            np.testing.assert_array_equal(ids, wanted[0])
            np.testing.assert_array_equal(scores, wanted[1])
            assert (ids.dtype, scores.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize(
    "changes",
    [
        {"k": 0},
        {"k": 301},
        {"k": 2**64},
        {"k": True},
        {"k": np.int64(3)},
        {"k": None},
        {"num_probes": 0},
        {"num_probes": -(2**64)},
        {"num_probes": 1.0},
        {"num_threads": 0},
        {"num_threads": 1025},
        {"queries": None},
        {"queries": [[1.0] * 6]},
        {"queries": np.zeros((2, 5), np.float32)},
        {"queries": np.zeros((0, 6), np.float32)},
        {"queries": np.zeros((1, 1, 1, 6), np.float32)},
        {"queries": np.zeros((), np.float32)},
        {"queries": np.zeros((2, 6), np.float64)},
        {"queries": np.zeros((2, 6), ">f4")},
        {"queries": np.zeros((6, 2), np.float32).T},
        {"queries": np.array([[0, 0, 0, 0, 0, np.nan]], np.float32)},
        {"queries": np.array([[-np.inf, 0, 0, 0, 0, 0]], np.float32)},
        {"queries": np.frombuffer(bytes(25), np.uint8)[1:].view(np.float32)},
    ],
)
def test_the_short_way_leaves_what_is_not_plain_to_the_long_one(changes):
    assert plain() is not None
    assert plain(**changes) is None


def floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"num_items": -1}, "num_items"),
        ({"num_items": 2**63 - 1}, "num_items"),
        ({"num_items": 2**56, "codes": np.zeros((0, 3, 256), np.uint8)}, "too large"),
        ({"num_items": 513}, "codes: not"),
        ({"code_bits": 0}, "code_bits"),
        ({"code_bits": 4}, "more codewords"),
        ({"code_bits": 16}, "uint16 goes"),
        ({"code_bits": 2**31 - 1}, "code_bits"),
        ({"codes": np.zeros((2, 2, 256), np.uint8)}, "codes: not"),
        ({"codes": np.zeros((2, 3, 255), np.uint8)}, "codes: not"),
        ({"codes": np.zeros((2, 3, 256), np.uint16)}, "uint16 goes"),
        ({"codebooks": floats(3, 0, 2)}, "codebooks: empty"),
        ({"codebooks": floats(2**40, 0, 2)}, "codebooks: empty"),
        ({"codebooks": floats(3, 257, 2)}, "more codewords"),
        ({"rotation": floats(6, 5)}, "rotation"),
        ({"centroids": floats(0, 6)}, "centroids"),
        ({"centroids": floats(3, 5)}, "centroids"),
        ({"centroids": None}, "wanted both"),
        ({"list_offsets": None}, "wanted both"),
        ({"list_offsets": np.zeros(3, np.int64)}, "list_offsets: not"),
        ({"list_norms": None}, "list_norms"),
        ({"list_norms": floats(2)}, "list_norms"),
        ({"ids": np.zeros(299, np.uint32)}, "ids"),
        ({"ids": np.zeros(301, np.int64)}, "ids"),
        ({"norms": floats(299)}, "norms"),
    ],
)
def test_shapes_that_do_not_fit(changes, match):
    with pytest.raises(ShapeError, match=match):
        _native.Arrays(**arguments(**changes))


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 1), (0, -1), (1, 10**9), (1, -(2**63)), (2, 0), (3, 301), (3, 2**63 - 1)],
)
def test_offsets_that_lead_astray(place, value):
    offsets = LISTS._contents.list_offsets.copy()
    offsets[place] = value
    with pytest.raises(CorruptIndexError, match="list_offsets"):
        _native.Arrays(**arguments(list_offsets=offsets))


def test_offsets_that_change_after_they_were_checked():
    offsets = LISTS._contents.list_offsets.copy()
    arrays = _native.Arrays(**arguments(list_offsets=offsets))
    before = search(arrays)
    offsets[1:] = 2**62
    np.testing.assert_array_equal(search(arrays)[0], before[0])


def test_a_metric_nobody_knows():
    with pytest.raises(ConfigError, match="metric"):
        _native.Arrays(**arguments(metric="dot"))


def test_arrays_of_other_types_or_with_gaps():
    for changes in (
        {"codes": np.zeros((2, 3, 256), np.int8)},
        {"codebooks": np.zeros((3, 20, 2))},
        {"codebooks": floats(3, 20, 4)[:, :, ::2]},
        {"ids": np.zeros(300, np.int32)},
        {"norms": floats(600)[::2]},
    ):
        with pytest.raises(TypeError):
            _native.Arrays(**arguments(**changes))


def test_numbers_that_start_in_the_middle_of_one():
    odd = np.zeros(3 * 20 * 2 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(3, 20, 2)
    with pytest.raises((ShapeError, TypeError)):
        _native.Arrays(**arguments(codebooks=odd))


def test_norms_that_the_metric_needs():
    arrays = _native.Arrays(**arguments(norms=None))
    with pytest.raises(ShapeError, match="norms"):
        search(arrays)
    with pytest.raises(ShapeError, match="norms"):
        _native.wrong_norm(arrays, tolerance=0.0)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"k": 0}, ConfigError),
        ({"k": -(2**63)}, ConfigError),
        ({"k": 2**62}, MemoryError),
        ({"num_probes": -1}, ConfigError),
        ({"num_threads": 0}, ConfigError),
        ({"kernel": "abacus"}, ConfigError),
        ({"queries": random_queries(1, 1, 5)}, ShapeError),
        ({"queries": floats(1, 0, 6)}, ShapeError),
        ({"allowed": np.zeros(4, np.uint64)}, ShapeError),
        ({"allowed": np.zeros(6, np.uint64)}, ShapeError),
    ],
)
def test_requests_that_make_no_sense(changes, error):
    with pytest.raises(error):
        search(native_arrays(LISTS._contents), **changes)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_queries_that_are_not_finite_find_what_they_find(value):
    for index in (LISTS, WIDE):
        ids, _ = search(
            native_arrays(index._contents), queries=np.full((2, 1, 6), value, np.float32)
        )
        assert ids.shape == (2, 3)


def test_more_probes_and_items_wanted_than_there_are():
    ids, scores = search(native_arrays(LISTS._contents), k=1000, num_probes=2**63 - 1)
    assert (np.sort(ids[0, :300]) == np.sort(LISTS.ids)).all()
    assert (ids[:, 300:] == -1).all()
    assert np.isneginf(scores[:, 300:]).all()


def test_no_query_and_no_item():
    none = {"num_items": 0, "codes": np.zeros((0, 3, 256), np.uint8), "ids": None}
    empty = {**none, "list_offsets": np.zeros(4, np.int64), "norms": floats(0)}
    assert (search(_native.Arrays(**arguments(**empty)))[0] == -1).all()
    assert search(native_arrays(LISTS._contents), queries=floats(0, 1, 6))[0].shape == (0, 3)


@pytest.mark.parametrize("kernel", [one["name"] for one in _native.kernels() if one["supported"]])
@pytest.mark.parametrize("index", [LISTS, WIDE], ids=["8 bit", "16 bit"])
def test_an_item_with_a_code_beyond_its_codebook_has_no_score(index, kernel):
    codes = index._contents.codes.copy()
    codes[0, 1, 7] = np.iinfo(codes.dtype).max
    arrays = _native.Arrays(**arguments(index, codes=codes))
    ids = search(arrays, k=300, kernel=kernel)[0]
    wrong, others = index.ids[7], np.delete(index.ids, 7)
    assert (np.sort(ids[:, :299], axis=1) == np.sort(others)).all()
    assert wrong not in ids
    with pytest.raises(CorruptIndexError, match="codes"):
        _native.item_norms(arrays, squared=True)


def test_an_id_in_two_lists():
    assert _native.repeated_id(native_arrays(LISTS._contents)) == -1
    ids, offsets = LISTS._contents.ids.copy(), LISTS._contents.list_offsets
    ids[offsets[2]] = ids[3]
    found = _native.repeated_id(_native.Arrays(**arguments(ids=ids)))
    assert found == offsets[2]


def test_a_norm_of_something_else():
    for index in (LISTS, WIDE):
        assert _native.wrong_norm(native_arrays(index._contents), tolerance=1e-6) == -1
        norms = index._contents.norms.copy()
        norms[123] *= np.float32(1.001)
        arrays = _native.Arrays(**arguments(index, norms=norms))
        assert _native.wrong_norm(arrays, tolerance=1e-6) == 123
        assert _native.wrong_norm(arrays, tolerance=1e-2) == -1


def test_nearest_of_nothing():
    settings: dict[str, Any] = {"num_threads": 1, "kernel": ""}
    for points, centers in (
        (floats(1, 3, 0), floats(1, 2, 0)),
        (floats(1, 3, 2), floats(1, 0, 2)),
        (floats(2, 3, 2), floats(1, 4, 2)),
        (floats(1, 3, 2), floats(1, 4, 3)),
    ):
        with pytest.raises(ShapeError):
            _native.nearest(points, centers, **settings)
    found = _native.nearest(np.full((1, 3, 2), np.nan, np.float32), floats(1, 4, 2), **settings)
    assert (found == 0).all()


@pytest.mark.parametrize("dtype", [np.uint32, np.int64])
def test_flags_of_ids_and_what_they_are_looked_up_in(dtype):
    ids = np.array([5, 0, 9, 7, 2**31], dtype)
    wanted = np.array([True, False, True, False])  # of 5, 6, 7, and all others
    np.testing.assert_array_equal(
        _native.flags_of(ids, wanted, low=5), [True, False, False, True, False]
    )
    for wrong in (np.zeros(0, bool), np.ones(4, bool)):  # nothing, or nothing for the others
        with pytest.raises(ShapeError, match="wanted: its last flag"):
            _native.flags_of(ids, wrong, low=5)
    odd = np.frombuffer(bytes(8 * 3 + 1), np.uint8)[1:].view(dtype)
    with pytest.raises(ShapeError, match="middle of a number"):
        _native.flags_of(odd, wanted, low=5)
