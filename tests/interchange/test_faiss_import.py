"""An index of Faiss becomes one of ours with the same answers; what cannot is refused by name."""

import numpy as np
import pytest

import poeem
from poeem.errors import IdError, NotAnIndexError, UnsupportedIndexError
from poeem.interchange.faiss_export import to_faiss
from poeem.interchange.faiss_import import import_faiss
from tests.index.helpers import Shape, random_index, random_queries
from tests.interchange.helpers import assert_same_answers
from tests.interchange.test_faiss_export import ask_faiss, one_length

faiss = pytest.importorskip("faiss")
DIM, NUM_ITEMS = 16, 700


@pytest.fixture(scope="module")
def vectors():
    return random_queries(NUM_ITEMS, DIM, seed=5)


def trained(description, vectors, metric, **fields):
    """Let Faiss train and fill an index, as a user of Faiss has one."""
    number = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    index = faiss.index_factory(DIM, description, number)
    inner = faiss.extract_index_ivf(index) if "IVF" in description else None
    for name, value in fields.items():
        setattr(inner, name, value)
    if "OPQ" in description:  # its defaults take seconds
        rotation = faiss.downcast_VectorTransform(index.chain.at(0))
        rotation.niter, rotation.niter_pq, rotation.niter_pq_0 = 2, 2, 2
        rotation.pq = pq = faiss.ProductQuantizer(DIM, 4, 4)
        assert pq  # Faiss does not own it
    index.train(vectors)
    index.add(vectors)
    if inner is not None:
        inner.nprobe = inner.nlist
    return index


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize(
    "description",
    [
        "PQ4x6np",
        "PQ8x4np",
        "PQ2x9np",
        "IVF8,PQ4x6np",
        "OPQ4,PQ4x4np",
        "OPQ4,IVF8,PQ4x6np",
        "RR,PQ4x4np",
        "RQ3x5",
        "RQ1x6_2x4",
        "IVF8,RQ3x5",
        "OPQ4,IVF8,RQ3x4",
        "LSQ3x4",
        "IVF8,LSQ3x4",
    ],
)
def test_the_same_answers(description, metric, vectors, tmp_path):
    theirs = trained(description, vectors, metric)
    faiss.write_index(theirs, str(tmp_path / "index.faiss"))
    index = import_faiss(tmp_path / "index.faiss")
    assert (len(index), index.dim, index.metric) == (NUM_ITEMS, DIM, metric)
    assert index.num_lists == (8 if "IVF" in description else 0)
    queries = random_queries(50, DIM)
    assert_same_answers(index.search(queries, 100), *ask_faiss(theirs, queries, 100, metric))
    assert index.lineage["imported_from"].startswith("faiss Index")
    in_memory = import_faiss(theirs)
    assert np.array_equal(in_memory.codes, index.codes)
    assert np.array_equal(in_memory.codebooks, index.codebooks)


@pytest.mark.parametrize("description", ["PQ4x4np", "IVF8,PQ4x4np", "RR,IVF8,PQ4x4np"])
def test_ids_are_kept(description, vectors):
    inner = faiss.index_factory(DIM, description)
    theirs = faiss.IndexIDMap2(inner) if "IVF" not in description else inner
    theirs.train(vectors)
    ids = np.random.default_rng(0).permutation(NUM_ITEMS).astype(np.int64) * 10**10 + 3
    theirs.add_with_ids(vectors, ids)
    if "IVF" in description:
        faiss.extract_index_ivf(theirs).nprobe = 8
    index = import_faiss(theirs)
    assert np.array_equal(np.sort(index.ids), np.sort(ids))
    queries = random_queries(30, DIM)
    assert_same_answers(index.search(queries, 20), *ask_faiss(theirs, queries, 20, "l2"))


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_codes_that_are_not_of_residuals(metric, vectors):
    theirs = trained("IVF8,PQ4x4np", vectors, metric, by_residual=False)
    index = import_faiss(theirs)
    assert index.num_lists == 0
    assert index.lineage["lists"] == "dropped: codes are not of residuals"
    queries = random_queries(30, DIM)
    assert_same_answers(index.search(queries, 40), *ask_faiss(theirs, queries, 40, metric))


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("num_lists", [0, 7])
@pytest.mark.parametrize("num_codewords", [16, 100, 256])
@pytest.mark.parametrize("family", ["product", "residual"])
def test_there_and_back(metric, num_lists, num_codewords, family):
    options = {"rotation": True, "ids": "int64", "family": family}
    shape = Shape(metric, 400, 3, num_codewords, 4, num_lists, **options)
    index = random_index(shape)
    again = import_faiss(to_faiss(index), renumber=False)
    assert again.family == family
    assert np.array_equal(again.ids, index.ids)
    assert np.array_equal(again.codes, index.codes)
    assert np.array_equal(again.codebooks[:, :num_codewords], index.codebooks)
    assert np.array_equal(again.rotation, index.rotation)
    queries = random_queries(20, shape.dim)
    wanted = index.search(queries, 30)
    for same in (again, import_faiss(to_faiss(index))):
        found = same.search(queries, 30)
        assert np.array_equal(found.ids, wanted.ids)
        assert np.array_equal(found.scores, wanted.scores)  # to the bit: the same parts


def test_cosine_there_and_back():
    index = one_length(rotation=True)
    again = import_faiss(to_faiss(index))
    assert again.metric == "cosine"
    queries = random_queries(20, 4)
    found = again.search(queries, 30)
    assert_same_answers(index.search(queries, 30), found.ids, found.scores)


UNKNOWN = {
    "Flat": "IndexFlat: wanted one of IndexPQ",
    "HNSW8": "IndexHNSWFlat",
    "SQ8": "IndexScalarQuantizer",
    "IVF8,Flat": "IndexIVFFlat",
    "IVF8,PQ4x4fs": "IndexIVFPQFastScan",
    "PQ4x4fs": "IndexPQFastScan",
    "IVF8,PQ4+4": "IndexIVFPQR",
    "PQ4x4np,RFlat": "IndexRefineFlat",
    "LSH": "IndexLSH",
}


@pytest.mark.parametrize("description", UNKNOWN)
def test_other_kinds_are_refused_by_name(description):
    with pytest.raises(UnsupportedIndexError, match=UNKNOWN[description]):
        import_faiss(faiss.index_factory(DIM, description))


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("PCA8,PQ4x4np", "PCAMatrix: from 16 to 8 dimensions"),
        ("L2norm,PQ4x4np", "NormalizationTransform: wanted norm 2 before an inner product"),
    ],
)
def test_transforms_are_refused_by_name(description, message, vectors):
    with pytest.raises(UnsupportedIndexError, match=message):
        import_faiss(trained(description, vectors, "l2"))


def test_transforms_that_are_no_rotation():
    def behind(transform, metric="ip"):
        inner = to_faiss(random_index(Shape(metric, 50, 4, 16, 4)))
        return faiss.IndexPreTransform(transform, inner)

    stretched = faiss.LinearTransform(16, 16, False)
    faiss.copy_array_to_vector(2 * np.eye(16, dtype=np.float32).ravel(), stretched.A)
    stretched.is_trained = True
    with pytest.raises(UnsupportedIndexError, match="off the identity by 3"):
        import_faiss(behind(stretched))
    moved = faiss.LinearTransform(16, 16, True)
    faiss.copy_array_to_vector(np.eye(16, dtype=np.float32).ravel(), moved.A)
    faiss.copy_array_to_vector(np.ones(16, dtype=np.float32), moved.b)
    moved.is_trained = True
    with pytest.raises(UnsupportedIndexError, match="adds a bias"):
        import_faiss(behind(moved))
    with pytest.raises(UnsupportedIndexError, match="lengths of items are off 1 by"):
        import_faiss(behind(faiss.NormalizationTransform(16, 2.0)))
    centering = faiss.CenteringTransform(16)
    centering.train(random_queries(20, 16))
    with pytest.raises(UnsupportedIndexError, match="CenteringTransform: wanted rotations"):
        import_faiss(behind(centering))


def test_other_metrics_and_empty_indexes():
    index = to_faiss(random_index(Shape("l2")))
    index.metric_type = faiss.METRIC_L1
    with pytest.raises(UnsupportedIndexError, match="metric_type is 2, wanted METRIC_INNER"):
        import_faiss(index)
    with pytest.raises(UnsupportedIndexError, match="IndexPQ: it is empty"):
        import_faiss(faiss.IndexPQ(8, 4, 4))
    with pytest.raises(UnsupportedIndexError, match="IndexBinaryFlat: wanted a path or an index"):
        import_faiss(faiss.IndexBinaryFlat(8))


def test_an_id_twice(vectors):
    theirs = faiss.index_factory(DIM, "IDMap2,PQ4x4np")
    theirs.train(vectors)
    theirs.add_with_ids(vectors[:3], np.array([4, 5, 4]))
    with pytest.raises(IdError, match="1 duplicates"):
        import_faiss(theirs)


@pytest.mark.parametrize("content", [b"", b"IxPT", b"not an index at all"])
def test_files_that_faiss_cannot_read(content, tmp_path):
    path = tmp_path / "x.faiss"
    path.write_bytes(content)
    with pytest.raises(NotAnIndexError, match=r"x\.faiss: Faiss cannot read it: Error"):
        import_faiss(path)
    with pytest.raises(NotAnIndexError, match="nothing"):
        import_faiss(tmp_path / "nothing")


def test_every_truncation_of_a_file_is_an_error(tmp_path):
    path = tmp_path / "x.faiss"
    index = random_index(Shape("l2", 30, 2, 16, 2, num_lists=3, rotation=True))
    faiss.write_index(to_faiss(index), str(path))
    whole = path.read_bytes()
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(poeem.PoeemError):
            import_faiss(path)


def test_an_id_map_that_does_not_fit_its_lists_is_refused():
    """As Faiss's own remove_ids leaves it."""
    rng = np.random.default_rng(0)
    theirs = faiss.index_factory(16, "IDMap2,IVF8,PQ4x4np")
    x = rng.standard_normal((500, 16)).astype(np.float32)
    theirs.train(x)
    theirs.add_with_ids(x, np.arange(500) + 1000)
    theirs.remove_ids(np.arange(1000, 1010))
    with pytest.raises(UnsupportedIndexError, match="its id map 490 of them"):
        import_faiss(theirs)
