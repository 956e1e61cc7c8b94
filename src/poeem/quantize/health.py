"""Are the codes well used? Figures about codewords, lists and distortion."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Protocol

import torch
from torch import Tensor


class ScalarWriter(Protocol):
    """The one method used of TensorBoard's `SummaryWriter`."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Record one number."""
        ...


@dataclass(frozen=True)
class CodeHealth:
    """How evenly codewords and lists are used, and how much is lost.

    used_codewords: share of codewords used at least once, 0 to 1, over all subspaces.
    codeword_kl: KL divergence from uniform of codeword use, in nats, mean over subspaces; 0 = even.
    codeword_tv: total variation from uniform, 0 to 1, mean over subspaces.
    used_lists, list_kl, list_tv: the same for lists; 1, 0, 0 without lists.
    list_imbalance: num_lists * sum of squared shares: 1 = even, 2 = scans cost twice as much.
    distortion: mean |x - T(x)|^2; NaN where no vectors were at hand.
    """

    used_codewords: float
    codeword_kl: float
    codeword_tv: float
    used_lists: float = 1.0
    list_kl: float = 0.0
    list_tv: float = 0.0
    list_imbalance: float = 1.0
    distortion: float = float("nan")

    def to_dict(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)

    def log(self, writer: ScalarWriter, step: int, prefix: str = "index/") -> None:
        """Write every figure as a TensorBoard scalar."""
        for name, value in self.to_dict().items():
            writer.add_scalar(prefix + name, value, step)


def code_health(
    codes: Tensor,
    num_codewords: int,
    *,
    lists: Tensor | None = None,
    num_lists: int = 0,
    distortion: float = float("nan"),
) -> CodeHealth:
    """Return the health of codes int64 [n, num_subspaces] and, with lists, of lists int64 [n]."""
    counts = torch.stack([torch.bincount(c, minlength=num_codewords) for c in codes.T])
    in_lists = None if lists is None else torch.bincount(lists, minlength=num_lists)
    return health_of_counts(counts, in_lists, distortion)


def health_of_counts(
    counts: Tensor, list_counts: Tensor | None, distortion: float = float("nan")
) -> CodeHealth:
    """Return the health for int64 counts [num_subspaces, num_codewords] and [num_lists]."""
    used, kl, tv, _ = _evenness(counts)
    if list_counts is None or list_counts.numel() == 0:
        return CodeHealth(used, kl, tv, distortion=distortion)
    return CodeHealth(used, kl, tv, *_evenness(list_counts.unsqueeze(0)), distortion)


def _evenness(counts: Tensor) -> tuple[float, float, float, float]:
    """Return used share, KL, total variation and imbalance of [rows, bins], mean over rows.

    NaN where nothing was counted yet.
    """
    if not counts.any():
        return (float("nan"),) * 4
    shares = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    bins = counts.shape[1]
    kl = torch.special.xlogy(shares, shares * bins).sum(1).mean()
    tv = (shares - 1 / bins).abs().sum(1).mean() / 2
    imbalance = bins * shares.square().sum(1).mean()
    return float((counts > 0).double().mean()), float(kl), float(tv), float(imbalance)
