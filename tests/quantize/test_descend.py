"""Native product codes of the least cost, one at a time, are those of a slow loop in NumPy."""

import numpy as np
import pytest
import torch

from poeem import _native
from poeem.errors import ConfigError, ShapeError
from poeem.index import available_kernels
from poeem.quantize import product

KERNELS = [str(kernel["name"]) for kernel in available_kernels() if kernel["supported"]]


def descend(codes, *arrays, num_passes=20, num_threads=1, kernel=""):
    changed = codes.copy()
    _native.descend(changed, *arrays, num_passes=num_passes, num_threads=num_threads, kernel=kernel)
    return changed


def slow(codes, vectors, codebooks, along, num_passes=20):
    codes = codes.copy()
    width = codebooks.shape[2]
    slices = [slice(m * width, (m + 1) * width) for m in range(len(codebooks))]
    for x, a, code in zip(vectors, along, codes, strict=True):
        for _ in range(num_passes):
            before = code.copy()
            for m, book in enumerate(codebooks):
                costs = []
                for word in book:
                    error = x.astype(np.float64).copy()
                    for n, part in enumerate(slices):
                        error[part] -= word if n == m else codebooks[n][code[n]]
                    costs.append(error @ error + (error @ a) ** 2)
                code[m] = np.argmin(costs)
            if (code == before).all():
                break
    return codes


def integers(rng, n, num_subspaces, num_codewords, width):
    """Return a problem whose sums are exact in any order, so that even ties are broken alike."""
    vectors = rng.integers(-6, 7, (n, num_subspaces * width)).astype(np.float32)
    codebooks = rng.integers(-5, 6, (num_subspaces, num_codewords, width)).astype(np.float32)
    along = rng.integers(-2, 3, vectors.shape).astype(np.float32)
    codes = rng.integers(0, num_codewords, (n, num_subspaces))
    return codes, vectors, codebooks, along


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("num_codewords", [1, 2, 31, 32, 33, 70])
@pytest.mark.parametrize(("num_subspaces", "width"), [(1, 3), (3, 1), (4, 2)])
def test_codes_are_those_of_the_slow_loop(kernel, num_codewords, num_subspaces, width):
    problem = integers(np.random.default_rng(0), 20, num_subspaces, num_codewords, width)
    np.testing.assert_array_equal(descend(*problem, kernel=kernel), slow(*problem))
    once = descend(*problem, kernel=kernel, num_passes=1)
    np.testing.assert_array_equal(once, slow(*problem, num_passes=1))
    np.testing.assert_array_equal(descend(*problem, kernel=kernel, num_passes=0), problem[0])


def test_threads_change_nothing():
    problem = integers(np.random.default_rng(1), 2000, 4, 40, 2)
    alone = descend(*problem)
    for num_threads in (2, 3, 16):
        np.testing.assert_array_equal(descend(*problem, num_threads=num_threads), alone)


def test_codes_of_real_numbers_cost_as_little_as_torch_s():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 32, generator=generator)
    codebooks = torch.randn(8, 256, 4, generator=generator)
    along = 2 * torch.nn.functional.normalize(x, dim=1)
    plain = product.assign(x, codebooks)
    twin = product.descend_by_torch(x.double(), codebooks.double(), along.double(), plain)
    found = product.assign(x, codebooks, along)
    assert (found != twin).any(1).float().mean() < 0.02  # near-ties

    def costs(codes):
        error = x - product.decode(codes, codebooks)
        return error.square().sum(1) + (error * along).sum(1).square()

    assert abs(costs(found).mean() / costs(twin).mean() - 1) < 1e-3
    assert costs(found).mean() < 0.8 * costs(plain).mean()


def test_numbers_beyond_all_order_still_give_codes():
    codes, vectors, codebooks, along = integers(np.random.default_rng(0), 4, 2, 40, 2)
    vectors[0], along[1], vectors[2] = np.nan, np.inf, 3e38
    found = descend(codes, vectors, codebooks, along)
    assert found.min() >= 0
    assert found.max() < 40


def test_bad_arguments_are_refused():
    codes, vectors, codebooks, along = integers(np.random.default_rng(0), 4, 2, 5, 2)
    with pytest.raises(ShapeError, match="one width"):
        descend(codes, vectors[:, :3].copy(), codebooks, along)
    with pytest.raises(ShapeError, match="along"):
        descend(codes, vectors, codebooks, along[:2].copy())
    with pytest.raises(ShapeError, match="codes"):
        descend(codes[:, :1].copy(), vectors, codebooks, along)
    for wrong in (-1, 5):
        bad = codes.copy()
        bad[3, 1] = wrong
        with pytest.raises(ShapeError, match="codes: wanted numbers of codewords"):
            descend(bad, vectors, codebooks, along)
    with pytest.raises(ConfigError, match="num_threads"):
        descend(codes, vectors, codebooks, along, num_threads=0)
    with pytest.raises(ConfigError, match="num_passes"):
        descend(codes, vectors, codebooks, along, num_passes=-1)
