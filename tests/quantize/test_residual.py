"""The residual quantizer: full-width codewords that add up."""

import itertools

import pytest
import torch

from poeem.quantize import along as along_module
from poeem.quantize import residual


def lost(x, codes, codebooks):
    return (x - residual.decode(codes, codebooks)).square().sum(1)


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    codebooks = torch.randn(3, 8, 5, generator=generator) / torch.arange(1, 4).view(3, 1, 1)
    return torch.randn(200, 5, generator=generator), codebooks


def test_hand_sized_codes():
    codebooks = torch.tensor([[[0.0, 0.0], [10.0, 10.0]], [[1.0, 0.0], [0.0, 1.0]]])
    x = torch.tensor([[11.0, 10.0], [0.0, 1.0]])
    codes = residual.assign(x, codebooks)
    assert codes.tolist() == [[1, 0], [0, 1]]
    assert residual.decode(codes, codebooks).tolist() == x.tolist()


def test_decode_equals_the_slow_way(case):
    x, codebooks = case
    codes = residual.assign(x, codebooks)
    slow = sum(codebooks[m][codes[:, m]] for m in range(3))
    assert torch.allclose(residual.decode(codes, codebooks), slow, atol=1e-6)


def test_a_wide_beam_finds_the_best_of_all_sums(case):
    x, codebooks = case
    codes = torch.tensor(list(itertools.product(range(8), repeat=3)))
    best = torch.cdist(x, residual.decode(codes, codebooks)).argmin(1)
    found = residual.assign(x, codebooks, beam=64)
    assert torch.equal(found, codes[best])


def test_a_wider_beam_loses_less(case):
    x, codebooks = case
    errors = [lost(x, residual.assign(x, codebooks, beam=b), codebooks).mean() for b in (1, 2, 8)]
    assert errors[0] > errors[1] > errors[2]


def test_a_beam_of_one_is_the_greedy_choice(case):
    x, codebooks = case
    left, greedy = x, []
    for book in codebooks:
        greedy.append(torch.cdist(left, book).argmin(1))
        left = left - book[greedy[-1]]
    assert torch.equal(residual.assign(x, codebooks, beam=1), torch.stack(greedy, dim=1))


@pytest.mark.parametrize("beam", [1, 3, 20])
def test_the_native_search_finds_what_torch_finds(case, beam):
    x, codebooks = case
    slow = residual.assign_by_torch(x.double(), codebooks.double(), beam=beam)
    assert torch.equal(residual.assign(x, codebooks, beam=beam), slow)


@pytest.mark.parametrize("beam", [1, 3, 20])
def test_the_native_search_by_costs_finds_what_torch_finds(case, beam):
    x, codebooks = case
    along = 2 * torch.nn.functional.normalize(x, dim=1)
    slow = residual.assign_by_torch(x.double(), codebooks.double(), beam=beam, along=along.double())
    found = residual.assign(x, codebooks, beam=beam, along=along)
    assert torch.equal(found, slow)
    assert not torch.equal(found, residual.assign(x, codebooks, beam=beam))


def test_a_wide_beam_finds_the_cheapest_of_all_sums(case):
    x, codebooks = case
    along = 2 * torch.nn.functional.normalize(x, dim=1)
    codes = torch.tensor(list(itertools.product(range(8), repeat=3)))
    errors = x.unsqueeze(1) - residual.decode(codes, codebooks)
    costs = errors.square().sum(2) + (errors * along.unsqueeze(1)).sum(2).square()
    # As many as there are: a beam may drop what would be cheapest in the end.
    found = residual.assign(x, codebooks, beam=64, along=along)
    assert torch.equal(found, codes[costs.argmin(1)])


def test_no_direction_is_a_plain_search(case):
    x, codebooks = case
    plain = residual.assign(x, codebooks, beam=3)
    assert torch.equal(residual.assign(x, codebooks, beam=3, along=torch.zeros_like(x)), plain)


def cost(x, codes, codebooks, along):
    error = x - residual.decode(codes, codebooks)
    return (error.square().sum(1) + (error * along).sum(1).square()).mean()


def test_each_refit_costs_less_and_none_can_be_moved_for_less(case):
    x, codebooks = case
    along = 2 * torch.nn.functional.normalize(x, dim=1)
    codes = residual.assign(x, codebooks, along=along)
    costs = [cost(x, codes, codebooks, along)]
    for _ in range(30):
        codebooks = residual.refit(x, codes, codebooks, along)
        costs.append(cost(x, codes, codebooks, along))
    assert costs[:4] == sorted(costs[:4], reverse=True)
    words = codebooks.clone().requires_grad_()
    (slope,) = torch.autograd.grad(cost(x, codes, words, along), words)
    assert slope.abs().max() < 1e-3
    plain = codebooks
    for _ in range(30):
        plain = residual.refit(x, codes, plain)
    assert costs[-1] < cost(x, codes, plain, along)


def test_many_codewords_at_a_time_or_few_make_no_difference(case, monkeypatch):
    x, codebooks = case
    along = torch.nn.functional.normalize(x, dim=1)
    codes = residual.assign(x, codebooks)
    wanted = residual.refit(x, codes, codebooks, along)
    monkeypatch.setattr(along_module, "_BLOCK", 3 * 5**2)
    torch.testing.assert_close(residual.refit(x, codes, codebooks, along), wanted)


def test_each_refit_loses_less(case):
    x, codebooks = case
    codes = residual.assign(x, codebooks)
    errors = [lost(x, codes, codebooks).mean()]
    before = codebooks.clone()
    for _ in range(3):
        codebooks = residual.refit(x, codes, codebooks)
        errors.append(lost(x, codes, codebooks).mean())
    assert errors == sorted(errors, reverse=True)
    assert torch.equal(before, case[1])  # the argument is left alone


def test_refit_ends_at_the_least_squares(case):
    x, codebooks = case
    codes = residual.assign(x, codebooks)
    chosen = torch.nn.functional.one_hot(codes, 8).flatten(1).double()
    best = torch.linalg.lstsq(chosen, x.double(), driver="gelsd").solution
    wanted = (x - chosen @ best).square().sum(1).mean()
    for _ in range(1000):
        codebooks = residual.refit(x, codes, codebooks)
    assert float(lost(x, codes, codebooks).mean()) == pytest.approx(float(wanted), rel=1e-3)


def test_a_codeword_that_nothing_chose_stays(case):
    x, codebooks = case
    codes = residual.assign(x, codebooks).clamp(max=6)
    assert torch.equal(residual.refit(x, codes, codebooks)[:, 7], codebooks[:, 7])
    assert torch.equal(residual.refit(x, codes, codebooks, x)[:, 7], codebooks[:, 7])


def test_a_revived_codeword_is_what_the_worst_vector_lacks(case):
    x, codebooks = case
    codes = residual.assign(x, codebooks).clamp(max=6)
    before = codebooks.clone()
    found = residual.revived(x, codes, codebooks)
    assert torch.equal(before, codebooks)
    assert torch.equal(found[:, :7], codebooks[:, :7])
    worst = lost(x, codes, codebooks).argsort(descending=True)[: len(codebooks)]
    for m, row in enumerate(worst):
        alone = codes[row].clone()
        alone[m] = 7
        torch.testing.assert_close(residual.decode(alone[None], found)[0], x[row])


def test_after_rounds_every_codeword_is_in_use():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 4, generator=generator)
    far = torch.full((2, 32, 4), 100.0)  # nothing would ever choose most of these
    far[:, :2] = torch.randn(2, 2, 4, generator=generator)
    books = residual.improve(x, far, rounds=30, beam=4)
    codes = residual.assign(x, books, beam=4)
    used = torch.stack([torch.bincount(c, minlength=32) > 0 for c in codes.T])
    assert used.float().mean() > 0.95


def test_the_first_codewords_equal_the_slow_way(case):
    x, codebooks = case
    codes = residual.assign(x, codebooks)
    depths = torch.arange(len(x)) % 4  # 0 to all 3
    slow = torch.stack(
        [
            sum((codebooks[m][code[m]] for m in range(depth)), torch.zeros(5))
            for code, depth in zip(codes, depths.tolist(), strict=True)
        ]
    )
    torch.testing.assert_close(residual.decode_first(codes, codebooks, depths), slow)


@pytest.mark.parametrize(
    ("num_subspaces", "num_codewords", "least", "most"),
    [
        *[(1, 256, 1, 1), (4, 256, 1, 4), (7, 256, 2, 7), (8, 256, 2, 8)],
        *[(9, 256, 2, 8), (32, 256, 2, 8), (20, 16, 4, 16), (9, 65_536, 1, 4), (9, 200, 3, 9)],
    ],
)
def test_depths_are_even_from_a_quarter_to_all_of_64_bits(
    num_subspaces, num_codewords, least, most
):
    generator = torch.Generator().manual_seed(0)
    depths = residual.drawn_depths(20_000, num_subspaces, num_codewords, 0.5, generator)
    counts = torch.bincount(depths, minlength=num_subspaces + 1).float()
    expected = torch.zeros(num_subspaces + 1)
    expected[least : most + 1] = 10_000 / (most + 1 - least)
    expected[num_subspaces] += 10_000
    torch.testing.assert_close(counts, expected, rtol=0.2, atol=0)
    depths = residual.drawn_depths(100, num_subspaces, num_codewords, 0.0, generator)
    assert (depths == num_subspaces).all()


def test_codewords_after_64_bits_are_left_out():
    generator = torch.Generator().manual_seed(0)
    depths = residual.drawn_depths(20_000, 32, 256, 0.0, generator, 0.5)
    assert depths.unique().tolist() == [8, 32]
    assert 0.48 < float((depths == 8).float().mean()) < 0.52
    assert (residual.drawn_depths(100, 32, 256, 0.0, generator, 1.0) == 8).all()
    both = residual.drawn_depths(20_000, 32, 256, 0.5, generator, 1.0)
    assert both.unique().tolist() == list(range(2, 9))
    assert 0.55 < float((both == 8).float().mean()) < 0.6  # a half, and a seventh of the others
    assert (residual.drawn_depths(100, 4, 256, 0.0, generator, 1.0) == 4).all()
