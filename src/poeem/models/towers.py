"""Towers: modules that turn users or items into vectors [n, dim]."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn

# Small: where vectors are normalised, a row's direction turns at a speed of step size / length.
START_SCALE = 0.02


class Users(NamedTuple):
    """A batch of users: who they are and what they had.

    indices: int64 [n], user numbers of the training data; -1 for a user it does not know.
    history: int64 [m], item numbers of all n users, one user after the other.
    offsets: int64 [n + 1], where each user's part of `history` begins; ends with m.
    """

    indices: Tensor
    history: Tensor
    offsets: Tensor

    def to(self, device: torch.device) -> Users:
        """Return the batch on another device."""
        return Users(*(part.to(device) for part in self))


class Histories:
    """Which items each user of the training data had, latest first.

    Args:
        offsets: int64 [num_users + 1]. items: int64 [m], user u had items[offsets[u]:offsets[u+1]].
        max_history: items per user that count.
    """

    def __init__(self, offsets: Tensor, items: Tensor, max_history: int) -> None:
        self._starts = offsets[:-1]
        self._all_lengths = offsets.diff()
        self._lengths = self._all_lengths.clamp(max=max_history)
        self._items = items

    def of(self, users: Tensor, without: Tensor | None = None) -> Users:
        """Return the batch of users int64 [n]; `without` int64 [n] names an item each to leave out.

        Leaving out the item to be predicted keeps the answer out of the question.
        """
        rows, history = self._items_of(users, self._lengths[users])
        if without is not None:
            kept = history != without[rows]
            history, rows = history[kept], rows[kept]
        counts = torch.bincount(rows, minlength=len(users))
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return Users(users, history, offsets)

    def places(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return where `items` names something that a user had, however long ago.

        Args:
            users: int64 [n].
            items: int64 [m], ascending, each once.

        Returns:
            int64 [p] rows of `users`, ascending, and int64 [p] rows of `items`.
        """
        rows, history = self._items_of(users, self._all_lengths[users])
        place = torch.searchsorted(items, history).clamp(max=len(items) - 1)
        found = items[place] == history
        return rows[found], place[found]

    def _items_of(self, users: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first `lengths` items of each user's history: rows of users, and items."""
        rows = torch.repeat_interleave(torch.arange(len(users)), lengths)
        first = lengths.cumsum(0) - lengths
        positions = torch.arange(len(rows)) - first[rows] + self._starts[users][rows]
        return rows, self._items[positions]


class IdTower(nn.Module):
    """A learned vector per id. Args: num_ids; dim; generator of the starting values."""

    def __init__(self, num_ids: int, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        start = torch.randn(num_ids, dim, generator=generator) * START_SCALE
        self.embedding = nn.Embedding(num_ids, dim, _weight=start)

    def forward(self, ids: Tensor) -> Tensor:
        """Return float32 [n, dim] for int64 ids [n]."""
        vectors: Tensor = self.embedding(ids)
        return vectors


class HistoryTower(nn.Module):
    """The mean of the items a user had, so that a user never seen in training can be served.

    One learned vector is averaged in: alone it stands for a user without any history.
    """

    def __init__(self, num_items: int, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        start = torch.randn(num_items, dim, generator=generator) * START_SCALE
        self.embedding = nn.EmbeddingBag(
            num_items, dim, mode="sum", include_last_offset=True, _weight=start
        )
        self.prior = nn.Parameter(torch.randn(dim, generator=generator) * START_SCALE)

    def forward(self, users: Users) -> Tensor:
        """Return float32 [n, dim]."""
        total: Tensor = self.embedding(users.history, users.offsets)
        return (total + self.prior) / (1 + users.offsets.diff()).unsqueeze(1)


class Mlp(nn.Module):
    """Linear layers with GELU between them, from dim over hidden_dims back to dim, and a skip."""

    def __init__(self, dim: int, hidden_dims: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__()
        widths = [dim, *hidden_dims, dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_uniform_(parameter, a=5**0.5, generator=generator)
            else:
                nn.init.zeros_(parameter)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return float32 [n, dim] for float32 [n, dim]."""
        out = vectors
        for linear in self.layers[:-1]:
            out = torch.nn.functional.gelu(linear(out))
        result: Tensor = vectors + self.layers[-1](out)
        return result
