"""Residual codes found by native code are those of the slow search in NumPy, but for rounding."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poeem import _native
from poeem.errors import ConfigError, ShapeError
from poeem.index import available_kernels, reference

KERNELS = [str(kernel["name"]) for kernel in available_kernels() if kernel["supported"]]
TOLERANCE = 1e-5  # of |x|^2: what float32 sums of so many terms may be off


def encode(vectors, codebooks, beam, *, num_threads=1, kernel="", along=None):
    return _native.encode_residual(
        vectors, codebooks, beam=beam, num_threads=num_threads, kernel=kernel, along=along
    )


def errors_of(vectors, codebooks, codes):
    rest = vectors.astype(np.float64)
    for m, words in enumerate(codebooks.astype(np.float64)):
        rest = rest - words[codes[:, m]]
    return np.square(rest).sum(axis=1)


def random_problem(rng, n, dim, num_subspaces, num_codewords):
    """Return vectors and codebooks that get finer, as trained ones do."""
    vectors = rng.standard_normal((n, dim)).astype(np.float32)
    codebooks = rng.standard_normal((num_subspaces, num_codewords, dim))
    codebooks *= 0.8 ** np.arange(num_subspaces)[:, None, None]
    return vectors, codebooks.astype(np.float32)


def assert_like_reference(vectors, codebooks, beam, codes):
    wanted = reference.encode_residual(vectors, codebooks, beam)
    scale = np.square(vectors.astype(np.float64)).sum(axis=1).max() + 1
    got, best = errors_of(vectors, codebooks, codes), errors_of(vectors, codebooks, wanted)
    differs = (codes != wanted).any(axis=1)
    # A near-tie on the way may lead elsewhere, seldom; everything else is the same code.
    assert differs.mean() <= 0.05
    assert np.median(np.abs(got - best)) <= TOLERANCE * scale
    assert got.mean() <= best.mean() + 0.01 * scale


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    dim=st.integers(1, 33),
    num_subspaces=st.integers(1, 12),
    num_codewords=st.sampled_from([1, 2, 3, 15, 16, 63, 64, 65, 130]),
    beam=st.sampled_from([1, 2, 3, 8, 16, 70]),
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_codes_of_small_integers_are_exactly_the_reference_s(
    kernel, seed, dim, num_subspaces, num_codewords, beam
):
    # Sums of small integers are exact in any order, so that even ties must be broken alike.
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-8, 9, (40, dim)).astype(np.float32)
    codebooks = rng.integers(-3, 4, (num_subspaces, num_codewords, dim)).astype(np.float32)
    along = rng.integers(-2, 3, (40, dim)).astype(np.float32)
    for costly in (None, along):
        codes = encode(vectors, codebooks, beam, kernel=kernel, along=costly)
        wanted = reference.encode_residual(vectors, codebooks, beam, costly)
        np.testing.assert_array_equal(codes, wanted)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("beam", [1, 4, 40])
@pytest.mark.parametrize("num_vectors", [1, 60])
def test_many_codebooks_of_small_integers(kernel, beam, num_vectors):
    # Long enough that partial codes differ further back than products between codewords reach.
    rng = np.random.default_rng(beam)
    vectors = rng.integers(-8, 9, (num_vectors, 5)).astype(np.float32)
    codebooks = rng.integers(-2, 3, (24, 6, 5)).astype(np.float32)
    for along in (None, rng.integers(-2, 3, vectors.shape).astype(np.float32)):
        codes = encode(vectors, codebooks, beam, kernel=kernel, along=along)
        wanted = reference.encode_residual(vectors, codebooks, beam, along)
        np.testing.assert_array_equal(codes, wanted)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("n", "dim", "num_subspaces", "num_codewords", "beam"),
    [(200, 64, 8, 256, 1), (300, 64, 8, 256, 8), (60, 24, 20, 64, 4), (50, 8, 3, 300, 80)],
)
def test_codes_of_real_numbers_are_the_reference_s(
    kernel, n, dim, num_subspaces, num_codewords, beam
):
    vectors, codebooks = random_problem(
        np.random.default_rng(beam), n, dim, num_subspaces, num_codewords
    )
    codes = encode(vectors, codebooks, beam, kernel=kernel)
    assert_like_reference(vectors, codebooks, beam, codes)


@pytest.mark.parametrize("beam", [1, 6])
@pytest.mark.parametrize("costly", [False, True])
def test_threads_change_nothing(beam, costly):
    vectors, codebooks = random_problem(np.random.default_rng(0), 3000, 16, 6, 64)
    along = vectors / 4 if costly else None
    alone = encode(vectors, codebooks, beam, along=along)
    for num_threads in (2, 3, 16):
        together = encode(vectors, codebooks, beam, num_threads=num_threads, along=along)
        np.testing.assert_array_equal(together, alone)
    with ThreadPoolExecutor(4) as pool:
        for found in [pool.submit(encode, vectors, codebooks, beam, along=along) for _ in range(8)]:
            np.testing.assert_array_equal(found.result(), alone)


def test_a_wider_beam_errs_less():
    vectors, codebooks = random_problem(np.random.default_rng(0), 500, 16, 6, 64)
    means = [
        errors_of(vectors, codebooks, encode(vectors, codebooks, beam)).mean()
        for beam in (1, 2, 4, 8, 16)
    ]
    assert means == sorted(means, reverse=True)
    assert means[-1] < 0.9 * means[0]


def test_numbers_beyond_all_order_still_give_codes():
    _, codebooks = random_problem(np.random.default_rng(0), 1, 4, 3, 20)
    vectors = np.array([[np.nan] * 4, [np.inf] * 4, [3e38] * 4, [0] * 4], np.float32)
    for beam in (1, 5):
        codes = encode(vectors, codebooks, beam)
        assert codes.min() >= 0
        assert codes.max() < 20


def test_no_vectors_give_no_codes():
    codes = encode(np.zeros((0, 4), np.float32), np.zeros((3, 2, 4), np.float32), 2)
    assert codes.shape == (0, 3)


def test_bad_arguments_are_refused():
    vectors, codebooks = random_problem(np.random.default_rng(0), 3, 4, 2, 5)
    for beam in (0, 257):
        with pytest.raises(ConfigError, match="beam"):
            encode(vectors, codebooks, beam)
    with pytest.raises(ConfigError, match="num_threads"):
        encode(vectors, codebooks, 1, num_threads=0)
    with pytest.raises(ConfigError, match="POEEM_KERNEL"):
        encode(vectors, codebooks, 1, kernel="none such")
    with pytest.raises(ShapeError, match="one width"):
        encode(vectors[:, :3].copy(), codebooks, 1)
    with pytest.raises(ShapeError, match="along: wanted the shape of vectors"):
        encode(vectors, codebooks, 1, along=vectors[:2].copy())
    with pytest.raises(ShapeError, match="codewords"):
        encode(vectors, codebooks[:, :0].copy(), 1)
