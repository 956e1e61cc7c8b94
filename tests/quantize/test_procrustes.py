"""The ways to move a rotation that Givens descent is compared with."""

import pytest
import torch

from poeem.errors import ConfigError
from poeem.quantize.procrustes import ParametrizedDescent, ProcrustesDescent
from poeem.quantize.rotation import orthonormality_error, procrustes

from .test_rotation import random_rotation


def distortion(rotation, x, q):
    return (x - q @ rotation).square().sum(1).mean()


def test_procrustes_descent_is_the_closed_form_in_one_step():
    generator = torch.Generator().manual_seed(0)
    x, q = torch.randn(2, 50, 6, generator=generator).unbind()
    rotation = torch.nn.Parameter(random_rotation(6))
    optimizer = ProcrustesDescent([rotation])
    (-(x * (q @ rotation)).sum()).backward()
    optimizer.step()
    torch.testing.assert_close(rotation.detach(), procrustes(x, q), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("orthogonal_map", ["cayley", "matrix_exp"])
def test_parametrized_descent_stays_orthonormal_and_finds_the_optimum(orthogonal_map):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=generator)
    start = random_rotation(6)
    turn = torch.linalg.matrix_exp(0.3 * (start.triu(1) - start.triu(1).T))
    q = x @ (turn @ start).T
    rotation = torch.nn.Parameter(start.clone())
    optimizer = ParametrizedDescent([rotation], lr=0.01, orthogonal_map=orthogonal_map)
    for _ in range(300):
        optimizer.zero_grad()
        distortion(rotation, x, q).backward()
        optimizer.step()
    assert orthonormality_error(rotation) < 1e-5
    assert distortion(rotation, x, q) < 1e-3 * distortion(start, x, q)


def test_bad_settings():
    square = torch.nn.Parameter(torch.eye(2))
    with pytest.raises(ConfigError, match="cayley or matrix_exp"):
        ParametrizedDescent([square], orthogonal_map="qr")
    with pytest.raises(ConfigError, match="at least 0"):
        ParametrizedDescent([square], lr=-1)
    with pytest.raises(ConfigError, match="wanted 0 to below 1"):
        ProcrustesDescent([square], momentum=1)
