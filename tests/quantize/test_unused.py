"""Codewords that no vector has are given to those that lose most."""

import pytest
import torch

from poeem.errors import DtypeError, NotWarmError, ShapeError
from poeem.quantize.layer import IndexLayer
from poeem.quantize.unused import hand_over

SIZES = {"num_subspaces": 4, "num_codewords": 16, "kmeans_iterations": 2, "refit_rounds": 1}


def slow_hand_over(book, code, left, worst):
    """The same, one vector after the other."""
    book, code, left = book.clone(), code.clone(), left.clone()
    unused = [c for c in range(len(book)) if not (code == c).any()]
    rows, before, asked = [], code.clone(), dict.fromkeys(range(len(book)), 0)
    for row in worst.tolist():
        own = int(before[row])
        turn, asked[own] = asked[own], asked[own] + 1
        if not unused or turn >= int((before == own).sum()) - 1 or not left[row].any():
            continue
        given = unused.pop(0)
        book[given] = left[row] + book[own]
        code[row], left[row] = given, 0
        rows.append(row)
    return book, code, left, rows


@pytest.mark.parametrize("seed", range(40))
def test_as_one_after_the_other(seed):
    generator = torch.Generator().manual_seed(seed)
    n, words = int(torch.randint(1, 40, (), generator=generator)), 12
    book = torch.randn(words, 3, generator=generator)
    code = torch.randint(1 + seed % words, (n,), generator=generator)
    left = torch.randn(n, 3, generator=generator)
    left[torch.rand(n, generator=generator) < 0.2] = 0
    worst = torch.randperm(n, generator=generator)[: n - seed % 3 if n > 3 else n]
    wanted = slow_hand_over(book, code, left, worst)
    rows = hand_over(book, code, left, worst)
    assert rows.tolist() == wanted[3]
    for found, slow in zip((book, code, left), wanted, strict=False):
        assert torch.equal(found, slow)


def layer_with_unused(**settings):
    """A warm layer, vectors, their codes and lists; half of each codebook is far away."""
    layer = IndexLayer(8, **(SIZES | settings))
    vectors = torch.randn(400, 8, generator=torch.Generator().manual_seed(1))
    layer.warm_start(vectors)
    with torch.no_grad():
        layer.codebooks[:, ::2] += 100
    return layer, vectors, *layer.encode(vectors)


@pytest.mark.parametrize(
    "settings",
    [
        {"family": "product"},
        {"family": "product", "num_lists": 3},
        {"family": "residual"},
        {"family": "residual", "num_lists": 3, "rotation": True},
        {"family": "residual", "parallel_weight": 2.0},
    ],
)
def test_all_are_used_and_nobody_loses(settings):
    layer, vectors, codes, lists = layer_with_unused(**settings)
    before = (vectors - layer.decode(codes, lists)).square().sum(1)
    used = [len(column.unique()) for column in codes.T]
    assert max(used) <= 8
    kept, books = codes.clone(), layer.codebooks.detach().clone()
    small = None if lists is None else lists.to(torch.uint8)  # as an index stores them
    found = layer.use_all_codewords(vectors, codes.to(torch.uint8), small)
    with torch.no_grad():
        layer.codebooks.copy_(books)
    assert torch.equal(layer.use_all_codewords(vectors, codes, lists), found)
    assert torch.equal(codes, kept)
    assert [len(column.unique()) for column in found.T] == [16] * 4
    after = (vectors - layer.decode(found, lists)).square().sum(1)
    assert (after <= before * (1 + 1e-5) + 1e-6).all()
    changed = (found != codes).any(1)
    assert int(changed.sum()) <= 4 * 8
    if settings["family"] == "residual":
        # Each that moved loses nothing now, and was among the worst.
        assert after[changed].max() < 1e-6
        assert before[changed].min() >= before.topk(4 * 8 + 16).values.min()


def test_nothing_changes_where_all_are_used():
    layer, vectors, *_ = layer_with_unused(family="residual")
    layer.warm_start(vectors)
    codes, _ = layer.encode(vectors)
    codes = layer.use_all_codewords(vectors, codes)
    books = layer.codebooks.detach().clone()
    assert torch.equal(layer.use_all_codewords(vectors, codes), codes)
    assert torch.equal(layer.codebooks, books)


def test_codebooks_that_are_frozen_by_hand_stay():
    layer, vectors, codes, _ = layer_with_unused(family="residual")
    books = layer.requires_grad_(False).codebooks.clone()
    assert torch.equal(layer.use_all_codewords(vectors, codes), codes)
    assert torch.equal(layer.codebooks, books)


def test_few_vectors_leave_some_unused():
    layer, vectors, codes, _ = layer_with_unused(family="residual")
    few = layer.use_all_codewords(vectors[:3], codes[:3])
    for column in few.T:
        assert len(column.unique()) <= 3


def test_bad_input_changes_nothing():
    with pytest.raises(NotWarmError):
        IndexLayer(8, **SIZES).use_all_codewords(torch.zeros(1, 8), torch.zeros(1, 4).long())
    layer, vectors, codes, _ = layer_with_unused(family="residual")
    books = layer.codebooks.detach().clone()
    for bad, error in [
        ((vectors, codes[:5]), ShapeError),
        ((vectors[:, :3], codes), ShapeError),
        ((vectors, codes.float()), DtypeError),
        ((vectors, codes, torch.zeros(400).long()), ShapeError),
    ]:
        with pytest.raises(error):
            layer.use_all_codewords(*bad)
    assert torch.equal(layer.codebooks, books)
