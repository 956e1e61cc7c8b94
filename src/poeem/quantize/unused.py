"""Codewords that no vector has, given to the vectors that lose most, where codes are to stay."""

from __future__ import annotations

import torch
from torch import Tensor


def hand_over(book: Tensor, code: Tensor, left: Tensor, worst: Tensor) -> Tensor:
    """Give each unused codeword of a codebook to one vector, which then loses nothing; in place.

    A vector leaves its codeword only where others stay with it, and only where it loses anything.

    Args:
        book: float [num_codewords, width]; unused rows become what their vector needs.
        code: int64 [n], below num_codewords; that of a vector becomes the codeword's.
        left: float [n, width], what all its codewords leave over of each vector; 0 once helped.
        worst: int64 [m], the vectors to be asked, in this order, each once.

    Returns:
        int64 [k], the vectors that got one; k is less than the unused where few vectors may move.
    """
    counts = torch.bincount(code, minlength=len(book))
    unused = (counts == 0).nonzero()[:, 0]
    if not len(unused):
        return worst[:0]
    own = code[worst]
    order = own.argsort(stable=True)
    asked = torch.bincount(own, minlength=len(book))
    turn = torch.empty_like(own)  # how many with the same codeword were asked before
    turn[order] = torch.arange(len(own)).to(own) - (asked.cumsum(0) - asked)[own[order]]
    may_move = (turn < counts[own] - 1) & (left[worst] != 0).any(1)
    rows = worst[may_move][: len(unused)]
    given = unused[: len(rows)]
    book[given] = left[rows] + book[code[rows]]
    code[rows] = given
    left[rows] = 0
    return rows
