"""A layer in other surroundings: autocast, default dtypes, devices, frozen and missing parts."""

import numpy as np
import pytest
import torch

import poeem
from poeem.errors import DtypeError, NotWarmError, ShapeError
from poeem.quantize.layer_state import Phase
from poeem.quantize.rotation import balanced_rotation, orthonormality_error
from poeem.quantize.warm_start import query_metric

BFLOAT = {"device_type": "cpu", "dtype": torch.bfloat16}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def small(family="product", **settings):
    sizes = {"num_subspaces": 4, "num_codewords": 16, "num_samples": 512}
    return poeem.IndexLayer(dim=16, family=family, **{**sizes, **settings})


@pytest.mark.parametrize("family", ["product", "residual"])
@pytest.mark.parametrize("num_lists", [0, 4])
def test_autocast_changes_nothing(family, num_lists):
    x, q = drawn(400, 16), drawn(100, 16, seed=1)
    plain, cast = (small(family, num_lists=num_lists, rotation=True) for _ in range(2))
    plain.warm_start(x, q)
    plain.refit(x)
    with torch.autocast(**BFLOAT):
        cast.warm_start(x, q)
        cast.refit(x)
        health = cast.health(x)
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), cast.parameters(), strict=True)
    )
    assert health == plain.health(x)
    codes, lists = plain.encode(x)
    with torch.autocast(**BFLOAT):
        found, _ = cast.lookup(codes, lists)
    assert torch.equal(found, plain.lookup(codes, lists)[0])


def test_added_lists_are_the_same_under_autocast_and_in_inference_mode():
    layers = []
    for surroundings in (torch.enable_grad(), torch.autocast(**BFLOAT), torch.inference_mode()):
        layer = small(rotation=True)
        layer.warm_start(drawn(400, 16))
        with surroundings:
            layer.add_lists(0.01 * drawn(8, 16, seed=2))
        layer.train()(drawn(32, 16, seed=3)).loss.backward()
        layers.append(layer)
    assert all(torch.equal(layers[0].centroids, other.centroids) for other in layers[1:])


def test_a_rotation_stays_one_when_its_step_is_inside_autocast():
    rotation = torch.nn.Parameter(torch.eye(32))
    optimizer = poeem.GivensDescent([rotation], lr=1e-2)
    for step in range(100):
        rotation.grad = drawn(32, 32, seed=step)
        with torch.autocast(**BFLOAT):
            optimizer.step()
    assert orthonormality_error(rotation) < 1e-5


def test_parameters_are_float32_whatever_torch_prefers():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        layer = small("residual", num_lists=4, rotation=True)
    finally:
        torch.set_default_dtype(before)
    assert {part.dtype for part in layer.parameters()} | {layer.metric.dtype} == {torch.float32}
    layer.warm_start(drawn(400, 16))


def test_collected_samples_follow_the_layer():
    layer = small(pass_through_steps=0)
    layer.train()(drawn(32, 16))
    assert layer.phase is Phase.COLLECT
    assert {sample.device.type for sample in layer.to("meta")._samples} == {"meta"}


def test_vectors_without_data_are_refused():
    layer = small().to("meta")
    empty = torch.empty(600, 16, device="meta")
    for use in (layer, layer.warm_start):
        with pytest.raises(DtypeError, match="vectors: got a tensor on the meta device"):
            use(empty)
    with pytest.raises(DtypeError, match="items: got a tensor on the meta device"):
        poeem.in_batch_softmax(empty, empty, temperature=1.0)


def test_refit_weighs_errors_by_queries_where_codewords_are():
    """Rotation and codebooks turned together are the same T, and so is a refit of it."""
    x, q = drawn(1000, 16), drawn(1000, 16, seed=1) * torch.logspace(0.5, -1.5, 16)
    layer = small("residual", rotation=True, query_power=1.0, num_samples=1000)
    layer.warm_start(x, q)
    turn = torch.linalg.qr(drawn(16, 16, seed=5))[0]
    with torch.no_grad():
        layer.codebooks.copy_(layer.codebooks @ turn.T)
        layer.rotation.copy_(turn)
    layer.refit(x, q)
    assert torch.allclose(layer.metric, query_metric(q @ turn.T, 1.0), atol=1e-4)
    error = (q @ (x - layer.decode(*layer.encode(x))).T).square().mean()
    plain = small("residual", rotation=False, query_power=1.0, num_samples=1000)
    plain.warm_start(x, q)
    plain.refit(x, q)
    expected = (q @ (x - plain.decode(*plain.encode(x))).T).square().mean()
    assert error < 1.3 * expected


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_variance_is_dealt_out_whatever_its_scale(scale):
    vectors = drawn(2000, 8).double() * 2.0 ** -torch.arange(8) * scale
    spread = (vectors @ balanced_rotation(vectors, 4).T).var(0).view(4, 2).prod(1)
    assert spread.max() < 3 * spread.min()


def test_frozen_layers_stay_frozen_with_lists_and_their_lists_short():
    x = torch.nn.functional.normalize(drawn(2000, 16), dim=1)
    layer = small(num_samples=2000, revive_window=4)
    layer.warm_start(x)
    layer.requires_grad_(False)
    routes = 0.01 * torch.nn.functional.normalize(drawn(32, 16, seed=2), dim=1)
    routes[16:] = routes[:1]  # nothing is nearest to these
    layer.add_lists(routes)
    added = layer.centroids.clone()
    assert not layer.centroids.requires_grad
    layer.train()
    for step in range(20):
        layer(x[torch.randint(2000, (128,), generator=torch.Generator().manual_seed(step))])
    assert torch.equal(layer.centroids, added)
    layer.centroids.requires_grad_(True)
    for step in range(20):
        layer(x[torch.randint(2000, (128,), generator=torch.Generator().manual_seed(step))])
    assert not torch.equal(layer.centroids, added)  # revived,
    assert layer.centroids.norm(dim=1).max() < 0.02  # as short as the others


def test_lists_beyond_the_sample_leave_a_layer_that_can_be_made_again():
    layer = small(num_samples=16)
    layer.warm_start(drawn(16, 16))
    layer.add_lists(0.01 * drawn(40, 16, seed=1))
    again = poeem.IndexLayer.from_config(16, layer.config)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again.centroids, layer.centroids)


def test_a_part_of_a_layer_is_not_loaded_even_if_less_will_do():
    warm, cold = small("residual"), small("residual")
    warm.warm_start(drawn(400, 16))
    state = {name: value for name, value in warm.state_dict().items() if name != "metric"}
    with pytest.raises(RuntimeError, match="lacks metric, wanted all of a layer or none"):
        cold.load_state_dict(state, strict=False)
    assert cold.phase is Phase.PASS_THROUGH
    assert not cold.codebooks.any()


def test_codes_of_two_bytes_can_be_decoded_as_they_come():
    layer = small(num_codewords=300)
    layer.warm_start(drawn(400, 16))
    vectors = drawn(50, 16, seed=1).numpy()
    vectors.flags.writeable = False
    codes, _ = layer.encode_numpy(vectors)
    assert codes.dtype == np.uint16
    assert layer.decode(torch.from_numpy(codes)).shape == (50, 16)
    again, _ = layer.encode_numpy(torch.tensor(vectors))  # what is no array is taken too
    assert np.array_equal(again, codes)


def test_lookup_wants_what_decode_wants():
    layer, codes = small(num_lists=4), torch.zeros(3, 4, dtype=torch.int64)
    with pytest.raises(NotWarmError):
        layer.lookup(codes, codes[:, 0])
    layer.warm_start(drawn(400, 16))
    with pytest.raises(ShapeError, match="lists: got none"):
        layer.lookup(codes)


def test_a_power_of_0_is_the_plain_distance():
    layer = small("residual", query_power=0.0)
    layer.warm_start(drawn(400, 16), drawn(100, 16, seed=1))
    assert layer.export_parts().encoding.error_metric is None


def test_health_of_nothing_is_not_a_number():
    layer = small()
    layer.warm_start(drawn(400, 16))
    assert np.isnan(layer.health().used_codewords)
