"""In-batch softmax: each pair's item against the other items of the batch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from poeem.errors import ConfigError, ShapeError
from poeem.quantize.checks import check_vectors

# Logits held at once: a block of rows that stays in a CPU's cache between its five passes.
_CPU_BLOCK = 2**20
_GPU_BLOCK = 2**27


def in_batch_softmax(
    queries: Tensor,
    items: Tensor,
    *,
    temperature: float,
    user_ids: Tensor | None = None,
    item_ids: Tensor | None = None,
    log_q: Tensor | None = None,
) -> Tensor:
    """Return the mean of -log softmax of each query's own item among the batch's items.

    The logits are <q_i, y_j> / temperature - log_q_j. A negative that is known to be a positive
    (the same item again, or another item of the same user) is masked out.

    Args:
        queries: float32 [n, dim].
        items: float32 [n, dim]; row i belongs to query i.
        temperature: positive.
        user_ids: int [n]; None = do not mask by user.
        item_ids: int [n]; None = do not mask by item.
        log_q: float32 [n], log probability that the item is drawn into a batch; None = even.

    Computed in float32, whatever the inputs are and whatever autocast is around.

    Raises:
        ShapeError, DtypeError, NonFiniteError: vectors, ids or log_q that do not fit together.
        ConfigError: temperature not positive and finite.

    Source: Yi et al., Sampling-bias-corrected neural modeling for large corpus item
        recommendations, RecSys 2019, eq. 3 and 4.
    """
    _check(queries, items, temperature, user_ids=user_ids, item_ids=item_ids, log_q=log_q)
    ids = [i for i in (user_ids, item_ids) if i is not None]
    with torch.autocast(device_type=queries.device.type, enabled=False):
        queries, items = queries.float(), items.float()
        bias = queries.new_zeros(len(items)) if log_q is None else -log_q.float()
        loss: Tensor = _InBatchSoftmax.apply(  # type: ignore[no-untyped-call]
            queries, items, bias, 1.0 / temperature, ids
        )
    return loss


def _check(queries: Tensor, items: Tensor, temperature: float, **per_row: Tensor | None) -> None:
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ConfigError(f"temperature: got {temperature}, wanted positive and finite")
    check_vectors("items", items, items.shape[-1] if isinstance(items, Tensor) else 0)
    check_vectors("queries", queries, items.shape[1])
    if len(queries) != len(items):
        raise ShapeError(
            f"queries, items: got {len(queries)} and {len(items)} rows, wanted as many of each"
        )
    for name, values in per_row.items():
        if values is not None and values.shape != (len(items),):
            raise ShapeError(f"{name}: got shape {list(values.shape)}, wanted [{len(items)}]")


class _InBatchSoftmax(torch.autograd.Function):
    """Loss and gradient in one sweep over blocks of rows: the [n, n] logits are never stored."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, items: Tensor, bias: Tensor, scale: float, ids: list[Tensor]
    ) -> Tensor:
        n = len(queries)
        scaled = queries * scale
        rows = max(1, (_CPU_BLOCK if queries.device.type == "cpu" else _GPU_BLOCK) // n)
        query_grad, item_grad = torch.empty_like(queries), torch.zeros_like(items)
        total = queries.new_zeros(())
        known = [equal_pairs(values, rows) for values in ids]
        for number, start in enumerate(range(0, n, rows)):
            block = slice(start, min(start + rows, n))
            logits = torch.addmm(bias, scaled[block], items.T)  # [rows, n]
            own = logits.diagonal(offset=start)
            target = own.clone()
            for pairs in known:
                logits.view(-1).index_fill_(0, pairs[number], -torch.inf)
            own.copy_(target)
            peak = logits.amax(1, keepdim=True)
            weights = logits.sub_(peak).exp_()
            norm = weights.sum(1, keepdim=True)
            total += (norm.log() + peak).sum() - target.sum()
            weights.div_(norm * n)  # softmax / n
            weights.diagonal(offset=start).sub_(1 / n)
            torch.mm(weights, items, out=query_grad[block])
            item_grad.addmm_(weights.T, scaled[block])
        ctx.save_for_backward(query_grad.mul_(scale), item_grad)
        return total / n

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        query_grad, item_grad = ctx.saved_tensors
        return query_grad * grads[0], item_grad * grads[0], None, None, None


def equal_pairs(ids: Tensor, rows: int) -> tuple[Tensor, ...]:
    """Return where ids equal each other, for each block of rows of the matrix ids == ids.

    The same as `(ids[block].unsqueeze(1) == ids).view(-1).nonzero()[:, 0]` for each block, without
    looking at n x n pairs: equal ids stand together once sorted.

    Args:
        ids: int [n].
        rows: rows per block.

    Returns:
        For each of the ceil(n / rows) blocks, int64 places in its flat [rows, n] matrix.
    """
    n = len(ids)
    _, group, counts = ids.unique(return_inverse=True, return_counts=True)
    members = group.argsort()  # positions, group by group
    firsts = counts.cumsum(0) - counts
    each = counts[group]  # how many equal each row
    row = torch.arange(n, device=ids.device).repeat_interleave(each)
    within = torch.arange(len(row), device=ids.device) - (each.cumsum(0) - each)[row]
    column = members[firsts[group[row]] + within]
    in_block = torch.bincount(row // rows, minlength=-(-n // rows))
    places: tuple[Tensor, ...] = (row % rows * n + column).split(in_block.tolist())
    return places
