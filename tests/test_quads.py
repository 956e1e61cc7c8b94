"""Codewords numbered so that near ones stand 64 apart: nothing changes but how much passes."""

import numpy as np
import pytest

import poeem
from poeem import _native
from poeem.errors import InputError
from poeem.index import reference
from poeem.quads import NUM_QUADS, quad_order, renumbered


def spread(words, order):
    """Mean squared distance of codewords from the mean of their quad."""
    quads = words[order].reshape(-1, NUM_QUADS, words.shape[1])
    return float(((quads - quads.mean(axis=0)) ** 2).sum(axis=2).mean())


@pytest.mark.parametrize("num_codewords", [128, 256])
@pytest.mark.parametrize("width", [1, 2, 8, 64])
def test_near_codewords_stand_64_apart(num_codewords, width):
    rng = np.random.default_rng(width)
    books = rng.standard_normal((3, num_codewords, width)).astype(np.float32)
    order = quad_order(books)
    assert (np.sort(order, axis=1) == np.arange(num_codewords)).all()
    for words, own in zip(books, order, strict=True):
        assert spread(words, own) < 0.8 * spread(words, np.arange(num_codewords))


def test_in_a_quad_those_128_apart_are_the_nearest():
    books = np.random.default_rng(5).standard_normal((1, 256, 3)).astype(np.float32)
    words = books[0][quad_order(books)[0]].reshape(4, NUM_QUADS, 3)

    def apart(i, j, k, m):
        return ((words[i] - words[j]) ** 2 + (words[k] - words[m]) ** 2).sum(axis=1)

    assert (apart(0, 2, 1, 3) <= np.minimum(apart(0, 1, 2, 3), apart(0, 3, 1, 2)) + 1e-6).all()


def test_clusters_of_four_become_quads():
    rng = np.random.default_rng(0)
    centers = 10 * rng.standard_normal((NUM_QUADS, 8))
    words = np.repeat(centers, 4, axis=0) + 0.01 * rng.standard_normal((256, 8))
    words = words[rng.permutation(256)].astype(np.float32)
    assert spread(words, quad_order(words[None])[0]) < 1e-2


def test_the_numbering_before_does_not_matter():
    rng = np.random.default_rng(1)
    books = rng.standard_normal((2, 256, 4)).astype(np.float32)
    mixed = np.stack([words[rng.permutation(256)] for words in books])
    first, second = (np.take_along_axis(b, quad_order(b)[:, :, None], 1) for b in (books, mixed))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(quad_order(first), np.tile(np.arange(256), (2, 1)))


@pytest.mark.parametrize("num_codewords", [2, 16, 64, 100, 300])
def test_other_numbers_of_codewords_stay(num_codewords):
    books = np.random.default_rng(2).standard_normal((2, num_codewords, 3)).astype(np.float32)
    assert (quad_order(books) == np.arange(num_codewords)).all()


def test_equal_codewords_are_numbered_too():
    books = np.zeros((1, 256, 2), dtype=np.float32)
    assert (np.sort(quad_order(books)) == np.arange(256)).all()


def test_codes_stand_for_the_same_codewords():
    rng = np.random.default_rng(3)
    books = rng.standard_normal((5, 256, 4)).astype(np.float32)
    codes = rng.integers(0, 256, (1000, 5)).astype(np.uint8)
    new_books, new_codes = renumbered(books, codes)
    rows = np.arange(5)
    np.testing.assert_array_equal(books[rows, codes], new_books[rows, new_codes])


def catalogue(metric, num_lists, width, rng):
    """Codes of which few pass the bounds of quads: residual codes, or slices."""
    family = "residual" if width == 16 else "product"
    books = rng.standard_normal((4, 256, width)).astype(np.float32)
    if family == "residual":
        books *= np.array([1, 0.5, 0.2, 0.1], dtype=np.float32)[:, None, None]
    parts = {"codes": rng.integers(0, 256, (30_000, 4)), "codebooks": books, "family": family}
    if num_lists:
        parts["centroids"] = rng.standard_normal((num_lists, 16)).astype(np.float32)
        parts["lists"] = rng.integers(0, num_lists, 30_000)
    return parts | {"metric": metric}


@pytest.mark.parametrize("kernel", [k["name"] for k in poeem.index.available_kernels()])
@pytest.mark.parametrize("metric", ["ip", "l2", "cosine"])
@pytest.mark.parametrize("num_lists", [0, 5])
@pytest.mark.parametrize("width", [4, 16])
def test_searches_are_exact_with_any_numbers(kernel, metric, num_lists, width, monkeypatch):
    known = {k["name"]: k["supported"] for k in poeem.index.available_kernels()}
    if not known[kernel]:
        pytest.skip(f"this machine cannot run {kernel}")
    monkeypatch.setenv("POEEM_KERNEL", kernel)
    rng = np.random.default_rng([num_lists, width])
    parts = catalogue(metric, num_lists, width, rng)
    queries = rng.standard_normal((5, 16)).astype(np.float32)
    plain = poeem.build_index_from_codes(**parts)
    anew = poeem.build_index_from_codes(**parts, renumber=True)
    assert (anew.codes != plain.codes).any()
    allowed = rng.random(30_000) < 0.5
    for k, flags in ((1, None), (10, None), (300, None), (10, allowed)):
        wanted = reference.search(plain._contents, queries[:, None], k, allowed=flags)
        for index in (plain, anew):
            for num_threads in (1, 3):
                found = index.search(queries, k, allowed=flags, num_threads=num_threads)
                np.testing.assert_array_equal(found.ids, wanted[0])
                np.testing.assert_array_equal(found.scores, wanted[1])


def scored(index, queries, k, **options):
    settings = {"num_probes": 0, "num_threads": 1, **options}
    return _native.count_scored(index._arrays, queries=queries[:, None], k=k, **settings)


@pytest.mark.parametrize("num_subspaces", [4, 20, 40])
@pytest.mark.parametrize("family", ["product", "residual"])
def test_less_sharp_looks_are_taken_and_little_passes(num_subspaces, family):
    if poeem.index.active_kernel() == "scalar":
        pytest.skip("it has no bounds")
    rng = np.random.default_rng(num_subspaces)
    width = 2 if family == "product" else 16
    books = rng.standard_normal((num_subspaces, 256, width)).astype(np.float32)
    if family == "residual":
        books *= (0.6 ** np.arange(num_subspaces, dtype=np.float32))[:, None, None]
    codes = rng.integers(0, 256, (100_000, num_subspaces))
    queries = rng.standard_normal((10, 2 * num_subspaces if family == "product" else 16))
    queries = queries.astype(np.float32)
    parts = {"codes": codes, "codebooks": books, "family": family}
    plain = poeem.build_index_from_codes(**parts)
    anew = poeem.build_index_from_codes(**parts, renumber=True)
    counts = [scored(index, queries, 10) for index in (plain, anew)]
    # Bounds of codewords do not depend on numbers; those of pairs and quads do.
    assert counts[0] != counts[1]
    assert max(counts) < 0.05 * len(queries) * len(codes)


def test_looks_that_fail_are_not_tried_for_ever():
    rng = np.random.default_rng(8)
    codes = rng.integers(1, 256, (400_000, 1))
    codes[rng.random(400_000) < 0.1] = 128  # whose pair is the best item's
    codes[200] = 0
    books = rng.standard_normal((1, 256, 2)).astype(np.float32)
    books[0, 0] = 9
    index = poeem.build_index_from_codes(codes=codes, codebooks=books)
    queries = np.ones((2, 2), dtype=np.float32)
    found = index.search(queries, 1)
    assert (found.ids == 200).all()
    if poeem.index.active_kernel() != "scalar":
        assert scored(index, queries, 1) < 20_000


def test_codes_of_eight_signed_bits():
    rng = np.random.default_rng(9)
    books = rng.standard_normal((3, 256, 2)).astype(np.float32)
    codes = rng.integers(0, 100, (500, 3)).astype(np.int8)
    plain, anew = (
        poeem.build_index_from_codes(codes=codes, codebooks=books, renumber=renumber)
        for renumber in (False, True)
    )
    np.testing.assert_array_equal(plain.reconstruct(range(500)), anew.reconstruct(range(500)))


def test_a_code_out_of_range_is_refused_before_it_is_renumbered():
    books = np.zeros((2, 256, 2), dtype=np.float32)
    with pytest.raises(InputError, match="code"):
        poeem.build_index_from_codes(codes=[[0, 256]], codebooks=books, renumber=True)


def test_a_layer_has_such_numbers_from_its_warm_start_on():
    torch = pytest.importorskip("torch")
    vectors = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    for family in ("product", "residual"):
        layer = poeem.IndexLayer(16, num_subspaces=4, family=family)
        layer.warm_start(vectors)
        books = layer.export_parts().codebooks
        for words in books:
            assert spread(words, np.arange(256)) == pytest.approx(
                spread(words, quad_order(words[None])[0]), rel=1e-6
            )
