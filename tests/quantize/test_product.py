"""The product quantizer."""

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
