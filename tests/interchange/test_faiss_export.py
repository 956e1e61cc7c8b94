"""Faiss gives the answers of the index it was made from."""

import numpy as np
import pytest

import poeem
from poeem.errors import UnsupportedIndexError
from poeem.interchange import faiss_export
from poeem.interchange.faiss_export import export_faiss, to_faiss
from poeem.types import SearchResult
from tests.index.helpers import Shape, random_index, random_queries
from tests.interchange.helpers import assert_same_answers

faiss = pytest.importorskip("faiss")

NUM_QUERIES, K = 40, 20


def ask_faiss(index, queries, k, metric):
    values, ids = index.search(queries, k)
    if metric == "l2":
        values = np.where(ids == -1, -np.inf, -values)
    return ids, values


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("num_lists", [0, 7])
@pytest.mark.parametrize("rotation", [True, False])
@pytest.mark.parametrize("num_codewords", [16, 200, 256, 300])
@pytest.mark.parametrize("ids", ["positions", "int64"])
def test_faiss_gives_the_same_answers(metric, num_lists, rotation, num_codewords, ids, tmp_path):
    shape = Shape(metric, 700, 4, num_codewords, 3, num_lists=num_lists, rotation=rotation, ids=ids)
    index = random_index(shape)
    queries = random_queries(NUM_QUERIES, shape.dim)
    export_faiss(index, tmp_path / "index.faiss")
    theirs = faiss.read_index(str(tmp_path / "index.faiss"))
    assert (theirs.ntotal, theirs.is_trained, theirs.d) == (700, True, shape.dim)
    found = index.search(queries, K)
    assert_same_answers(found, *ask_faiss(theirs, queries, K, metric))
    assert_same_answers(found, *ask_faiss(to_faiss(index), queries, K, metric))


@pytest.mark.parametrize("family", ["product", "residual"])
@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("num_probes", [1, 3])
def test_the_same_lists_are_probed(family, metric, num_probes):
    shape = Shape(metric, 500, 4, 16, 8, num_lists=12, rotation=True, family=family)
    index = random_index(shape)
    queries = random_queries(NUM_QUERIES, shape.dim)
    theirs = to_faiss(index, num_probes=num_probes)
    found = index.search(queries, K, num_probes=num_probes)
    assert_same_answers(found, *ask_faiss(theirs, queries, K, metric))


def test_more_neighbours_than_items_and_empty_lists():
    index = random_index(Shape("ip", 9, 2, 5, 2, num_lists=30))
    queries = random_queries(5, 4)
    assert_same_answers(index.search(queries, 12), *ask_faiss(to_faiss(index), queries, 12, "ip"))


@pytest.mark.parametrize("family", ["product", "residual"])
@pytest.mark.parametrize("num_lists", [0, 5])
def test_vectors_that_faiss_adds_get_the_codes_of_the_layer(num_lists, family):
    torch = pytest.importorskip("torch")
    vectors = torch.randn(900, 16, generator=torch.Generator().manual_seed(0))
    settings = {"num_subspaces": 4, "num_codewords": 32, "num_lists": num_lists, "family": family}
    layer = poeem.IndexLayer(16, **settings)
    layer.warm_start(vectors[:600])
    index = poeem.build_index(layer, np.arange(600), vectors[:600], metric="l2")
    theirs = to_faiss(index)
    theirs.add(vectors[600:].numpy())
    whole = poeem.build_index(layer, np.arange(900), vectors, metric="l2")
    queries = random_queries(20, 16)
    assert_same_answers(whole.search(queries, 50), *ask_faiss(theirs, queries, 50, "l2"))


def one_length(rotation, num_lists=0):
    """Return an index of cosine whose items all have the same length, 3 times sqrt(2)."""
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, (2, 50))
    codebooks = 3 * np.stack([np.cos(angles), np.sin(angles)], axis=-1).astype(np.float32)
    parts = {"rotation": random_index(Shape("ip", 5, 2, 3, 2, rotation=True)).rotation}
    return poeem.build_index_from_codes(
        codes=rng.integers(0, 50, (300, 2)),
        codebooks=codebooks,
        metric="cosine",
        **(parts if rotation else {}),
    )


@pytest.mark.parametrize("rotation", [True, False])
def test_cosine_of_items_of_one_length(rotation):
    index = one_length(rotation)
    queries = 5 * random_queries(30, 4)
    assert_same_answers(index.search(queries, 20), *ask_faiss(to_faiss(index), queries, 20, "ip"))


@pytest.mark.parametrize("num_lists", [0, 4])
def test_cosine_of_items_of_many_lengths_is_refused(num_lists, tmp_path):
    index = random_index(Shape("cosine", 50, num_lists=num_lists))
    with pytest.raises(UnsupportedIndexError, match=r"lengths of items go from .* metric ip or l2"):
        export_faiss(index, tmp_path / "index.faiss")
    assert not list(tmp_path.iterdir())


class FullDisk:
    """A file that takes no more."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def write(self, data):
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_an_error_and_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "index.faiss"
    path.write_bytes(b"before")
    monkeypatch.setattr(faiss_export, "open", FullDisk, raising=False)
    with pytest.raises(poeem.SaveError, match="No space left"):
        export_faiss(random_index(Shape()), path)
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["index.faiss"]


def test_what_cannot_be_asked():
    with pytest.raises(poeem.ConfigError, match="num_probes: got 0"):
        to_faiss(random_index(Shape(num_lists=3)), num_probes=0)


def test_the_comparison_can_fail():
    index = random_index(Shape("ip", 300, 4, 64, 2))
    queries = random_queries(5, 8)
    found = index.search(queries, K)
    ids, scores = found.ids.copy(), found.scores.copy()
    ids[2, 3] = 10**6
    with pytest.raises((AssertionError, KeyError)):
        assert_same_answers(found, ids, scores)
    with pytest.raises(AssertionError):
        assert_same_answers(SearchResult(found.ids, found.scores + 1e-3), found.ids, scores)
