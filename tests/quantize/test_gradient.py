"""Gradients: straight through to the vectors, exact to the parts of the quantizer."""

import pytest
import torch

from poeem.quantize.layer import IndexLayer

from .test_rotation import random_rotation


def literal_layer(**settings):
    """Two subspaces of width 1, codewords 0 and 10, no rotation: everything by hand."""
    defaults = {"family": "product", "num_subspaces": 2, "num_codewords": 2, "gradient": "both"}
    layer = IndexLayer(2, **(defaults | {"rotation": False} | settings))
    layer.warm_start(torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
    with torch.no_grad():
        layer.codebooks.copy_(torch.tensor([[[0.0], [10.0]], [[0.0], [10.0]]]))
    return layer


def test_straight_through_to_the_vectors():
    layer = literal_layer()
    x = torch.tensor([[1.0, 9.0]], requires_grad=True)
    out = layer(x)
    assert out.vectors.tolist() == [[0.0, 10.0]]
    (out.vectors * torch.tensor([[3.0, -2.0]])).sum().backward()
    assert x.grad.tolist() == [[3.0, -2.0]]
    assert layer.codebooks.grad.tolist() == [[[3.0], [0.0]], [[0.0], [-2.0]]]


def test_gradient_to_the_vectors_only():
    layer = literal_layer(gradient="vectors")
    x = torch.tensor([[1.0, 9.0]], requires_grad=True)
    out = layer(x)
    assert out.vectors.tolist() == [[0.0, 10.0]]
    out.vectors.sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0]]
    assert layer.codebooks.grad is None


def test_distortion_moves_codewords_and_commitment_moves_vectors():
    layer = literal_layer(distortion_weight=3.0, commitment_weight=0.5)
    x = torch.tensor([[1.0, 9.0]], requires_grad=True)
    out = layer(x)
    assert out.distortion.item() == out.commitment.item() == 2.0
    assert out.loss.item() == 7.0
    out.loss.backward()
    assert layer.codebooks.grad.tolist() == [[[-6.0], [0.0]], [[0.0], [6.0]]]
    assert x.grad.tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize("family", ["product", "residual"])
@pytest.mark.parametrize("num_lists", [0, 3])
def test_parts_get_the_exact_gradient_where_codes_stay(num_lists, family):
    """T(x) as a function of rotation, centroids and codebooks, against finite differences."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    sizes = {"num_subspaces": 3, "num_codewords": 4, "num_lists": num_lists}
    layer = IndexLayer(6, family=family, rotation=True, gradient="both", **sizes).double()
    layer.warm_start(x)
    layer.eval()
    assert len(layer.rotation_parameters()) == 1
    weights = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    (layer(x).vectors * weights).sum().backward()
    for parameter in [*layer.rotation_parameters(), *layer.euclidean_parameters()]:
        flat, slope = parameter.data.view(-1), parameter.grad.view(-1)
        for place in range(0, len(flat), 5):
            values = []
            for shift in (1e-7, -1e-7):
                flat[place] += shift
                with torch.no_grad():
                    values.append((layer(x).vectors * weights).sum())
                flat[place] -= shift
            difference = (values[0] - values[1]) / 2e-7
            torch.testing.assert_close(difference, slope[place], atol=1e-5, rtol=1e-5)


def test_gradient_reaches_every_part():
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    sizes = {"num_subspaces": 2, "num_codewords": 8, "num_lists": 4}
    layer = IndexLayer(8, rotation=True, gradient="both", **sizes)
    layer.warm_start(x)
    (layer(x).vectors * torch.linspace(1, 2, 8)).square().sum().backward()
    for parameter in [x, *layer.rotation_parameters(), *layer.euclidean_parameters()]:
        assert parameter.grad.abs().sum() > 0


def test_lower_distortion_by_training_alone():
    """Adam and Givens descent on the distortion loss beat the warm start they begin from."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 16, generator=generator) @ random_rotation(16) * torch.linspace(0.1, 2, 16)
    layer = IndexLayer(
        16,
        family="product",
        num_subspaces=4,
        num_codewords=8,
        pass_through_steps=None,
        kmeans_iterations=1,
        rotation_iterations=0,
    )
    from poeem.quantize.givens import GivensDescent

    layer.warm_start(x)
    before = layer.health(x).distortion
    adam = torch.optim.Adam(layer.euclidean_parameters(), lr=0.02)
    givens = GivensDescent(layer.rotation_parameters(), lr=0.01)
    for _ in range(200):
        adam.zero_grad()
        givens.zero_grad()
        layer(x).loss.backward()
        adam.step()
        givens.step()
    assert layer.health(x).distortion < 0.95 * before


def test_coarse_vectors_are_the_centroids_with_a_straight_through_gradient():
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    sizes = {"num_subspaces": 2, "num_codewords": 8, "num_lists": 4}
    layer = IndexLayer(8, **sizes, rotation=True, pass_through_steps=None)
    assert layer(x).coarse_vectors is None
    layer.warm_start(x)
    out = layer(x)
    centroids = layer.centroids.detach() @ layer.rotation.detach()
    torch.testing.assert_close(out.coarse_vectors.detach(), centroids[out.lists])
    weights = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
    (out.coarse_vectors * weights).sum().backward()
    torch.testing.assert_close(x.grad, weights)
    by_list = torch.zeros(4, 8).index_add_(0, out.lists, weights) @ layer.rotation.detach().T
    torch.testing.assert_close(layer.centroids.grad, by_list)
