"""The layer: phases, state, precision, revival, bad input."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from poeem.errors import (
    CheckpointError,
    ConfigError,
    DtypeError,
    InputError,
    NonFiniteError,
    NotWarmError,
    ShapeError,
)
from poeem.quantize import residual
from poeem.quantize.givens import GivensDescent
from poeem.quantize.layer import IndexLayer
from poeem.quantize.layer_state import Phase

SMALL = dict(family="product", num_subspaces=4, num_codewords=8)  # noqa: C408


def sample(n=64, dim=16, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def warm_layer(**settings):
    layer = IndexLayer(16, **(SMALL | dict(pass_through_steps=None) | settings))  # noqa: C408
    layer.warm_start(sample())
    return layer


@pytest.mark.parametrize("num_lists", [0, 5])
@pytest.mark.parametrize("rotation", [True, False])
def test_forward_is_the_paper_s_equation(num_lists, rotation):
    layer = warm_layer(num_lists=num_lists, rotation=rotation)
    x = sample(20, seed=1)
    out = layer(x)
    matrix = layer.rotation.detach() if rotation else torch.eye(16)
    for row in range(20):
        rotated = matrix @ x[row]
        base = torch.zeros(16)
        if num_lists:
            chosen = (layer.centroids - rotated).square().sum(1).argmin()
            assert out.lists[row] == chosen
            base = layer.centroids[chosen].detach()
        parts = (rotated - base).view(4, 4)
        for m in range(4):
            nearest = (layer.codebooks[m] - parts[m]).square().sum(1).argmin()
            assert out.codes[row, m] == nearest
        words = torch.cat([layer.codebooks[m, out.codes[row, m]].detach() for m in range(4)])
        torch.testing.assert_close(out.vectors[row].detach(), matrix.T @ (base + words))


def test_phases_follow_each_other():
    layer = IndexLayer(16, **SMALL, pass_through_steps=2, num_samples=100)
    seen = []
    for step in range(6):
        x = sample(40, seed=step)
        out = layer(x)
        seen.append(layer.phase)
        if layer.phase is not Phase.JOINT:
            assert out.codes is None
            assert torch.equal(out.vectors, x)
            assert out.loss == 0
    assert seen == [
        Phase.PASS_THROUGH,
        Phase.PASS_THROUGH,
        Phase.COLLECT,
        Phase.COLLECT,
        Phase.JOINT,
        Phase.JOINT,
    ]


def test_evaluation_mode_changes_nothing():
    layer = IndexLayer(16, **SMALL, pass_through_steps=0, num_samples=64).eval()
    for step in range(5):
        layer(sample(seed=step))
    assert layer.phase is Phase.PASS_THROUGH
    assert layer.num_steps == 0


def run(layer, steps, start=0):
    """Train for some steps on known data; return the outputs' vectors."""
    adam = torch.optim.SGD(layer.euclidean_parameters(), lr=0.05)
    givens = GivensDescent(layer.rotation_parameters(), lr=0.01, step_size="plain")
    outputs = []
    for step in range(start, start + steps):
        out = layer(sample(40, seed=step))
        outputs.append(out.vectors.detach())
        if out.codes is not None:
            adam.zero_grad()
            givens.zero_grad()
            out.loss.backward()
            adam.step()
            givens.step()
    return outputs


@pytest.mark.parametrize("stop", [1, 3, 4, 6, 9])
@pytest.mark.parametrize("num_lists", [0, 4])
def test_state_resumes_in_every_phase(stop, num_lists):
    settings = SMALL | dict(  # noqa: C408
        num_lists=num_lists, pass_through_steps=2, num_samples=150, revive_window=8
    )
    whole = run(IndexLayer(16, **settings), 12)
    first = IndexLayer(16, **settings)
    run(first, stop)
    second = IndexLayer(16, **settings)
    second.load_state_dict(load(save(first.state_dict())))  # through safetensors
    assert second.phase is first.phase
    for got, wanted in zip(run(second, 12 - stop, stop), whole[stop:], strict=True):
        assert torch.equal(got, wanted)


def test_state_inside_a_larger_model():
    def make():
        layer = IndexLayer(16, **SMALL, pass_through_steps=0, num_samples=100)
        return torch.nn.ModuleDict({"index": layer, "tower": torch.nn.Linear(2, 2)})

    first, second = make(), make()
    first["index"](sample(40))
    second.load_state_dict(first.state_dict())
    assert second["index"].phase is Phase.COLLECT
    assert torch.equal(second.state_dict()["index.samples"], sample(40))


def test_state_without_progress_is_refused_and_nothing_changes():
    layer, state = warm_layer(), warm_layer(seed=1).state_dict()
    before = copy.deepcopy(layer.state_dict())
    del state["progress"]
    with pytest.raises(CheckpointError, match="progress: got nothing"):
        layer.load_state_dict(state)
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())


def test_a_model_from_before_it_had_a_layer_can_be_loaded():
    tower = torch.nn.Linear(2, 2)
    model = torch.nn.ModuleDict({"index": IndexLayer(16, **SMALL), "tower": torch.nn.Linear(2, 2)})
    before = {f"tower.{name}": value for name, value in tower.state_dict().items()}
    found = model.load_state_dict(before, strict=False)
    assert {"index.codebooks", "index.progress"} <= set(found.missing_keys)
    assert torch.equal(model["tower"].weight, tower.weight)
    assert model["index"].phase is Phase.PASS_THROUGH
    with pytest.raises(RuntimeError, match=r"index\.progress"):
        model.load_state_dict(before)
    part = before | {"index.codebooks": model["index"].codebooks}
    with pytest.raises(CheckpointError, match="progress: got nothing"):  # of which phase?
        model.load_state_dict(part, strict=False)


def test_a_rotation_that_drifts_is_found_in_training():
    layer = warm_layer(family="product")
    adam = torch.optim.Adam(layer.parameters(), lr=1e-2)  # the rotation too, which is the mistake

    def train():
        for _ in range(250):
            adam.zero_grad()
            layer(sample(40)).loss.backward()
            adam.step()

    with pytest.raises(InputError, match=r"rotation: R R\^T is off .* poeem.GivensDescent"):
        train()


def test_bad_states_leave_the_phase():
    fresh, state = IndexLayer(16, **SMALL), warm_layer().state_dict()
    with pytest.raises(CheckpointError, match=r"progress: got \[7, 0, 0\]"):
        fresh.load_state_dict(state | {"progress": torch.tensor([7, 0, 0])})
    del state["codebooks"]
    with pytest.raises(RuntimeError, match="codebooks"):
        fresh.load_state_dict(state)
    assert fresh.phase is Phase.PASS_THROUGH


def test_state_in_half_precision_becomes_float32():
    state = {
        k: v.half() if v.is_floating_point() else v for k, v in warm_layer().state_dict().items()
    }
    layer = IndexLayer(16, **SMALL)
    layer.load_state_dict(state, assign=True)
    assert layer.codebooks.dtype == torch.float32
    layer(sample())


def test_decode_checks_its_input():
    plain, with_lists = warm_layer(), warm_layer(num_lists=4)
    codes, lists = with_lists.encode(sample())
    assert torch.equal(with_lists.decode(codes, lists), with_lists.eval()(sample()).vectors)
    cases = [
        (with_lists, (codes, None), ShapeError, "lists: got none"),
        (plain, (codes, lists), ShapeError, "lists: got some"),
        (plain, (codes[:, :3],), ShapeError, r"codes: got shape \[64, 3\], wanted \[n, 4\]"),
        (with_lists, (codes, lists[:5]), ShapeError, r"lists: got shape \[5\], wanted \[64\]"),
        (plain, (codes.float(),), DtypeError, "wanted integers"),
        (plain, (codes.numpy(),), DtypeError, "ndarray"),
        (plain, (codes + 5,), InputError, "wanted 0 to 7"),
        (with_lists, (codes, lists - 1), InputError, "lists: got values from -1"),
    ]
    for layer, arguments, error, message in cases:
        with pytest.raises(error, match=message):
            layer.decode(*arguments)


def test_same_seed_same_result():
    runs = [
        run(IndexLayer(16, **SMALL, pass_through_steps=0, num_samples=40, seed=seed), 8)[-1]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_deep_copy_is_independent():
    layer = warm_layer()
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.codebooks.zero_()
    assert layer.codebooks.abs().sum() > 0
    assert twin.phase is Phase.JOINT


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_inside_whatever_is_outside(dtype):
    layer = warm_layer()
    x = sample(30, seed=3).to(dtype)
    plain = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = layer(x)
    assert torch.equal(plain.codes, cast.codes)
    assert torch.equal(plain.codes, layer(x.float()).codes)
    assert cast.loss.dtype == torch.float32
    assert plain.vectors.dtype == dtype
    half = copy.deepcopy(layer).to(dtype)
    assert half.codebooks.dtype == torch.float32
    assert torch.equal(half(x).codes, plain.codes)
    # Once in double precision it stays no more exact than others.
    narrowed = copy.deepcopy(layer).double().to(dtype)
    assert {parameter.dtype for parameter in narrowed.parameters()} == {torch.float32}
    assert torch.equal(narrowed(x).codes, plain.codes)


def test_dead_codewords_are_revived():
    layer = warm_layer(revive_window=4)
    with torch.no_grad():
        layer.codebooks[:, 1:] = 1e3  # nothing will choose these
    for step in range(3):
        layer(sample(32, seed=step))
    health = layer.health(sample())
    assert health.used_codewords > 0.8
    assert layer.codebooks.abs().max() < 100


def test_dead_lists_are_revived():
    layer = warm_layer(num_lists=4, revive_window=4)
    with torch.no_grad():
        layer.centroids[1:] = 1e3
    for step in range(3):
        layer(sample(32, seed=step))
    assert layer.health(sample()).used_lists == 1


def test_revival_can_be_switched_off():
    layer = warm_layer(revive_window=0)
    with torch.no_grad():
        layer.codebooks[:, 1:] = 1e3
    for step in range(40):
        layer(sample(32, seed=step))
    assert layer.health().used_codewords == 1 / 8


def test_warm_start_uses_codewords_that_random_ones_do_not():
    """The paper's reason for the warm start (figure 2)."""
    x = 0.1 * sample(512)
    sizes = {"num_subspaces": 4, "num_codewords": 64}
    warm = IndexLayer(16, family="product", **sizes, pass_through_steps=None)
    warm.warm_start(x)
    cold = copy.deepcopy(warm)
    with torch.no_grad():
        cold.codebooks.copy_(torch.randn(4, 64, 4, generator=torch.Generator().manual_seed(5)))
    assert warm.health(x).used_codewords > 0.95
    assert cold.health(x).used_codewords < 0.5


def test_large_codebooks():
    layer = IndexLayer(
        4, num_subspaces=1, num_codewords=65_536, rotation=False, kmeans_iterations=1
    )
    x = sample(70_000, 4)
    layer.warm_start(x[:65_536])
    codes, lists = layer.encode_numpy(x[:100].numpy())
    assert codes.dtype == np.uint16
    assert lists is None
    assert layer.health(x[:65_536]).used_codewords > 0.99


@pytest.mark.parametrize("num_codewords", [2, 16, 256, 257])
def test_encode_numpy_dtypes(num_codewords):
    layer = IndexLayer(8, num_subspaces=2, num_codewords=num_codewords, num_lists=3)
    x = sample(300, 8)
    layer.warm_start(x)
    codes, lists = layer.encode_numpy(x.numpy())
    assert codes.dtype == (np.uint8 if num_codewords <= 256 else np.uint16)
    assert lists.dtype == np.int32
    assert codes.max() < num_codewords


def test_codes_before_the_warm_start():
    layer = IndexLayer(16, **SMALL)
    for ask in (lambda: layer.encode(sample()), layer.export_parts, layer.health):
        with pytest.raises(NotWarmError, match="in phase PASS_THROUGH"):
            ask()


def test_bad_vectors_leave_the_layer_as_it_was():
    layer = IndexLayer(16, **SMALL, pass_through_steps=0)
    bad = sample()
    bad[3, 2], bad[5] = float("nan"), float("inf")
    cases = [
        (sample(dim=15), ShapeError, r"got shape \[64, 15\], wanted \[n, 16\]"),
        (sample()[0], ShapeError, r"wanted \[n, 16\]"),
        (sample(0), ShapeError, "empty batch"),
        (sample().long(), DtypeError, "int64"),
        (sample().double(), DtypeError, "float64"),
        (sample().numpy(), DtypeError, "ndarray"),
        (bad, NonFiniteError, "row 3, 5"),
    ]
    for vectors, error, message in cases:
        with pytest.raises(error, match=message):
            layer(vectors)
    assert layer.num_steps == 0
    assert not layer._samples
    with pytest.raises(NonFiniteError) as caught:
        layer(bad)
    assert caught.value.rows == [3, 5]


def test_large_finite_vectors_are_not_taken_for_infinite():
    layer = IndexLayer(16, **SMALL)
    layer(torch.full((8, 16), 3e38))


def test_too_few_vectors_for_the_warm_start():
    layer = IndexLayer(16, **SMALL)
    with pytest.raises(ShapeError, match="got 7 vectors, wanted at least 8"):
        layer.warm_start(sample(7))
    with pytest.raises(ShapeError, match="got 0 vectors"):
        layer.warm_start()
    assert layer.phase is Phase.PASS_THROUGH


@pytest.mark.parametrize(
    ("dim", "settings", "message"),
    [
        (10, SMALL, "got 10, wanted a positive multiple of num_subspaces"),
        (16, {"num_codewords": 1}, "wanted 2 to 65536"),
        (16, {"num_lists": -1}, "LayerConfig.num_lists: got -1"),
        (16, {"num_samples": 256, "num_codewords": 257}, "num_samples: got 256"),
        ("x", {}, "wanted an integer"),
        (16, {"gradient": "none"}, "one of both, vectors"),
        (16, {"num_subvectors": 4}, "unknown setting num_subvectors"),
    ],
)
def test_bad_settings(dim, settings, message):
    with pytest.raises(ConfigError, match=message):
        IndexLayer(dim, **settings)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_gives_the_codes_of_the_cpu():
    layer = warm_layer(num_lists=4)
    x = sample(200, seed=9)
    on_gpu = copy.deepcopy(layer).cuda()
    assert (on_gpu(x.cuda()).codes.cpu() == layer(x).codes).float().mean() > 0.999
    fresh = IndexLayer(16, **SMALL, pass_through_steps=1, num_samples=100).cuda()
    for step in range(8):
        out = fresh(sample(64, seed=step).cuda())
        out.vectors.sum().backward()
    assert fresh.phase is Phase.JOINT


def test_dropout_leaves_out_last_codewords_in_training_alone():
    layer = warm_layer(family="residual", num_subspaces=8, quantizer_dropout=1.0, gradient="both")
    x = sample(256)
    layer.eval()
    whole = layer(x)
    assert torch.equal(whole.vectors, layer.decode(whole.codes))
    layer.train()
    out = layer(x)
    errors = [
        (out.vectors - residual.decode_first(out.codes, layer.codebooks, torch.full((256,), m)))
        .abs()
        .amax(1)
        for m in range(2, 9)
    ]
    found = torch.stack(errors).argmin(0)
    assert torch.stack(errors).amin(0).max() < 1e-5
    assert found.unique().tolist() == list(range(7))
    out.vectors.sum().backward()
    reached = layer.codebooks.grad.abs().sum((1, 2))
    assert (reached > 0).all()
    assert reached[0] > reached[7]
    assert torch.equal(whole.distortion, out.distortion)


def test_dropout_of_later_codewords_keeps_the_first_64_bits():
    layer = warm_layer(family="residual", num_subspaces=24, num_codewords=16, tail_dropout=1.0)
    with torch.no_grad():
        layer.codebooks.normal_(generator=torch.Generator().manual_seed(0))
    x = sample(256)
    layer.train()
    out = layer(x)
    first = residual.decode_first(out.codes, layer.codebooks, torch.full((256,), 16))
    torch.testing.assert_close(out.vectors, first.detach())
    layer.eval()
    whole = layer(x)
    assert torch.equal(whole.codes, out.codes)
    assert torch.equal(whole.vectors, layer.decode(out.codes))
    assert torch.equal(whole.distortion, out.distortion)


def test_product_codes_know_no_dropout():
    layer = warm_layer(family="product", quantizer_dropout=1.0, tail_dropout=1.0)
    out = layer(sample())
    assert torch.equal(out.vectors, layer.decode(out.codes))


def test_lists_can_be_added_to_a_warm_layer_once():
    with pytest.raises(NotWarmError, match="lists"):
        IndexLayer(16, num_subspaces=4, num_codewords=8).add_lists(sample(3))
    layer = warm_layer(num_lists=0)
    lists = layer.encode(sample())[1]
    assert lists is None
    centroids = 0.01 * sample(3, seed=5)
    layer.add_lists(centroids)
    torch.testing.assert_close(layer.list_vectors(), centroids)
    again, lists = layer.encode(sample())
    assert lists.shape == (64,)
    moved = layer.decode(again, lists) - centroids[lists]
    words = layer._rotate_back(layer.family.decode(again, layer.codebooks))
    torch.testing.assert_close(moved, words)
    with pytest.raises(ConfigError, match="has 3 already"):
        layer.add_lists(centroids)
    with pytest.raises(ShapeError):
        warm_layer(num_lists=0).add_lists(sample(3, dim=5))


@pytest.mark.parametrize("family", ["product", "residual"])
def test_codes_are_the_same_under_autocast(family):
    layer = IndexLayer(dim=32, family=family, num_subspaces=8, num_codewords=64, num_lists=4)
    x = torch.randn(2000, 32, generator=torch.Generator().manual_seed(0))
    layer.warm_start(x)
    layer.eval()
    codes, lists = layer.encode(x)
    decoded = layer.decode(codes, lists)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same, near = layer.encode(x)
        assert torch.equal(same, codes)
        assert torch.equal(near, lists)
        assert torch.equal(layer.decode(codes, lists), decoded)


def test_a_layer_frozen_by_hand_revives_nothing():
    layer = IndexLayer(dim=16, num_subspaces=4, num_codewords=16, revive_window=1)
    layer.warm_start(torch.randn(300, 16, generator=torch.Generator().manual_seed(0)))
    far = torch.randn(64, 16, generator=torch.Generator().manual_seed(1)) + 100
    layer.requires_grad_(False)
    before = layer.codebooks.clone()
    for _ in range(5):
        layer(far)
    assert torch.equal(layer.codebooks, before)
    layer.requires_grad_(True)
    for _ in range(5):
        layer(far)
    assert not torch.equal(layer.codebooks, before)


@pytest.mark.parametrize("frozen", ["centroids", "codebooks"])
def test_of_a_layer_frozen_in_part_the_rest_is_revived(frozen):
    layer = IndexLayer(dim=8, num_subspaces=2, num_codewords=4, num_lists=4, revive_window=1)
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    layer.warm_start(x)
    with torch.no_grad():
        layer.centroids[0] = 100.0
        layer.codebooks[:, 0] = 100.0
    getattr(layer, frozen).requires_grad_(False)
    for _ in range(6):
        layer(x)
    dead = {
        "centroids": float(layer.centroids.detach().abs().max()) > 50,
        "codebooks": float(layer.codebooks.detach().abs().max()) > 50,
    }
    assert dead == {"centroids": frozen == "centroids", "codebooks": frozen == "codebooks"}
    assert int(layer.list_counts.sum()) <= 300  # windows end


def test_seeds_near_the_largest_are_taken():
    layer = IndexLayer(dim=16, num_subspaces=8, num_codewords=16, revive_window=1, seed=2**63 - 1)
    layer.quantizer_dropout = 1.0
    layer.warm_start(torch.randn(300, 16, generator=torch.Generator().manual_seed(0)))
    for _ in range(3):
        layer(torch.randn(64, 16))


@pytest.mark.parametrize("family", ["product", "residual"])
def test_half_precision_put_in_by_assignment_is_float32_again(family):
    layer = IndexLayer(dim=16, family=family, num_subspaces=4, num_codewords=16)
    x = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
    layer.warm_start(x, queries=x[:100])
    half = {k: v.half() if v.is_floating_point() else v for k, v in layer.state_dict().items()}
    other = IndexLayer(dim=16, family=family, num_subspaces=4, num_codewords=16)
    other.load_state_dict(half, assign=True)
    tensors = [*other.parameters(), *other.buffers()]
    assert not any(t.dtype == torch.float16 for t in tensors)
    other.eval()
    assert other(x[:3]).vectors.shape == (3, 16)
    other.encode(x)
