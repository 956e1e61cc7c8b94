"""Building an index: what comes out, and each way the arguments can be wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from poeem.config import LayerConfig
from poeem.errors import (
    ConfigError,
    DtypeError,
    IdError,
    InputError,
    NonFiniteError,
    ShapeError,
)
from poeem.index import build_index, build_index_from_codes, reference
from poeem.types import QuantizerParts
from tests.index.helpers import Shape, random_index, random_parts, random_queries


class NearestCodeword:
    """A trained layer of somebody else: plain nearest codewords, optional lists by sign."""

    def __init__(self, dim: int = 4, lists: bool = False) -> None:
        self.codebooks = random_queries(2, 20, dim // 2)
        self.centroids = random_queries(2, dim) if lists else None
        self.batches: list[int] = []

    def export_parts(self) -> QuantizerParts:
        return QuantizerParts(None, self.centroids, self.codebooks)

    def encode_numpy(self, vectors):
        self.batches.append(len(vectors))
        lists = None
        if self.centroids is not None:
            lists = (vectors[:, 0] > 0).astype(np.int32)
            vectors = vectors - self.centroids[lists]
        parts = vectors.reshape(len(vectors), 2, 1, -1)
        distances = ((parts - self.codebooks) ** 2).sum(-1)
        return distances.argmin(-1).astype(np.uint8), lists


def arguments(**changes: Any) -> dict[str, Any]:
    shape = Shape(num_items=10, num_lists=3, rotation=True)
    return {**random_parts(shape, np.random.default_rng(0)), **changes}


@pytest.mark.parametrize("lists", [False, True])
def test_a_layer_is_used_through_its_protocol(lists):
    layer = NearestCodeword(lists=lists)
    vectors = random_queries(25, 4)
    done: list[tuple[int, int]] = []
    index = build_index(
        layer, range(100, 125), vectors, batch_size=10, progress=lambda *a: done.append(a)
    )
    assert layer.batches == [10, 10, 5]
    assert done == [(10, 25), (20, 25), (25, 25)]
    codes, numbers = layer.encode_numpy(vectors)
    wanted = layer.codebooks[np.arange(2), codes].reshape(25, 4)
    if lists:
        wanted = wanted + layer.centroids[numbers]
    np.testing.assert_array_equal(index.reconstruct(range(100, 125)), wanted)


@pytest.mark.parametrize("family", ["product", "residual"])
@pytest.mark.parametrize("num_lists", [0, 6])
@pytest.mark.parametrize("rotation", [False, True])
def test_parts_alone_encode_to_the_nearest_codes(family, num_lists, rotation):
    shape = Shape("l2", 300, 3, 20, 4, num_lists, rotation, family=family)
    given = random_parts(shape, np.random.default_rng(0))
    parts = QuantizerParts(
        given.get("rotation"), given.get("centroids"), given["codebooks"], family
    )
    vectors = random_queries(300, shape.dim)
    index = build_index(parts, None, vectors, metric="l2", batch_size=70)
    rests = vectors if parts.rotation is None else vectors @ parts.rotation.T
    codes = index.codes[np.argsort(index.ids)]
    if parts.centroids is not None:
        distances = ((rests[:, None] - parts.centroids) ** 2).sum(-1)
        lists = distances.argmin(-1)
        np.testing.assert_array_equal(index.lists[np.argsort(index.ids)], lists)
        rests = rests - parts.centroids[lists]
    if family == "residual":
        wanted = reference.encode_residual(rests, parts.codebooks, LayerConfig().beam)
    else:
        slices = rests.reshape(300, 3, 1, 4)
        wanted = ((slices - parts.codebooks) ** 2).sum(-1).argmin(-1)
    assert (codes != wanted).any(axis=1).mean() <= 0.01  # near-ties
    # Whoever has no file of a layer gets the same index from the codes.
    again = build_index_from_codes(
        **{**given, "codes": codes, "lists": lists if num_lists else None}
    )
    queries = random_queries(5, shape.dim, seed=2)
    np.testing.assert_array_equal(again.search(queries).ids, index.search(queries).ids)


def test_a_residual_layer_is_used_through_its_protocol():
    class Greedy:
        codebooks = random_queries(3, 20, 4)

        def export_parts(self):
            return QuantizerParts(None, None, self.codebooks, "residual")

        def encode_numpy(self, vectors):
            return reference.encode_residual(vectors, self.codebooks, 1).astype(np.uint8), None

    vectors = random_queries(25, 4)
    index = build_index(Greedy(), range(25), vectors, metric="cosine")
    codes = reference.encode_residual(vectors, Greedy.codebooks, 1)
    wanted = sum(words[codes[:, m]] for m, words in enumerate(Greedy.codebooks))
    np.testing.assert_allclose(index.reconstruct(range(25)), wanted, rtol=1e-6)
    assert index.info()["family"] == "residual"
    assert (index.dim, index.codebooks.shape) == (4, (3, 20, 4))


def test_an_unknown_family_is_refused():
    with pytest.raises(ConfigError, match="family: got 'sums', wanted one of product, residual"):
        build_index_from_codes(**arguments(family="sums"))


def test_torch_tensors_are_taken_and_not_kept():
    torch = pytest.importorskip("torch")
    index = build_index(NearestCodeword(), torch.arange(5), torch.ones(5, 4, requires_grad=True))
    assert index.search(torch.ones(2, 4), 1).ids.shape == (2, 1)
    with pytest.raises(DtypeError, match="bfloat16"):
        index.search(torch.ones(2, 4, dtype=torch.bfloat16))


def test_later_changes_to_the_arguments_do_not_reach_the_index():
    parts = arguments(lists=None, centroids=None, ids=np.arange(10) * 10**12)
    parts["codes"] = parts["codes"].astype(np.uint16) % 20
    index = build_index_from_codes(**parts)
    before = index.reconstruct(index.ids)
    for array in (parts["codes"], parts["codebooks"], parts["rotation"], parts["ids"]):
        array[...] = 0
    np.testing.assert_array_equal(index.reconstruct(index.ids), before)
    with pytest.raises(ValueError, match="read-only"):
        index.codebooks[...] = 0


def test_items_are_sorted_by_list_then_id():
    index = build_index_from_codes(
        codes=np.arange(5)[:, None],
        codebooks=np.zeros((1, 5, 1), np.float32),
        lists=[1, 0, 1, 0, 1],
        centroids=np.zeros((3, 1), np.float32),
        ids=[9, 8, 7, 6, 5],
        titles=["a", "b", "c", "d", "é"],
    )
    assert index.ids.tolist() == [6, 8, 5, 7, 9]
    assert index.lists.tolist() == [0, 0, 1, 1, 1]
    assert index.codes.ravel().tolist() == [3, 1, 4, 2, 0]
    assert index.titles([5, -1, 9]) == ["é", "", "a"]
    sizes = {"min": 0, "median": 2.0, "max": 3, "empty": 1}
    assert index.info()["list_sizes"].items() >= sizes.items()


@pytest.mark.parametrize(
    ("ids", "stored"),
    [
        (None, None),
        ([2, 0, 1], None),
        ([3, 0, 1], np.uint32),
        ([2**32 - 1, 0, 1], np.uint32),
        ([2**32, 0, 1], np.int64),
        ([-2, 0, 1], np.int64),
        ([2**63 - 1, -(2**63), 0], np.int64),
        (np.array([4, 5, 6], np.uint64), np.uint32),
    ],
)
def test_ids_take_the_least_room(ids, stored):
    index = build_index_from_codes(
        codes=np.zeros((3, 1), int), codebooks=np.zeros((1, 2, 1), np.float32), ids=ids
    )
    kept = index._contents.ids
    assert (None if kept is None else kept.dtype) == stored
    assert index.ids.tolist() == sorted(range(3) if ids is None else [int(i) for i in ids])


@pytest.mark.parametrize(
    ("num_codewords", "bytes_per_item"), [(2, 2), (16, 2), (17, 3), (256, 3), (257, 6)]
)
def test_codes_take_the_least_room(num_codewords, bytes_per_item):
    shape = Shape(num_codewords=num_codewords)
    index = random_index(shape)
    assert index.info()["code_bytes_per_item"] == bytes_per_item
    wanted = random_parts(shape, np.random.default_rng(0))["codes"]
    np.testing.assert_array_equal(index.codes, wanted)


def test_reconstruct_undoes_the_rotation():
    parts = arguments()
    index = build_index_from_codes(**parts)
    rotated = parts["codebooks"][np.arange(3), parts["codes"]].reshape(10, -1)
    rotated = rotated + parts["centroids"][parts["lists"]]
    np.testing.assert_allclose(
        index.reconstruct(np.arange(10)), rotated @ parts["rotation"], rtol=1e-6
    )


@pytest.mark.parametrize("unknown", [[10], [3, -5], [2**62]])
def test_looking_up_an_unknown_id(unknown):
    for index in (random_index(Shape(num_items=10)), random_index(Shape(ids="uint32"))):
        with pytest.raises(IdError, match="not in the index"):
            index.reconstruct([*index.ids[:2], *(u + 1000 for u in unknown)])


def test_titles_asked_of_an_index_without_any():
    with pytest.raises(ConfigError, match="titles"):
        random_index(Shape()).titles([0])


def test_unknown_metric():
    with pytest.raises(ConfigError, match="'dot', wanted one of ip, l2, cosine"):
        build_index_from_codes(**arguments(metric="dot"))


def test_duplicate_ids_are_named():
    with pytest.raises(IdError, match=r"2 duplicates.*first are 3, 7"):
        build_index_from_codes(**arguments(ids=[3, 7, 3, 1, 7, 0, 2, 4, 5, 6]))


@pytest.mark.parametrize(
    "ids",
    [
        np.arange(10, dtype=np.uint64) + 2**63,
        np.arange(10.0),
        np.arange(10).astype(bool),
        [str(i) for i in range(10)],
        [*range(9), 2**63],
        [*range(9), 2**70],
        [*range(9), -(2**64)],
        [*range(9), -1],
        [*range(9), None],
    ],
)
def test_ids_that_do_not_fit_int64(ids):
    with pytest.raises(IdError, match="ids"):
        build_index_from_codes(**arguments(ids=ids))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ids", np.arange(9)),
        ("ids", np.arange(20).reshape(10, 2)),
        ("lists", np.zeros(9, int)),
        ("lists", None),
        ("centroids", None),
        ("centroids", np.zeros((3, 5), np.float32)),
        ("centroids", np.zeros((0, 6), np.float32)),
        ("codes", np.zeros((10, 4), int)),
        ("codes", np.zeros((0, 3), int)),
        ("codes", np.zeros(10, int)),
        ("codebooks", np.zeros((3, 20), np.float32)),
        ("codebooks", np.zeros((3, 1, 2), np.float32)),
        ("rotation", np.eye(5, dtype=np.float32)),
        ("rotation", np.eye(6, dtype=np.float32)[:5]),
        ("titles", ["a"] * 9),
    ],
)
def test_shapes_that_do_not_fit(name, value):
    with pytest.raises(ShapeError, match=r"wanted|empty"):
        build_index_from_codes(**arguments(**{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("codes", np.zeros((10, 3))),
        ("codes", [[1, 2, 3], [1, 2]]),
        ("lists", np.zeros(10)),
        ("codebooks", np.zeros((3, 20, 2))),
        ("centroids", np.zeros((3, 6), int)),
        ("titles", "abcdefghij"),
        ("titles", [*"abcdefghi", 7]),
        ("lineage", "model"),
    ],
)
def test_wrong_types(name, value):
    with pytest.raises(DtypeError, match=name):
        build_index_from_codes(**arguments(**{name: value}))


@pytest.mark.parametrize("name", ["codebooks", "centroids", "rotation"])
def test_non_finite_parts_name_their_rows(name):
    parts = arguments()
    parts[name][1] = np.nan
    with pytest.raises(NonFiniteError, match=name) as caught:
        build_index_from_codes(**parts)
    assert caught.value.rows == [1]


@pytest.mark.parametrize(("name", "bad"), [("codes", 20), ("codes", -1), ("lists", 3)])
def test_codes_and_lists_beyond_their_range_name_the_row(name, bad):
    parts = arguments()
    parts[name][4] = bad
    with pytest.raises(InputError, match=f"{name}: got {bad} in row 4"):
        build_index_from_codes(**parts)


@pytest.mark.parametrize("rotation", [np.eye(6) * 1.01, np.eye(6) * 3e38, np.ones((6, 6)) / 6])
def test_a_rotation_that_is_not_orthonormal(rotation):
    with pytest.raises(InputError, match="rotation"):
        build_index_from_codes(**arguments(rotation=rotation.astype(np.float32)))


def test_a_rotation_slightly_off_is_taken():
    rotation = (np.eye(6) * (1 + 4e-4)).astype(np.float32)
    assert build_index_from_codes(**arguments(rotation=rotation)).num_items == 10


def test_norms_that_overflow():
    codebooks = np.full((3, 20, 2), 3e38, np.float32)
    with pytest.raises(NonFiniteError, match="overflow"):
        build_index_from_codes(**arguments(codebooks=codebooks, metric="cosine"))


@pytest.mark.parametrize("lineage", [{"x": object()}, {"x": float("nan")}, {"x": "y" * 2**21}])
def test_lineage_that_cannot_be_kept(lineage):
    with pytest.raises(InputError, match="lineage"):
        build_index_from_codes(**arguments(lineage=lineage))


def test_titles_that_are_no_unicode():
    with pytest.raises(InputError, match="UTF-8"):
        build_index_from_codes(**arguments(titles=[*"abcdefghi", "\ud800"]))


def test_vectors_with_nan_are_named_across_batches():
    vectors = random_queries(25, 4)
    vectors[17] = np.nan
    with pytest.raises(NonFiniteError, match="vectors") as caught:
        build_index(NearestCodeword(), None, vectors, batch_size=10)
    assert caught.value.rows == [17]


@pytest.mark.parametrize("shape", [(0, 4), (5, 3), (4,), (2, 2, 4)])
def test_vectors_of_the_wrong_shape(shape):
    with pytest.raises(ShapeError, match="vectors"):
        build_index(NearestCodeword(), None, np.zeros(shape, np.float32))


def test_vectors_of_the_wrong_dtype():
    with pytest.raises(DtypeError, match="vectors: got float64"):
        build_index(NearestCodeword(), None, np.zeros((3, 4)))


@pytest.mark.parametrize("size", [0, 1.5, None, True])
def test_bad_batch_size(size):
    with pytest.raises(ConfigError, match="batch_size"):
        build_index(NearestCodeword(), None, random_queries(3, 4), batch_size=size)


def test_bad_ids_are_found_before_the_long_work():
    layer = NearestCodeword()
    with pytest.raises(ShapeError, match="ids"):
        build_index(layer, [1], random_queries(3, 4))
    assert layer.batches == []
