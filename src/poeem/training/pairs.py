"""The training pairs as tensors, and the batches drawn from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from poeem.checks import seed_in_range
from poeem.errors import DataError
from poeem.models.towers import Histories
from poeem.types import IntArray


@dataclass(frozen=True)
class TrainingPairs:
    """Distinct pairs (user, item) to learn from.

    users, items: int64 [num_pairs], user and item numbers.
    log_q: float32 [num_items], log of each item's share of the pairs; an item without any counts
        as one with a pair.
    histories: what each user had.
    """

    users: Tensor
    items: Tensor
    log_q: Tensor
    histories: Histories
    num_users: int
    num_items: int

    @classmethod
    def from_arrays(
        cls,
        users: IntArray,
        items: IntArray,
        histories: tuple[IntArray, IntArray],
        *,
        num_users: int,
        num_items: int,
        max_history: int,
    ) -> TrainingPairs:
        """Build from NumPy arrays; `histories` is (offsets [num_users + 1], items [m]).

        Raises:
            DataError: fewer than two pairs.
        """
        if len(users) < 2:
            raise DataError(f"training pairs: got {len(users)}, wanted at least 2")
        item_tensor = torch.from_numpy(items).long()
        counts = torch.bincount(item_tensor, minlength=num_items)
        offsets, history = (torch.from_numpy(part).long() for part in histories)
        return cls(
            users=torch.from_numpy(users).long(),
            items=item_tensor,
            log_q=(counts.clamp(min=1).double() / len(item_tensor)).log().float(),
            histories=Histories(offsets, history, max_history),
            num_users=num_users,
            num_items=num_items,
        )

    def __len__(self) -> int:
        return len(self.users)

    def num_batches(self, batch_size: int) -> int:
        """Return batches per epoch; a last one of under half the size is left out."""
        return max(1, (2 * len(self) + batch_size) // (2 * batch_size))

    def batches(
        self, batch_size: int, *, epoch: int, seed: int, skip: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (users, items) int64 [n] in an order that depends on seed and epoch alone.

        Args:
            batch_size: pairs per batch.
            epoch: number of this pass.
            seed: seed of the order.
            skip: batches to leave out at the beginning, to go on after a break.
        """
        generator = torch.Generator().manual_seed(seed_in_range(seed * 1_000_003 + epoch))
        order = torch.randperm(len(self), generator=generator)
        for number in range(skip, self.num_batches(batch_size)):
            chosen = order[number * batch_size : (number + 1) * batch_size]
            yield self.users[chosen], self.items[chosen]
