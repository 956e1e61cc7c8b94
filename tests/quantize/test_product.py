"""The product quantizer."""

import itertools

import pytest
import torch

from poeem.quantize import product


def test_hand_sized_codes():
    # two subspaces of width 1, codewords 0 and 10, and 0 and -10
    codebooks = torch.tensor([[[0.0], [10.0]], [[0.0], [-10.0]]])
    codes = product.assign(torch.tensor([[9.0, -1.0], [1.0, -9.0]]), codebooks)
    assert codes.tolist() == [[1, 0], [0, 1]]
    assert product.decode(codes, codebooks).tolist() == [[10.0, 0.0], [0.0, -10.0]]


@pytest.mark.parametrize("num_codewords", [2, 16, 300])
def test_decode_equals_the_slow_way(num_codewords):
    generator = torch.Generator().manual_seed(0)
    codebooks = torch.randn(4, num_codewords, 3, generator=generator)
    codes = torch.randint(num_codewords, (9, 4), generator=generator)
    slow = torch.cat([codebooks[m][codes[:, m]] for m in range(4)], dim=1)
    assert torch.equal(product.decode(codes, codebooks), slow)


def test_decode_then_assign_gives_the_codes_back():
    generator = torch.Generator().manual_seed(0)
    codebooks = torch.randn(8, 256, 4, generator=generator)
    codes = torch.randint(256, (50, 8), generator=generator)
    assert torch.equal(product.assign(product.decode(codes, codebooks), codebooks), codes)


@pytest.fixture
def costly_case():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 6, generator=generator).double()
    codebooks = torch.randn(3, 5, 2, generator=generator).double()
    return x, codebooks, 2 * torch.nn.functional.normalize(x, dim=1)


def cost(x, codes, codebooks, along):
    error = x - product.decode(codes, codebooks)
    return error.square().sum(1) + (error * along).sum(1).square()


def test_no_single_code_can_be_changed_for_less(costly_case):
    x, codebooks, along = costly_case
    codes = product.assign(x, codebooks, along)
    least = cost(x, codes, codebooks, along)
    for m in range(3):
        for k in range(5):
            other = codes.clone()
            other[:, m] = k
            assert (cost(x, other, codebooks, along) >= least - 1e-12).all()
    plain = product.assign(x, codebooks)
    assert (least <= cost(x, plain, codebooks, along) + 1e-12).all()
    assert least.mean() < 0.95 * cost(x, plain, codebooks, along).mean()


def test_parts_of_the_rows_make_no_difference(costly_case, monkeypatch):
    x, codebooks, along = costly_case
    wanted = product.assign(x, codebooks, along)
    monkeypatch.setattr(product, "_BLOCK", 7 * 5)
    assert torch.equal(product.assign(x, codebooks, along), wanted)


def test_no_direction_is_the_nearest_codeword(costly_case):
    x, codebooks, along = costly_case
    plain = product.assign(x, codebooks)
    assert torch.equal(product.assign(x, codebooks, torch.zeros_like(along)), plain)


def test_refits_end_where_no_codeword_can_be_moved_for_less(costly_case):
    x, codebooks, along = costly_case
    codes = product.assign(x, codebooks, along)
    codes[:, 0].clamp_(max=3)
    costs = [cost(x, codes, codebooks, along).mean()]
    first = codebooks
    for _ in range(50):
        codebooks = product.refit(x, codes, codebooks, along)
        costs.append(cost(x, codes, codebooks, along).mean())
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(costs))
    assert torch.equal(codebooks[0, 4], first[0, 4])  # nothing chose it
    words = codebooks.clone().requires_grad_()
    (slope,) = torch.autograd.grad(cost(x, codes, words, along).mean(), words)
    assert slope.abs().max() < 1e-9
    better = product.improve(x, codebooks, along, rounds=5)
    after = cost(x, product.assign(x, better, along), better, along)
    assert after.mean() <= costs[-1]
