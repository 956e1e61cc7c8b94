"""The product quantizer phi: one codeword per subspace of the residual."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from poeem import _native
from poeem.quantize.along import best_move
from poeem.quantize.kmeans import kmeans
from poeem.quantize.nearest import is_native, nearest
from poeem.quantize.unused import hand_over
from poeem.types import MOST_PASSES

# Floats of the costs held at once.
_BLOCK = 2**21


def split(vectors: Tensor, num_subspaces: int) -> Tensor:
    """View float [n, dim] as float [num_subspaces, n, sub_dim]."""
    return vectors.view(vectors.shape[0], num_subspaces, -1).transpose(0, 1)


def assign(residuals: Tensor, codebooks: Tensor, along: Tensor | None = None) -> Tensor:
    """Return phi(r), the nearest codeword in every subspace.

    Args:
        residuals: float [n, dim], in rotated space.
        codebooks: float [num_subspaces, num_codewords, sub_dim].
        along: float [n, dim]; an error e costs <e, along>^2 beside |e|^2, which no code of another
            subspace can then lower. None = nothing more.

    Returns:
        int64 [n, num_subspaces], codeword numbers.

    Source: Jegou et al., Product quantization for nearest neighbor search, 2011; for `along` see
        poeem.quantize.along, whose source looks for codes in the same way.
    """
    codes = nearest(split(residuals, codebooks.shape[0]), codebooks).T.contiguous()
    if along is None:
        return codes
    if not (is_native(residuals) and is_native(codebooks) and is_native(along)):
        return descend_by_torch(residuals, codebooks, along, codes)
    _native.descend(
        codes.numpy(),
        residuals.detach().contiguous().numpy(),
        codebooks.detach().contiguous().numpy(),
        along.detach().contiguous().numpy(),
        num_passes=MOST_PASSES,
        num_threads=torch.get_num_threads(),
        kernel=os.environ.get(_native.KERNEL_VARIABLE, ""),
    )
    return codes


@torch.no_grad()
def descend_by_torch(x: Tensor, codebooks: Tensor, along: Tensor, codes: Tensor) -> Tensor:
    """Return the cheapest codes, from `codes` on, for any device and dtype: the slow twin."""
    rows = max(1, _BLOCK // codebooks.shape[1])
    parts = zip(x.split(rows), along.split(rows), codes.split(rows), strict=True)
    return torch.cat([_descend(some, codebooks, costly, code) for some, costly, code in parts])


def _descend(x: Tensor, codebooks: Tensor, along: Tensor, codes: Tensor) -> Tensor:
    """Return codes of the least cost that changing one at a time leads to."""
    moving = torch.arange(len(x), device=x.device)
    for _ in range(MOST_PASSES):
        before = codes[moving]
        after = _one_pass(x[moving], codebooks, along[moving], before)
        codes = codes.index_copy(0, moving, after)
        moving = moving[(after != before).any(1)]
        if not len(moving):
            break
    return codes


def _one_pass(x: Tensor, codebooks: Tensor, along: Tensor, codes: Tensor) -> Tensor:
    """Return codes after each subspace in turn has taken its cheapest codeword."""
    codes, num_subspaces = codes.clone(), len(codebooks)
    slices, costly = split(x, num_subspaces), split(along, num_subspaces)
    missed = ((x - decode(codes, codebooks)) * along).sum(1)  # <e, along>
    for m, book in enumerate(codebooks):
        without = missed + (book[codes[:, m]] * costly[m]).sum(1)  # as if that codeword were 0
        miss = without.unsqueeze(1) - costly[m] @ book.T
        cost = book.square().sum(1) - 2 * (slices[m] @ book.T) + miss.square()
        codes[:, m] = cost.argmin(1)
        missed = miss.gather(1, codes[:, m : m + 1])[:, 0]
    return codes


def decode(codes: Tensor, codebooks: Tensor) -> Tensor:
    """Return the concatenated codewords: differentiable in `codebooks`.

    Args:
        codes: int64 [n, num_subspaces].
        codebooks: float [num_subspaces, num_codewords, sub_dim].

    Returns:
        float [n, dim].
    """
    # Same as torch.cat([codebooks[m][codes[:, m]] for m in range(num_subspaces)], dim=1).
    num_subspaces, num_codewords, sub_dim = codebooks.shape
    rows = codes + torch.arange(num_subspaces, device=codes.device) * num_codewords
    table = codebooks.reshape(num_subspaces * num_codewords, sub_dim)
    return torch.nn.functional.embedding(rows, table).flatten(1)


def fit(
    residuals: Tensor,
    num_subspaces: int,
    num_codewords: int,
    *,
    num_iterations: int,
    generator: torch.Generator,
    codebooks: Tensor | None = None,
) -> Tensor:
    """Return k-means of every slice of float [n, dim], from `codebooks` on where they are given.

    Returns:
        float [num_subspaces, num_codewords, sub_dim].
    """
    return kmeans(
        split(residuals, num_subspaces).contiguous(),
        num_codewords,
        num_iterations=num_iterations,
        generator=generator,
        centers=codebooks,
    )


@torch.no_grad()
def improve(residuals: Tensor, codebooks: Tensor, along: Tensor, *, rounds: int) -> Tensor:
    """Return codebooks after so many alternations of codes and codewords, by what errors cost.

    Args:
        residuals, along: float [n, dim], as in `assign`.
        codebooks: float [num_subspaces, num_codewords, sub_dim]; not changed.
    """
    for _ in range(rounds):
        codes = assign(residuals, codebooks, along)
        codebooks = refit(residuals, codes, codebooks, along)
    return codebooks


@torch.no_grad()
def with_all_used(residuals: Tensor, codes: Tensor, codebooks: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes and codebooks of which every codeword is used, if vectors are enough.

    In each subspace those that lose most there get the codewords that nothing chose, one each.

    Args:
        residuals: float [n, dim]. codes: int64 [n, num_subspaces]; not changed.
        codebooks: float [num_subspaces, num_codewords, sub_dim]; not changed.
    """
    columns, codebooks = codes.T.clone(), codebooks.clone()
    for part, code, book in zip(split(residuals, len(codebooks)), columns, codebooks, strict=True):
        left = part - book[code]
        worst = left.square().sum(1).argsort(descending=True, stable=True)
        hand_over(book, code, left, worst)
    return columns.T.contiguous(), codebooks


@torch.no_grad()
def refit(residuals: Tensor, codes: Tensor, codebooks: Tensor, along: Tensor) -> Tensor:
    """Return codebooks by which these codes cost less: one sweep, each codebook at its optimum."""
    num_subspaces, num_codewords, _ = codebooks.shape
    slices, costly = split(residuals, num_subspaces), split(along, num_subspaces)
    missed = ((residuals - decode(codes, codebooks)) * along).sum(1)
    books = []
    for m, book in enumerate(codebooks):
        code = codes[:, m]
        move = best_move(slices[m] - book[code], missed, code, costly[m], num_codewords)
        missed = missed - (move[code] * costly[m]).sum(1)
        books.append(book + move)
    return torch.stack(books)
