"""Givens coordinate descent: the derivative, the pairs, and orthonormality."""

import pytest
import torch

from poeem.errors import ConfigError, InputError, NonFiniteError, ShapeError
from poeem.quantize.givens import GivensDescent, greedy_pairs, random_pairs, steepest_pairs
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


@pytest.mark.parametrize("dim", [1, 2, 3, 8, 31, 64])
def test_greedy_pairs_equal_the_slow_way(dim):
    for seed in range(5):
        weights = torch.rand(dim, dim, generator=torch.Generator().manual_seed(seed))
        weights = weights + weights.T
        found = greedy_pairs(weights).tolist()
        slow = slow_greedy(weights)
        assert [found[p] for p in found] == list(range(dim))  # partners are mutual
        # The smallest weights may be left unpaired when rounds run out; none may differ.
        assert all(f in (s, i) for i, (f, s) in enumerate(zip(found, slow, strict=True)))
        assert sum(f == s for f, s in zip(found, slow, strict=True)) >= 0.9 * dim


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
