"""Givens coordinate descent: the derivative, the pairs, and orthonormality."""

import math

import networkx  # torch brings it along
import pytest
import torch

from poeem import _native
from poeem.errors import ConfigError, InputError, NonFiniteError, ShapeError
from poeem.quantize.givens import (
    GivensDescent,
    _greedy_pairs_on_device,
    greedy_pairs,
    random_pairs,
    steepest_pairs,
)
from poeem.quantize.rotation import orthonormality_error

from .test_rotation import random_rotation


def one_turn(dim, i, j, angle):
    turn = torch.eye(dim, dtype=torch.float64)
    turn[i, i] = turn[j, j] = torch.cos(torch.tensor(angle))
    turn[i, j], turn[j, i] = -torch.sin(torch.tensor(angle)), torch.sin(torch.tensor(angle))
    return turn


def test_slope_of_a_turn_is_the_skew_matrix():
    dim, tiny = 5, 1e-6
    target = torch.randn(dim, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rotation = random_rotation(dim, 1).double().requires_grad_()

    def loss_of(r):
        return ((r - target) ** 3).sum()

    loss_of(rotation).backward()
    product = rotation.grad @ rotation.detach().T
    slopes = product - product.T
    for i in range(dim):
        for j in range(i):
            up = loss_of(one_turn(dim, i, j, tiny) @ rotation.detach())
            down = loss_of(one_turn(dim, i, j, -tiny) @ rotation.detach())
            torch.testing.assert_close(
                (up - down) / (2 * tiny), -slopes[i, j], atol=1e-6, rtol=1e-6
            )


def slow_greedy(weights):
    """Pick the largest weight, cross out its row and column, and so on."""
    dim = len(weights)
    partner = list(range(dim))
    order = sorted(
        ((weights[i, j].item(), i, j) for i in range(dim) for j in range(i)), reverse=True
    )
    taken = set()
    for _, i, j in order:
        if not {i, j} & taken:
            partner[i], partner[j] = j, i
            taken |= {i, j}
    return partner


KERNELS = [one["name"] for one in _native.kernels() if one["supported"]]


def symmetric(dim, seed):
    weights = torch.rand(dim, dim, generator=torch.Generator().manual_seed(seed))
    return weights + weights.T


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dim", [1, 2, 3, 8, 31, 64, 129, 300])
def test_greedy_pairs_equal_the_slow_way(dim, kernel, monkeypatch):
    monkeypatch.setenv(_native.KERNEL_VARIABLE, kernel)
    for seed in range(3):
        weights = symmetric(dim, seed)
        slow = slow_greedy(weights)
        assert greedy_pairs(weights).tolist() == slow
        assert greedy_pairs(weights.double()).tolist() == slow


@pytest.mark.parametrize("dim", [1, 2, 3, 8, 31, 64])
def test_greedy_pairs_on_a_device_equal_the_slow_way(dim):
    for seed in range(5):
        weights = symmetric(dim, seed)
        found, slow = _greedy_pairs_on_device(weights).tolist(), slow_greedy(weights)
        assert [found[p] for p in found] == list(range(dim))  # partners are mutual
        # The smallest weights may be left unpaired when rounds run out; none may differ.
        assert all(f in (s, i) for i, (f, s) in enumerate(zip(found, slow, strict=True)))
        assert sum(f == s for f, s in zip(found, slow, strict=True)) >= 0.9 * dim


@pytest.mark.parametrize("kernel", KERNELS)
def test_equal_weights_leave_nobody_alone(kernel, monkeypatch):
    monkeypatch.setenv(_native.KERNEL_VARIABLE, kernel)
    for weights in (torch.zeros(7, 7), torch.ones(8, 8), symmetric(40, 0).mul(3).round()):
        found = greedy_pairs(weights)
        dim, own = len(weights), torch.arange(len(weights))
        assert torch.equal(found[found], own)
        assert int((found == own).sum()) == dim % 2
        # Nobody could do better with somebody who would rather have them.
        have = torch.where(found == own, -1.0, weights[own, found])
        better = weights > torch.maximum(have.unsqueeze(0), have.unsqueeze(1))
        assert not better.fill_diagonal_(False).any()


def test_what_is_not_a_number_is_not_paired():
    weights = symmetric(20, 0)
    weights[3] = weights[:, 3] = torch.nan
    found = greedy_pairs(weights)
    assert found[3] == 3
    assert torch.equal(found[found], torch.arange(20))


@pytest.mark.parametrize("pairs", ["greedy", "random"])
@pytest.mark.parametrize("step_size", ["adam", "plain"])
@pytest.mark.parametrize("dim", [1, 2, 7, 16, 33, 130])
def test_native_turns_equal_those_of_torch(pairs, step_size, dim, monkeypatch):
    """Either way, and when one goes on where the other stopped, as on another machine."""
    grads = torch.randn(24, dim, dim, generator=torch.Generator().manual_seed(dim))

    def run(native_from, native_to):
        rotation = torch.nn.Parameter(random_rotation(dim, 1).contiguous())
        optimizer = GivensDescent([rotation], lr=0.02, pairs=pairs, step_size=step_size)
        for step, grad in enumerate(grads):
            native = native_from <= step < native_to
            with monkeypatch.context() as patch:
                if not native:
                    patch.setattr("poeem.quantize.givens._is_native", lambda *_: False)
                rotation.grad, version = grad.clone(), rotation._version
                optimizer.step()
                assert rotation._version > version
                assert torch.equal(rotation.grad, grad)
        return rotation.detach()

    by_torch = run(0, 0)
    for part in ((0, 24), (0, 12), (12, 24)):
        torch.testing.assert_close(run(*part), by_torch, atol=2e-6, rtol=0)


def test_a_rotation_stored_by_columns_is_turned_too():
    grads = torch.randn(5, 6, 6, generator=torch.Generator().manual_seed(0))
    found = []
    for start in (random_rotation(6, 1).contiguous(), random_rotation(6, 1).T.contiguous().T):
        rotation = torch.nn.Parameter(start)
        optimizer = GivensDescent([rotation], lr=0.1)
        for grad in grads:
            rotation.grad = grad.clone()
            optimizer.step()
        found.append(rotation.detach())
    torch.testing.assert_close(*found)


def total(weights, partner):
    return (
        weights[torch.arange(len(partner)), partner].sum()
        - weights.diagonal()[partner == torch.arange(len(partner))].sum()
    )


@pytest.mark.parametrize("dim", [2, 3, 6, 7])
def test_steepest_pairs_have_the_largest_total(dim):
    def best(left):  # every pairing there is
        if len(left) < 2:
            return 0.0
        rest = best(left[1:]) if len(left) % 2 else -1.0
        return max(
            rest,
            *(weights[left[0], j].item() + best([k for k in left[1:] if k != j]) for j in left[1:]),
        )

    for seed in range(3):
        weights = torch.rand(dim, dim, generator=torch.Generator().manual_seed(seed))
        weights = (weights + weights.T).fill_diagonal_(0)
        partner = steepest_pairs(weights)
        assert [partner[p].item() for p in partner] == list(range(dim))
        assert total(weights, partner).item() / 2 == pytest.approx(best(list(range(dim))))
        assert total(weights, greedy_pairs(weights)) <= total(weights, partner) + 1e-6


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("dim", [40, 41])
def test_steepest_pairs_are_those_of_a_slow_library(dim, scale):
    weights = torch.randn(dim, dim, generator=torch.Generator().manual_seed(dim)).double()
    weights = (weights - weights.T).abs() * scale
    found = networkx.max_weight_matching(networkx.from_numpy_array(weights.numpy()), True)
    wanted = sum(weights[i, j].item() for i, j in found)
    assert total(weights, steepest_pairs(weights)).item() / 2 == pytest.approx(
        wanted, rel=1e-9, abs=0
    )


@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_equal_weights_are_paired_too(weight):
    partner = steepest_pairs(torch.full((6, 6), weight)).tolist()
    assert [partner[p] for p in partner] == list(range(6))
    assert all(p != i for i, p in enumerate(partner))


@pytest.mark.parametrize("dim", [1, 2, 7, 64])
def test_random_pairs_are_mutual(dim):
    partner = random_pairs(dim, seed=4).tolist()
    assert [partner[p] for p in partner] == list(range(dim))
    assert sum(p == i for i, p in enumerate(partner)) == dim % 2


@pytest.mark.parametrize("pairs", ["greedy", "random", "steepest"])
@pytest.mark.parametrize(("step_size", "lr", "steps"), [("plain", 0.05, 900), ("adam", 0.02, 1500)])
def test_finds_a_rotation(pairs, step_size, lr, steps):
    target = random_rotation(8, 3)
    if torch.det(target) < 0:  # turns keep the determinant at +1
        target[0] *= -1
    rotation = torch.nn.Parameter(torch.eye(8))
    optimizer = GivensDescent([rotation], lr=lr, pairs=pairs, step_size=step_size)
    first = None
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        optimizer.zero_grad()
        loss = (rotation - target).square().sum()
        first = loss.item() if first is None else first
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02 * first


@pytest.mark.parametrize("pairs", ["greedy", "random"])
def test_stays_orthonormal_over_10000_float32_steps(pairs):
    dim = 32
    rotation = torch.nn.Parameter(random_rotation(dim))
    optimizer = GivensDescent([rotation], lr=0.3, pairs=pairs)
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for step in range(10_000):
        rotation.grad = torch.randn(dim, dim, generator=generator)
        optimizer.step()
        if step % 97 == 0 or step == 9_998:
            worst = max(worst, orthonormality_error(rotation))
    assert worst < 1e-5


def test_resumes_where_it_stopped():
    generator = torch.Generator().manual_seed(0)
    grads = torch.randn(20, 6, 6, generator=generator)

    def run(rotation, optimizer, part):
        for grad in part:
            rotation.grad = grad.clone()
            optimizer.step()

    whole = torch.nn.Parameter(torch.eye(6))
    run(whole, GivensDescent([whole], pairs="random"), grads)
    first = torch.nn.Parameter(torch.eye(6))
    half = GivensDescent([first], pairs="random")
    run(first, half, grads[:9])
    second = torch.nn.Parameter(first.detach().clone())
    rest = GivensDescent([second], pairs="random")
    rest.load_state_dict(half.state_dict())
    run(second, rest, grads[9:])
    assert torch.equal(whole, second)


def test_nothing_to_turn():
    optimizer = GivensDescent([])
    optimizer.zero_grad()
    optimizer.step()


def test_a_gradient_of_nan_turns_nothing():
    rotation = torch.nn.Parameter(torch.eye(3))
    optimizer = GivensDescent([rotation])
    rotation.grad = torch.full((3, 3), torch.nan)
    with pytest.raises(NonFiniteError, match="nothing was turned"):
        optimizer.step()
    assert torch.equal(rotation.detach(), torch.eye(3))
    assert not optimizer.state[rotation]


def test_the_native_step_checks_what_it_is_given():
    eye, wide = torch.eye(4).numpy(), torch.zeros(4, 5).numpy()
    given = {"decays": (0.9, 0.9), "scales": (1, 1), "lr": 0.1, "kernel": "", "product": eye}
    for bad in (
        {"rotation": wide},
        {"rotation": eye, "mean": eye},
        {"rotation": eye, "mean": eye, "square": wide},
        {"rotation": eye, "partner": torch.tensor([1, 2, 0, 3]).numpy()},
        {"rotation": eye, "partner": torch.tensor([1, 0, 9, 3]).numpy()},
        {"rotation": eye, "partner": torch.tensor([0, 1]).numpy()},
    ):
        with pytest.raises(ShapeError):
            _native.givens_turn(**{**given, **bad})
    with pytest.raises(ShapeError, match="not square"):
        _native.greedy_pairs(wide, kernel="")
    assert (eye == torch.eye(4).numpy()).all()


def test_a_gradient_too_large_to_be_squared_is_refused():
    rotation = torch.nn.Parameter(torch.eye(4))
    optimizer = GivensDescent([rotation], lr=0.01)
    rotation.grad = torch.zeros(4, 4)
    rotation.grad[0, 1], rotation.grad[1, 2] = 1e25, -1e25  # no sum shows these
    with pytest.raises(NonFiniteError, match="nothing was turned"):
        optimizer.step()
    rotation.grad = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)) * 1e18
    optimizer.step()
    assert torch.isfinite(optimizer.state[rotation]["square"]).all()
    assert not torch.equal(rotation.detach(), torch.eye(4))


@pytest.mark.parametrize(
    "setting",
    [
        {"pairs": "gredy"},
        {"step_size": "nonsense"},
        {"betas": (1.0, 1.0)},
        {"betas": (0.9,)},
        {"betas": 0.9},
        {"betas": ("a", "b")},
        {"lr": -1.0},
        {"lr": math.nan},
        {"lr": "0.1"},
        {"seed": "x"},
        {"seed": 1.5},
    ],
    ids=str,
)
def test_settings_of_groups_are_checked_too(setting):
    rotation, other = (torch.nn.Parameter(torch.eye(4)) for _ in range(2))
    with pytest.raises(ConfigError, match=next(iter(setting))):
        GivensDescent([rotation], **setting)
    with pytest.raises(ConfigError, match=next(iter(setting))):
        GivensDescent([{"params": [rotation], **setting}])
    optimizer = GivensDescent([rotation])
    with pytest.raises(ConfigError, match=next(iter(setting))):
        optimizer.add_param_group({"params": other, **setting})
    assert len(optimizer.param_groups) == 1


def test_parameters_added_later_are_checked_too():
    optimizer = GivensDescent([torch.nn.Parameter(torch.eye(4))])
    with pytest.raises(ShapeError, match=r"wanted \[dim, dim\]"):
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(3, 5))]})
    with pytest.raises(InputError, match="wanted an orthonormal one"):
        optimizer.add_param_group({"params": torch.nn.Parameter(torch.ones(4, 4))})
    assert len(optimizer.param_groups) == 1
    more = (torch.nn.Parameter(torch.eye(dim)) for dim in (2, 3))
    optimizer.add_param_group({"params": more, "lr": torch.tensor(0.1), "betas": [0.5, 0.9]})
    assert len(optimizer.param_groups[1]["params"]) == 2
    named = GivensDescent([("rotation", torch.nn.Parameter(torch.eye(3)))])
    assert named.param_groups[0]["lr"] == 1e-3


def test_bad_settings():
    square = torch.nn.Parameter(torch.eye(2))
    with pytest.raises(ConfigError, match="wanted greedy, random or steepest"):
        GivensDescent([square], pairs="best")
    with pytest.raises(ConfigError, match="at least 0"):
        GivensDescent([square], lr=-1)
    with pytest.raises(ConfigError, match="betas"):
        GivensDescent([square], betas=(0.9, 1.0))
    with pytest.raises(InputError, match="wanted an orthonormal one"):
        GivensDescent([torch.nn.Parameter(2 * torch.eye(2))])
    with pytest.raises(ConfigError, match="adam or plain"):
        GivensDescent([square], step_size="newton")
    with pytest.raises(ShapeError, match=r"wanted \[dim, dim\]"):
        GivensDescent([torch.nn.Parameter(torch.zeros(2, 3))])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("pairs", ["random", "greedy"])
def test_on_a_gpu_nothing_waits_for_the_host(pairs):
    start = random_rotation(64, 0).cuda()
    rotation = torch.nn.Parameter(start.clone())
    optimizer = GivensDescent([rotation], lr=0.01, pairs=pairs)
    rotation.grad = torch.randn(64, 64, device="cuda")
    optimizer.step()  # what is made once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert orthonormality_error(rotation.cpu()) < 1e-5
    assert not torch.equal(rotation, start)


def test_of_two_rotations_none_is_turned_where_one_gradient_is_no_number():
    params = [torch.nn.Parameter(torch.eye(8)) for _ in range(2)]
    optimizer = GivensDescent(params)
    params[0].grad = torch.randn(8, 8)
    params[1].grad = torch.full((8, 8), torch.nan)
    with pytest.raises(NonFiniteError, match="nothing was turned"):
        optimizer.step()
    assert all(torch.equal(param, torch.eye(8)) for param in params)


@pytest.mark.parametrize("pairs", ["greedy", "random", "steepest"])
@pytest.mark.parametrize("step_size", ["plain", "adam"])
def test_several_turns_are_as_many_steps_by_the_same_gradient(pairs, step_size):
    start, gradient = random_rotation(9, 1), torch.randn(9, 9)
    one, several = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    settings = {"lr": 0.01, "pairs": pairs, "step_size": step_size}
    step, turn = GivensDescent([one], **settings), GivensDescent([several], turns=3, **settings)
    for _ in range(50):
        one.grad = several.grad = gradient
        for _ in range(3):
            step.step()
        turn.step()
        assert torch.equal(one, several)
    assert not torch.equal(one, start)
    assert step.state[one]["step"] == turn.state[several]["step"] == 150
    assert orthonormality_error(several) < 1e-5


def test_what_was_saved_before_there_were_several_turns_goes_on():
    start, gradient = random_rotation(6, 1), torch.randn(6, 6)
    found = []
    for older in (False, True):
        rotation = torch.nn.Parameter(start.clone())
        optimizer = GivensDescent([rotation])
        saved = optimizer.state_dict()
        if older:
            del saved["param_groups"][0]["turns"]
        optimizer.load_state_dict(saved)
        rotation.grad = gradient
        optimizer.step()
        found.append(rotation.detach())
    assert torch.equal(*found)


def test_several_turns_refuse_before_any_what_one_of_them_could_not_square():
    rotation = torch.nn.Parameter(torch.eye(4))
    optimizer = GivensDescent([rotation], turns=2)
    rotation.grad = torch.full((4, 4), 5e18)
    with pytest.raises(NonFiniteError, match="nothing was turned"):
        optimizer.step()
    assert torch.equal(rotation, torch.eye(4))
    for turns in (0, -1, 1.5, True, None):
        with pytest.raises(ConfigError, match="turns: got"):
            GivensDescent([rotation], turns=turns)
