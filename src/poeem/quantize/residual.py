"""The residual quantizer phi: full-width codewords, each for what those before left over."""

from __future__ import annotations

import math
import os

import torch
from torch import Tensor

from poeem import _native
from poeem.quantize.along import best_move
from poeem.quantize.kmeans import kmeans
from poeem.quantize.nearest import is_native, nearest
from poeem.quantize.unused import hand_over

# Floats of the beam's distances held at once.
_BLOCK = 2**24

FIRST_BITS = 64
"""A code so long is nearly exact: the codewords beyond can be left out in training."""


@torch.no_grad()
def assign(
    residuals: Tensor, codebooks: Tensor, *, beam: int = 1, along: Tensor | None = None
) -> Tensor:
    """Return phi(r): one codeword per codebook whose sum is near r.

    A beam of b keeps the b best sums of the first m codewords for every m; 1 is the greedy choice.

    Args:
        residuals: float [n, dim], in rotated space.
        codebooks: float [num_subspaces, num_codewords, dim].
        beam: 1 or more.
        along: float [n, dim]; an error e costs <e, along>^2 beside |e|^2. None = nothing more.

    Returns:
        int64 [n, num_subspaces], codeword numbers.

    Source: Babenko and Lempitsky, Additive quantization, CVPR 2014; Liu et al., Improved residual
        vector quantization, 2015, for the beam; Guo et al., Accelerating large-scale inference with
        anisotropic vector quantization, ICML 2020, arXiv 1908.10396, for what errors cost.
    """
    if is_native(residuals) and is_native(codebooks) and (along is None or is_native(along)):
        found = _native.encode_residual(
            residuals.detach().contiguous().numpy(),
            codebooks.detach().contiguous().numpy(),
            beam=beam,
            num_threads=torch.get_num_threads(),
            kernel=os.environ.get(_native.KERNEL_VARIABLE, ""),
            along=None if along is None else along.detach().contiguous().numpy(),
        )
        return torch.from_numpy(found)
    return assign_by_torch(residuals, codebooks, beam=beam, along=along)


@torch.no_grad()
def assign_by_torch(
    residuals: Tensor, codebooks: Tensor, *, beam: int, along: Tensor | None = None
) -> Tensor:
    """Do the same for any device, dtype and beam: the slow and obvious twin."""
    rows = max(1, _BLOCK // (beam * codebooks.shape[1]))
    if along is None:
        return torch.cat([_beam_search(x, codebooks, beam, None) for x in residuals.split(rows)])
    parts = zip(residuals.split(rows), along.split(rows), strict=True)
    return torch.cat([_beam_search(x, codebooks, beam, part) for x, part in parts])


def _beam_search(x: Tensor, codebooks: Tensor, beam: int, along: Tensor | None) -> Tensor:
    num_codewords = codebooks.shape[1]
    left = x.unsqueeze(1)  # [n, width, dim], what each sum leaves over
    codes = torch.zeros(len(x), 1, 0, dtype=torch.int64, device=x.device)
    error = left.square().sum(2)  # [n, width]
    for book in codebooks:
        # |l - u|^2 = |l|^2 - 2 <l, u> + |u|^2
        after = error.unsqueeze(2) - 2 * (left @ book.T) + book.square().sum(1)
        cost = after
        if along is not None:
            away = (left * along.unsqueeze(1)).sum(2, keepdim=True) - (along @ book.T).unsqueeze(1)
            cost = after + away.square()
        width = min(beam, after.shape[1] * num_codewords)
        best = cost.flatten(1).topk(width, largest=False).indices
        error = after.flatten(1).gather(1, best)
        parent, code = best // num_codewords, best % num_codewords
        left = _take(left, parent) - book[code]
        codes = torch.cat([_take(codes, parent), code.unsqueeze(2)], dim=2)
    return codes[:, 0]


def _take(values: Tensor, rows: Tensor) -> Tensor:
    """Return values[i, rows[i, j]] for float [n, a, b] and int64 [n, c]."""
    return values.gather(1, rows.unsqueeze(2).expand(-1, -1, values.shape[2]))


def decode(codes: Tensor, codebooks: Tensor) -> Tensor:
    """Return the sum of the codewords: differentiable in `codebooks`.

    Args:
        codes: int64 [n, num_subspaces].
        codebooks: float [num_subspaces, num_codewords, dim].

    Returns:
        float [n, dim].
    """
    # Same as sum(codebooks[m][codes[:, m]] for m in range(num_subspaces)).
    num_subspaces, num_codewords, dim = codebooks.shape
    rows = codes + torch.arange(num_subspaces, device=codes.device) * num_codewords
    table = codebooks.reshape(num_subspaces * num_codewords, dim)
    return torch.nn.functional.embedding_bag(rows, table, mode="sum")


def decode_first(codes: Tensor, codebooks: Tensor, depths: Tensor) -> Tensor:
    """Return the sum of each row's first codewords: differentiable in `codebooks`.

    Args:
        codes: int64 [n, num_subspaces].
        codebooks: float [num_subspaces, num_codewords, dim].
        depths: int64 [n], how many of them, 0 to num_subspaces.

    Returns:
        float [n, dim]; with depths of num_subspaces what `decode` returns, up to rounding.
    """
    num_subspaces, num_codewords, dim = codebooks.shape
    places = torch.arange(num_subspaces, device=codes.device)
    return torch.nn.functional.embedding_bag(
        codes + places * num_codewords,
        codebooks.reshape(num_subspaces * num_codewords, dim),
        mode="sum",
        per_sample_weights=(places < depths.unsqueeze(1)).to(codebooks.dtype),
    )


def drawn_depths(
    count: int,
    num_subspaces: int,
    num_codewords: int,
    share: float,
    generator: torch.Generator,
    tail: float = 0.0,
) -> Tensor:
    """Return through how many codewords each of `count` vectors is seen, int64 [count].

    A share of them, drawn at random, through ceil(n / 4) to n, evenly; n is num_subspaces, but no
    more than 64 bits take (8 of 256 codewords, 6 of 4,096): what the later ones add is so little
    that leaving only them out would keep nothing from overfitting. Of the others a share `tail`
    through those 64 bits, the rest through all.

    Source: Zeghidour et al., SoundStream, 2021, arXiv 2107.03312 (quantizer dropout), there for
        rates that can be chosen later.
    """
    most = min(num_subspaces, math.ceil(FIRST_BITS / math.log2(num_codewords)))
    depths = torch.randint(-(-most // 4), most + 1, (count,), generator=generator)
    few = torch.rand(count, generator=generator) < share
    whole = torch.full_like(depths, num_subspaces)
    if tail:
        whole[torch.rand(count, generator=generator) < tail] = most
    return depths.where(few, whole)


@torch.no_grad()
def fit(
    residuals: Tensor,
    num_subspaces: int,
    num_codewords: int,
    *,
    kmeans_iterations: int,
    rounds: int,
    beam: int,
    generator: torch.Generator,
    along: Tensor | None = None,
) -> Tensor:
    """Return codebooks for vectors: k-means of what is left over, then rounds over all codebooks.

    Args:
        residuals: float [n, dim].
        num_subspaces, num_codewords: sizes of the result; num_codewords is at most n.
        kmeans_iterations: Lloyd iterations of each codebook.
        rounds: alternations of codes by beam and codewords by `refit`.
        beam: width of the beam.
        generator: source of randomness, on the CPU.
        along: as in `assign`; the rounds count errors so.

    Returns:
        float [num_subspaces, num_codewords, dim].
    """
    books, left = [], residuals
    for _ in range(num_subspaces):
        book = kmeans(
            left.unsqueeze(0), num_codewords, num_iterations=kmeans_iterations, generator=generator
        )[0]
        left = left - book[nearest(left.unsqueeze(0), book.unsqueeze(0))[0]]
        books.append(book)
    return improve(residuals, torch.stack(books), rounds=rounds, beam=beam, along=along)


@torch.no_grad()
def improve(
    residuals: Tensor, codebooks: Tensor, *, rounds: int, beam: int, along: Tensor | None = None
) -> Tensor:
    """Return codebooks after so many alternations of codes by beam and codewords by `refit`.

    Codewords that no vector chose are put to use, see `revived`.
    """
    for _ in range(rounds):
        codes = assign(residuals, codebooks, beam=beam, along=along)
        codebooks = revived(residuals, codes, refit(residuals, codes, codebooks, along))
    return codebooks


@torch.no_grad()
def revived(residuals: Tensor, codes: Tensor, codebooks: Tensor) -> Tensor:
    """Return codebooks whose unused codewords make up for all that the worst vectors lose.

    Args:
        residuals: float [n, dim]. codes: int64 [n, num_subspaces].
        codebooks: float [num_subspaces, num_codewords, dim]; not changed.
    """
    codebooks = codebooks.clone()
    left = residuals - decode(codes, codebooks)
    worst = left.square().sum(1).argsort(descending=True)
    for m, book in enumerate(codebooks):
        dead = (torch.bincount(codes[:, m], minlength=len(book)) == 0).nonzero()[:, 0]
        rows, worst = worst[: len(dead)], worst[len(dead) :]
        dead = dead[: len(rows)]
        book[dead] = left[rows] + book[codes[rows, m]]
    return codebooks


@torch.no_grad()
def with_all_used(residuals: Tensor, codes: Tensor, codebooks: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes and codebooks of which every codeword is used, if vectors are enough.

    The vectors that lose most get the codewords that nothing chose, one each; see `hand_over`.

    Args:
        residuals: float [n, dim]. codes: int64 [n, num_subspaces]; not changed.
        codebooks: float [num_subspaces, num_codewords, dim]; not changed.
    """
    columns, codebooks = codes.T.clone(), codebooks.clone()
    left = residuals - decode(codes, codebooks)
    worst = left.square().sum(1).argsort(descending=True, stable=True)
    for code, book in zip(columns, codebooks, strict=True):
        hand_over(book, code, left, worst)
    return columns.T.contiguous(), codebooks


@torch.no_grad()
def refit(
    residuals: Tensor, codes: Tensor, codebooks: Tensor, along: Tensor | None = None
) -> Tensor:
    """Return codebooks that decode these codes nearer: one sweep, each codebook at its optimum.

    With all other codebooks held, the best codeword is the mean of what they leave over for the
    vectors that chose it, or with `along` what `best_move` finds; one that nothing chose stays.

    Args:
        residuals: float [n, dim]. codes: int64 [n, num_subspaces].
        codebooks: float [num_subspaces, num_codewords, dim]; not changed.
        along: as in `assign`.
    """
    codebooks = codebooks.clone()
    left = residuals - decode(codes, codebooks)
    for m, book in enumerate(codebooks):
        code = codes[:, m]
        if along is None:
            counts = torch.bincount(code, minlength=len(book)).clamp(min=1).unsqueeze(1)
            move = torch.zeros_like(book).index_add_(0, code, left) / counts
        else:
            move = best_move(left, (along * left).sum(1), code, along, len(book))
        book += move
        left = left - move[code]
    return codebooks
