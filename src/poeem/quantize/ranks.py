"""What the layer has to agree on with its copies in other processes (`torch.distributed`).

Gradients are averaged by whoever wraps the model, `DistributedDataParallel` for one. With these,
what the layer does by itself, warm start and revival, happens in the same step and with the same
values on all ranks. Every rank must call the layer equally often, as `DistributedDataParallel` asks
for anyway. Alone, or without a process group, all of it is the identity.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, distributed


def num_ranks() -> int:
    """Return how many processes train together; 1 = this one alone."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


def smallest(value: int, like: Tensor) -> int:
    """Return the least value of all ranks. Args: like: on the device to communicate from."""
    if num_ranks() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.int64, device=like.device)
    distributed.all_reduce(shared, distributed.ReduceOp.MIN)
    return int(shared)


def add_up(counts: Iterable[Tensor]) -> None:
    """Put the sums over all ranks into tensors, in place."""
    if num_ranks() > 1:
        for tensor in counts:
            distributed.all_reduce(tensor)


def take_from_first(tensors: Iterable[Tensor]) -> None:
    """Put what rank 0 has into tensors, in place."""
    if num_ranks() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor.detach(), 0)


def pool(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Return rows of all ranks, as many in all as each has, equally many of each.

    Args:
        rows: [n, dim], n alike on all ranks.
        generator: draws which of a rank's rows; on the CPU.
    """
    ranks = num_ranks()
    if ranks == 1:
        return rows
    count = -(-len(rows) // ranks)
    drawn = torch.randperm(len(rows), generator=generator)[:count].to(rows.device)
    some = rows[drawn].contiguous()
    parts = [torch.empty_like(some) for _ in range(ranks)]
    distributed.all_gather(parts, some)
    return torch.cat(parts)[: len(rows)]
