"""What the layer has to agree on with its copies in other processes, under DistributedDataParallel.

Gradients are averaged by the wrapper. With these, what the layer does by itself, warm start and
revival, happens in the same step and with the same values on all ranks of the wrapper's group. Only
inside its forward call: who trains a model on one rank alone, or another on each, is left alone.
Every rank must call the model equally often, as the wrapper asks for anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, distributed

from poeem.checks import seed_in_range

# Wrapper -> the layers that have begun alike on all its ranks.
_BEGUN: WeakKeyDictionary[Any, WeakSet[Any]] = WeakKeyDictionary()


def wrapper() -> Any:
    """Return the wrapper whose forward call this is; None outside of one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    from torch.nn.parallel import DistributedDataParallel

    return getattr(DistributedDataParallel, "_active_ddp_module", None)


def group() -> Any:
    """Return the process group of the wrapper whose forward call this is; None outside of one."""
    found = wrapper()
    return None if found is None else found.process_group


def first_call(layer: Any) -> bool:
    """Return whether this is the layer's first call by the wrapper it is in; once."""
    found = wrapper()
    if found is None:
        return False
    begun = _BEGUN.setdefault(found, WeakSet())
    if layer in begun:
        return False
    begun.add(layer)
    return True


def num_ranks() -> int:
    """Return how many processes train this model together; 1 = this one alone."""
    found = group()
    return 1 if found is None else distributed.get_world_size(found)


def smallest(value: int, like: Tensor) -> int:
    """Return the least value of all ranks. Args: like: on the device to communicate from."""
    found = group()
    if found is None:
        return value
    shared = torch.tensor(value, dtype=torch.int64, device=like.device)
    distributed.all_reduce(shared, distributed.ReduceOp.MIN, group=found)
    return int(shared)


def first_of(values: tuple[int, ...], like: Tensor) -> tuple[int, ...]:
    """Return what the first rank has of as many integers. Args: like: as in `smallest`."""
    shared = torch.tensor(values, dtype=torch.int64, device=like.device)
    take_from_first((shared,))
    return tuple(shared.tolist())


def add_up(counts: Iterable[Tensor]) -> None:
    """Put the sums over all ranks into tensors, in place."""
    found = group()
    if found is not None:
        for tensor in counts:
            distributed.all_reduce(tensor, group=found)


def take_from_first(tensors: Iterable[Tensor]) -> None:
    """Put what the first rank of the group has into tensors, in place."""
    found = group()
    if found is not None:
        first = distributed.get_global_rank(found, 0)
        for tensor in tensors:
            distributed.broadcast(tensor.detach(), first, group=found)


def pool(rows: Tensor, seed: int) -> Tensor:
    """Return rows of all ranks, as many in all as each has, equally many of each.

    Args:
        rows: [n, dim], n alike on all ranks.
        seed: draws which of a rank's rows; others on each, as all may have the same.
    """
    found = group()
    if found is None:
        return rows
    ranks = distributed.get_world_size(found)
    own = seed_in_range(seed * ranks + distributed.get_rank(found))
    generator = torch.Generator().manual_seed(own)
    count = -(-len(rows) // ranks)
    drawn = torch.randperm(len(rows), generator=generator)[:count].to(rows.device)
    some = rows[drawn].contiguous()
    parts = [torch.empty_like(some) for _ in range(ranks)]
    distributed.all_gather(parts, some, group=found)
    return torch.cat(parts)[: len(rows)]
