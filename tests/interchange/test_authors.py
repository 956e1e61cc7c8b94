"""The authors' index file: read whole or refused, and searched by metrics that are right."""

import numpy as np
import pytest

import poeem
from poeem.errors import (
    CorruptIndexError,
    IndexFileError,
    InputError,
    NotAnIndexError,
    TruncatedIndexError,
)
from poeem.interchange.authors import import_authors_index
from tests.index.helpers import random_queries
from tests.interchange.authors_file import authors_bytes, random_file, vectors_of


def write(tmp_path, arrays, **changes):
    path = tmp_path / "items.index"
    path.write_bytes(authors_bytes(**(arrays | changes)))
    return path


def right_scores(metric, queries, vectors):
    """Return what the metrics mean, float64 [n, num_items]; of several heads the best."""
    heads = queries.astype(np.float64)
    if metric == "l2":
        scores = -((heads[:, :, None] - vectors[None, None]) ** 2).sum(-1)
    else:
        scores = heads @ vectors.T
    if metric == "cosine":
        scores /= np.linalg.norm(heads, axis=2)[:, :, None] * np.linalg.norm(vectors, axis=1)
    return scores.max(axis=1)


@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("num_heads", [1, 2, 5])
@pytest.mark.parametrize("num_codewords", [16, 256, 300])
@pytest.mark.parametrize("use_residual", [1, 0])
def test_scores_are_what_the_metrics_mean(metric, num_heads, num_codewords, use_residual, tmp_path):
    arrays = random_file(num_codewords=num_codewords)
    index = import_authors_index(write(tmp_path, arrays, use_residual=use_residual), metric=metric)
    assert index.num_lists == (6 if use_residual else 0)
    queries = random_queries(20, num_heads, 12)
    found = index.search(queries, 50)
    wanted = right_scores(metric, queries, vectors_of(arrays, use_residual))
    column = {int(item): i for i, item in enumerate(arrays["ids"])}
    for row in range(len(queries)):
        assert len(set(found.ids[row].tolist())) == 50  # theirs may name an item once per head
        mine = wanted[row][[column[int(item)] for item in found.ids[row]]]
        np.testing.assert_allclose(found.scores[row], mine, atol=1e-4)
        np.testing.assert_allclose(mine, -np.sort(-wanted[row])[:50], atol=1e-4)


def test_fewer_lists_are_those_of_the_metric(tmp_path):
    """A long centroid is far from a query by L2 and still the best by inner product."""
    arrays = random_file(num_lists=2)
    arrays["centroids"] = np.zeros((2, 12), dtype=np.float32)
    arrays["centroids"][0, 0], arrays["centroids"][1, 0] = 100, 0.5
    index = import_authors_index(write(tmp_path, arrays), metric="ip")
    query = np.zeros((1, 12), dtype=np.float32)
    query[0, 0] = 1
    first = set(arrays["ids"][arrays["assignments"] == 0].tolist())
    assert set(index.search(query, 50, num_probes=1).ids[0].tolist()) <= first


def test_where_theirs_is_wrong_ours_is_not(tmp_path):
    """Their three formulas, on two items each, against what the metrics mean.

    cosine <q, x> / (|q|^2 |x|): of a user's vectors a short one wins over a long one that fits.
    l2 |q|^2 + |x| - 2 <q, x>, with |x| for its square: a far item looks near.
    """
    codebook = np.array([[[1, 0], [0, 1], [3, 0], [0.9, 0.1]]], dtype=np.float32)
    arrays = {
        "codes": np.array([[0], [1], [2]]),
        "codebook": codebook,
        "ids": np.array([10, 11, 12]),
        "norms": np.array([1, 1, 3]),
        "centroids": np.zeros((1, 2)),
        "assignments": np.zeros(3, dtype=int),
    }
    path = write(tmp_path, arrays)
    vectors = vectors_of(arrays)
    queries = np.array([[[4, 0.4], [0.02, 0.1]]], dtype=np.float32)  # two vectors of one user
    lengths = np.linalg.norm(queries, axis=2)[:, :, None]
    theirs = (queries @ vectors.T / (lengths**2 * arrays["norms"])).max(axis=1)
    assert arrays["ids"][theirs[0].argmax()] == 11
    assert import_authors_index(path, metric="cosine").search(queries, 1).ids[0, 0] == 10

    query = np.array([[1.2, 0]], dtype=np.float32)
    theirs = (query**2).sum() + arrays["norms"] - 2 * (query @ vectors.T)[0]
    assert arrays["ids"][theirs.argmin()] == 12
    assert import_authors_index(path, metric="l2").search(query, 1).ids[0, 0] == 10


def test_items_of_norm_0_are_there_and_counted(tmp_path):
    arrays = random_file()
    arrays["norms"][:3] = 0
    index = import_authors_index(write(tmp_path, arrays))
    assert len(index) == 300
    assert index.lineage["items_of_norm_0"] == 3


def test_a_rotation_beside_the_file(tmp_path):
    arrays = random_file()
    rotation, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))
    rotation = rotation.astype(np.float32)
    path = write(tmp_path, arrays)
    queries = random_queries(10, 12)
    found = import_authors_index(path, rotation=rotation).search(queries, 10)
    rotated = import_authors_index(path).search(queries @ rotation.T, 10)
    assert np.array_equal(found.ids, rotated.ids)
    with pytest.raises(InputError, match="rotation: R R"):
        import_authors_index(path, rotation=2 * rotation)
    with pytest.raises(poeem.ConfigError, match="metric"):
        import_authors_index(path, metric="dot")


BIG = 2**62
HOSTILE = {
    "n beyond the file": ({"n": 301}, TruncatedIndexError, "bytes, wanted .* by its own numbers"),
    "n short of the file": ({"n": 299}, CorruptIndexError, "bytes, wanted .* by its own numbers"),
    "n that overflows": ({"n": BIG}, TruncatedIndexError, "wanted"),
    "n and D that overflow to little": ({"n": 2**32, "D": 12}, TruncatedIndexError, "wanted"),
    "d that overflows": ({"d": BIG}, TruncatedIndexError, "wanted"),
    "n_cluster that overflows": ({"n_cluster": 2**63 - 1}, TruncatedIndexError, "wanted"),
    "n of 0": ({"n": 0}, NotAnIndexError, "n: got 0, wanted at least 1"),
    "n below 0": ({"n": -1}, NotAnIndexError, "n: got -1"),
    "d of 0": ({"d": 0}, NotAnIndexError, "d: got 0"),
    "D of 0": ({"D": 0}, NotAnIndexError, "D: got 0"),
    "D below 0": ({"D": -4}, NotAnIndexError, "D: got -4"),
    "K of 1": ({"K": 1}, NotAnIndexError, "K: got 1, wanted at least 2"),
    "K beyond 16 bits": ({"K": 65_537}, NotAnIndexError, "K: got 65537, wanted at most 65536"),
    "n_cluster of 0": ({"n_cluster": 0}, NotAnIndexError, "n_cluster: got 0"),
    "d that D does not divide": ({"D": 5}, NotAnIndexError, "wanted a multiple of D=5"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_numbers_that_do_not_fit(name, tmp_path):
    counts, error, message = HOSTILE[name]
    path = write(tmp_path, random_file(), counts=counts)
    with pytest.raises(error, match=message) as caught:
        import_authors_index(path)
    assert str(caught.value).startswith(str(path))


def changed(name, place, value):
    arrays = random_file()
    arrays[name] = np.array(arrays[name])
    arrays[name][place] = value
    return arrays


CONTENT = {
    "a code beyond the codebook": ("codes", (7, 2), 20, "codes: got 20 in row 7, wanted below 20"),
    "an assignment beyond the lists": (
        *("assignments", 9, 6),
        "assignments: got 6 in row 9, wanted below 6",
    ),
    "an assignment of 2^32 - 1": ("assignments", 9, 2**32 - 1, "got 4294967295 in row 9"),
    "NaN in the codebook": ("codebook", (0, 0, 0), np.nan, "codebook: NaN or infinity"),
    "infinity in a centroid": ("centroids", (1, 1), np.inf, "centroids: NaN or infinity"),
    "NaN in the norms": ("norms", 4, np.nan, "norms: NaN or infinity"),
    "a norm below 0": ("norms", 4, -1, "norms: some are negative"),
    "the id -1": ("ids", 4, -1, "-1 in row 4"),
}


@pytest.mark.parametrize("name", CONTENT)
def test_content_that_cannot_be(name, tmp_path):
    array, place, value, message = CONTENT[name]
    with pytest.raises(CorruptIndexError, match=message):
        import_authors_index(write(tmp_path, changed(array, place, value)))


def test_an_id_twice(tmp_path):
    arrays = random_file()
    arrays["ids"][5] = arrays["ids"][6]
    with pytest.raises(CorruptIndexError, match="ids: 1 duplicates"):
        import_authors_index(write(tmp_path, arrays))


def test_use_residual_of_2(tmp_path):
    with pytest.raises(NotAnIndexError, match="use_residual: got 2, wanted 0 or 1"):
        import_authors_index(write(tmp_path, random_file(), use_residual=2))


def test_every_length_but_the_right_one_is_refused(tmp_path):
    path = write(tmp_path, random_file(num_items=5, num_codewords=3))
    whole = path.read_bytes()
    assert len(import_authors_index(path)) == 5
    for size in [*range(len(whole)), len(whole) + 1, 2 * len(whole)]:
        path.write_bytes((2 * whole)[:size])
        with pytest.raises((TruncatedIndexError, CorruptIndexError)):
            import_authors_index(path)


def test_any_bytes_are_read_or_refused(tmp_path):
    """Flip bytes at random: nothing but an error of ours, or an index that can be searched."""
    rng = np.random.default_rng(0)
    path = write(tmp_path, random_file(num_items=20, num_codewords=4, num_lists=2))
    whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    queries = random_queries(2, 12)
    refused = 0
    for _ in range(300):
        damaged = whole.copy()
        places = rng.integers(0, len(whole), 3)
        damaged[places] = rng.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            import_authors_index(path).search(queries, 5)
        except (IndexFileError, InputError):
            refused += 1
    assert 0 < refused < 300


def test_what_is_no_file(tmp_path):
    with pytest.raises(NotAnIndexError, match="no such file"):
        import_authors_index(tmp_path / "nothing")
    with pytest.raises(NotAnIndexError, match="not a regular file"):
        import_authors_index(tmp_path)
