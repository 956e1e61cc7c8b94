"""Orthonormal matrices."""

import torch

from poeem.quantize.rotation import (
    balanced_rotation,
    newton_schulz,
    orthonormality_error,
    procrustes,
)


def random_rotation(dim, seed=0):
    return torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed)))[0]


def test_orthonormality_error():
    assert orthonormality_error(torch.eye(3)) == 0
    assert orthonormality_error(2 * torch.eye(3)) == 3


def test_newton_schulz_squares_the_error():
    off = random_rotation(8) + 1e-3 * torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    before = orthonormality_error(off)
    after = orthonormality_error(newton_schulz(off))
    assert before > 1e-3
    assert after < 2 * before**2


def test_procrustes_finds_a_known_rotation():
    rotation = random_rotation(6)
    vectors = torch.randn(40, 6, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(procrustes(vectors, vectors @ rotation.T), rotation)


def test_balanced_rotation_evens_out_variance():
    scales = torch.tensor([100.0, 10.0, 1.0, 0.1])
    vectors = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0)) * scales
    rotation = balanced_rotation(vectors, 2)
    assert orthonormality_error(rotation) < 1e-5
    spread = (vectors @ rotation.T).var(0).view(2, 2).prod(1)
    assert 0.5 < spread[0] / spread[1] < 2  # 100 with 0.1, and 10 with 1
