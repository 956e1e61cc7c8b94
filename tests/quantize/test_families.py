"""Both families of codes, through the layer."""

import copy

import pytest
import torch

from poeem.errors import ConfigError
from poeem.quantize.layer import IndexLayer
from poeem.quantize.layer_state import Phase

FAMILIES = ["product", "residual"]


def warm(family, *, dim=6, **settings):
    defaults = {"num_subspaces": 3, "num_codewords": 8, "family": family}
    layer = IndexLayer(dim, **(defaults | settings))
    x = torch.randn(300, dim, generator=torch.Generator().manual_seed(0))
    layer.warm_start(x)
    return layer, x


def test_shapes_of_codebooks_and_whether_there_is_a_rotation():
    product, residual = (warm(family)[0] for family in FAMILIES)
    assert product.codebooks.shape == (3, 8, 2)
    assert residual.codebooks.shape == (3, 8, 6)
    assert product.rotation is not None
    assert residual.rotation is None
    assert warm("product", rotation=False)[0].rotation is None


def test_residual_codes_need_no_divisor_of_dim():
    layer, x = warm("residual", dim=7)
    assert layer(x).vectors.shape == x.shape
    with pytest.raises(ConfigError, match="multiple of num_subspaces"):
        IndexLayer(7, family="product", num_subspaces=3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num_lists", [0, 5])
@pytest.mark.parametrize("rotation", [True, False])
def test_forward_decodes_what_encode_returns(family, num_lists, rotation):
    layer, x = warm(family, num_lists=num_lists, rotation=rotation)
    out = layer.eval()(x)
    assert torch.equal(out.vectors, layer.decode(*layer.encode(x)))
    assert out.distortion.item() == pytest.approx((x - out.vectors).square().sum(1).mean().item())


@pytest.mark.parametrize("num_lists", [0, 5])
def test_residual_codes_of_vectors_turned_and_turned_back(num_lists):
    """A rotation changes nothing for codewords of full width, once it is the identity again."""
    layer, x = warm("residual", num_lists=num_lists, rotation=True)
    plain, _ = warm("residual", num_lists=num_lists)
    assert torch.equal(layer.encode(x)[0], plain.encode(x)[0])


@pytest.mark.parametrize("num_lists", [0, 3])
def test_residual_parts_get_the_exact_gradient_where_codes_stay(num_lists):
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layer = IndexLayer(
        6, family="residual", num_subspaces=3, num_codewords=4, num_lists=num_lists, gradient="both"
    ).double()
    layer.warm_start(x)
    weights = torch.randn(40, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (layer(x).vectors * weights).sum().backward()
    codes, lists = layer.encode(x)
    for parameter in layer.euclidean_parameters():
        for place in [(0, 0), (1, 3)]:
            spot = (0, *place) if parameter.dim() == 3 else place
            step = 1e-6
            with torch.no_grad():
                parameter[spot] += step
                up = (layer.decode(codes, lists) * weights).sum()
                parameter[spot] -= 2 * step
                down = (layer.decode(codes, lists) * weights).sum()
                parameter[spot] += step
            assert parameter.grad[spot].item() == pytest.approx(
                ((up - down) / (2 * step)).item(), abs=1e-6
            )


@pytest.mark.parametrize("family", FAMILIES)
def test_dead_codewords_are_revived(family):
    layer, x = warm(family, revive_window=4)
    with torch.no_grad():
        layer.codebooks[1, 3] = 1e3  # far from everything
    for _ in range(3):
        layer(x)
    assert layer.codebooks[1, 3].abs().max() < 10
    assert layer.health(x).used_codewords > 0.9


@pytest.mark.parametrize("family", FAMILIES)
def test_state_comes_back_to_the_bit(family):
    layer, x = warm(family, num_lists=4)
    other = IndexLayer.from_config(6, layer.config)
    other.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert other.phase is Phase.JOINT
    assert torch.equal(other(x).vectors, layer(x).vectors)


def test_a_wider_beam_loses_less():
    narrow, x = warm("residual", beam=1)
    wide = IndexLayer(6, family="residual", num_subspaces=3, num_codewords=8, beam=16)
    wide.load_state_dict(narrow.state_dict())
    assert wide.eval()(x).distortion < narrow.eval()(x).distortion
