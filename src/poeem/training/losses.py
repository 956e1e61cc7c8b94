"""Softmax losses: each pair's item against other items of the batch, or of the catalogue."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from poeem.errors import ConfigError, DtypeError, IdError, NonFiniteError, ShapeError
from poeem.quantize.checks import check_numbers, check_vectors

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
        ConfigError: temperature not positive and finite; it or log_q wants a gradient.

    Source: Yi et al., Sampling-bias-corrected neural modeling for large corpus item
        recommendations, RecSys 2019, eq. 3 and 4.
    """
    _check(queries, items, temperature, user_ids=user_ids, item_ids=item_ids, log_q=log_q)
    own_id = torch.arange(len(items), device=items.device)
    ids = [own_id if item_ids is None else item_ids] + ([] if user_ids is None else [user_ids])
    rows = _rows_at_once(queries, len(items))
    known = [equal_pairs(values, rows) for values in ids]
    bias = None if log_q is None else -log_q.float()
    return _softmax(queries, items, items, temperature, known, bias=bias, own_bias=bias)


def catalogue_softmax(
    queries: Tensor,
    items: Tensor,
    negatives: Tensor,
    *,
    temperature: float,
    known: tuple[Tensor, Tensor],
    num_items: int,
) -> Tensor:
    """Return the mean of -log softmax of each query's own item among the catalogue, estimated.

    Args:
        queries, items: float32 [n, dim]; row i of one belongs to row i of the other.
        negatives: float32 [m, dim], drawn evenly from the catalogue; each stands for
            num_items / m of them: log(num_items / m) is added to its logits.
        temperature: positive.
        known: int64 [p] rows of queries in ascending order, and int64 [p] rows of `negatives`, that
            are positives and do not count; a query's own item, where drawn, must be among them.

    Computed in float32, whatever the inputs are and whatever autocast is around.

    Source: Yi et al., RecSys 2019, eq. 3, with even instead of popular negatives.

    Raises:
        ShapeError, DtypeError, NonFiniteError: vectors that do not fit together.
        ConfigError: temperature not positive and finite, or no items.
    """
    _check(queries, items, temperature)
    check_vectors("negatives", negatives, items.shape[1])
    m = len(negatives)
    if num_items < 1:
        raise ConfigError(f"num_items: got {num_items}, wanted at least 1")
    bias = queries.new_full((m,), math.log(num_items / m), dtype=torch.float32)
    return _softmax(queries, items, negatives, temperature, _places(queries, m, *known), bias=bias)


def distillation_loss(
    queries: Tensor,
    vectors: Tensor,
    *,
    teacher_queries: Tensor,
    teacher_vectors: Tensor,
    temperature: float,
    known: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the mean over queries of KL(p || q), two softmaxes of scores of the same items.

    q is of <query, vector> / temperature, p of the same of the teacher, which gets no gradient. So
    codes learn to rank as the float vectors they stand for do; no label is looked at.

    Args:
        queries: float32 [n, dim]. vectors: float32 [m, dim], of items as the index sees them.
        teacher_queries: float32 [n, teacher_dim]. teacher_vectors: float32 [m, teacher_dim], of the
            same items: their float vectors, or those of any other model.
        temperature: positive.
        known: int64 [p] rows of queries in ascending order, and int64 [p] rows of `vectors`, that
            do not count: what a query had is not looked for again; None = all count.

    Computed in float32, whatever the inputs are and whatever autocast is around.

    Source: Xiao et al., Distill-VQ, SIGIR 2022, arXiv 2204.00185, with KL for their ListNet.

    Raises:
        ShapeError, DtypeError, NonFiniteError: vectors or `known` that do not fit together.
        IdError: `known` names no row of theirs, or its rows of queries are not ascending.
        ConfigError: temperature not positive and finite.
    """
    check_temperature(temperature)
    check_vectors("vectors", vectors, vectors.shape[-1] if isinstance(vectors, Tensor) else 0)
    check_vectors("queries", queries, vectors.shape[1])
    width = teacher_vectors.shape[-1] if isinstance(teacher_vectors, Tensor) else 0
    for name, given, student in (
        ("teacher_queries", teacher_queries, queries),
        ("teacher_vectors", teacher_vectors, vectors),
    ):
        check_vectors(name, given, width)
        if len(given) != len(student):
            raise ShapeError(f"{name}: got {len(given)} rows, wanted {len(student)}, its student's")
    if known is None:
        known = (torch.empty(0, dtype=torch.int64, device=queries.device),) * 2
    _check_known(known, len(queries), len(vectors))
    with torch.autocast(device_type=queries.device.type, enabled=False):
        loss: Tensor = _Distillation.apply(  # type: ignore[no-untyped-call]
            queries.float(),
            vectors.float(),
            teacher_queries.float(),
            teacher_vectors.float(),
            1.0 / temperature,
            _places(queries, len(vectors), *known)[0],
        )
    return loss


def list_softmax(
    queries: Tensor, centroids: Tensor, lists: Tensor, *, temperature: float
) -> Tensor:
    """Return the mean of -log softmax of each query's list among those of the batch's items.

    The same as `in_batch_softmax(queries, centroids, item_ids=lists)`, where a list counts as often
    as the batch has it, at the cost of one logit per query and distinct list.

    Args:
        queries: float32 [n, dim].
        centroids: float32 [n, dim]; row i is the centroid of the list that query i's item is in.
        lists: int [n], equal where centroids are equal.
        temperature: positive.

    Source: as `in_batch_softmax`; equal terms of its sum are added up beforehand.

    Raises:
        ShapeError, DtypeError, NonFiniteError: arguments that do not fit together.
        ConfigError: temperature not positive and finite.
    """
    _check(queries, centroids, temperature, lists=lists)
    distinct, place, counts = lists.unique(return_inverse=True, return_counts=True)
    n, m = len(queries), len(distinct)
    # The mean of equal rows: the value of one, and a part of the gradient for each.
    each = centroids.new_zeros(m, centroids.shape[1]).index_add(0, place, centroids)
    each = each / counts.unsqueeze(1)
    places = _places(queries, m, torch.arange(n, device=lists.device), place)
    return _softmax(queries, centroids, each, temperature, places, bias=counts.float().log())


def route_softmax(queries: Tensor, routes: Tensor, lists: Tensor, *, temperature: float) -> Tensor:
    """Return the mean of -log softmax of each query's list among all lists, each once.

    Unlike `list_softmax`, where a list counts as often as it is met, the scores then are the log of
    how much of what a query wants stands in each list: the best is the one to visit first.

    Args:
        queries: float32 [n, dim].
        routes: float32 [num_lists, dim].
        lists: int64 [n], the list that query i's item is in, each below num_lists.
        temperature: positive.

    Raises:
        ShapeError, DtypeError, NonFiniteError: arguments that do not fit together.
        ConfigError: temperature not positive and finite.
    """
    check_temperature(temperature)
    check_vectors("routes", routes, routes.shape[-1] if isinstance(routes, Tensor) else 0)
    check_vectors("queries", queries, routes.shape[1])
    check_numbers("lists", lists, (len(queries),), len(routes))
    with torch.autocast(device_type=queries.device.type, enabled=False):
        logits = queries.float() @ routes.float().T / temperature
        return torch.nn.functional.cross_entropy(logits, lists)


def _places(queries: Tensor, m: int, rows: Tensor, columns: Tensor) -> list[tuple[Tensor, ...]]:
    """Return cells of the [n, m] logits, ascending by row, as places in each block of rows."""
    at_once = _rows_at_once(queries, m)
    in_block = torch.bincount(rows // at_once, minlength=-(-len(queries) // at_once))
    return [(rows % at_once * m + columns).split(in_block.tolist())]


def _rows_at_once(queries: Tensor, columns: int) -> int:
    """Return rows of logits that are computed together."""
    return max(1, (_CPU_BLOCK if queries.device.type == "cpu" else _GPU_BLOCK) // columns)


def _softmax(
    queries: Tensor,
    items: Tensor,
    negatives: Tensor,
    temperature: float,
    known: list[tuple[Tensor, ...]],
    bias: Tensor | None = None,
    own_bias: Tensor | None = None,
) -> Tensor:
    """Compute in float32; `known`: for each block of rows, places of [rows, m] to leave out."""
    with torch.autocast(device_type=queries.device.type, enabled=False):
        queries, items, negatives = queries.float(), items.float(), negatives.float()
        if bias is None:
            bias = queries.new_zeros(len(negatives))
        loss: Tensor = _Softmax.apply(  # type: ignore[no-untyped-call]
            queries, items, negatives, bias, own_bias, 1.0 / temperature, known
        )
    return loss


def _check(queries: Tensor, items: Tensor, temperature: float, **per_row: Tensor | None) -> None:
    check_temperature(temperature)
    check_vectors("items", items, items.shape[-1] if isinstance(items, Tensor) else 0)
    check_vectors("queries", queries, items.shape[1])
    if len(queries) != len(items):
        raise ShapeError(
            f"queries, items: got {len(queries)} and {len(items)} rows, wanted as many of each"
        )
    for name, values in per_row.items():
        if values is not None and not isinstance(values, Tensor):
            raise DtypeError(f"{name}: got {type(values).__name__}, wanted a tensor")
        if values is not None and values.shape != (len(items),):
            raise ShapeError(f"{name}: got shape {list(values.shape)}, wanted [{len(items)}]")
        if values is not None and name != "log_q" and values.is_floating_point():
            raise DtypeError(f"{name}: got {values.dtype}, wanted integers")
    log_q = per_row.get("log_q")
    if log_q is not None and log_q.requires_grad:
        raise ConfigError(
            "log_q: got a tensor that wants a gradient, which it would not get here; wanted a "
            "constant, say log_q.detach()"
        )
    if log_q is not None and not torch.isfinite(log_q).all():
        rows = (~torch.isfinite(log_q)).nonzero()[:10, 0].tolist()
        raise NonFiniteError(
            f"log_q: NaN or infinity in rows {', '.join(map(str, rows))}; wanted logarithms of "
            "probabilities above 0",
            rows,
        )


def _check_known(known: tuple[Tensor, Tensor], *counts: int) -> None:
    """Check int64 [p] rows of queries, ascending, and int64 [p] rows of vectors."""
    if (
        not isinstance(known, tuple)
        or [getattr(k, "dtype", None) for k in known] != [torch.int64] * 2
    ):
        raise DtypeError(f"known: got {type(known).__name__}, wanted a tuple of two int64 tensors")
    rows, columns = known
    if rows.ndim != 1 or rows.shape != columns.shape:
        raise ShapeError(
            f"known: got shapes {list(rows.shape)} and {list(columns.shape)}, wanted [p] twice"
        )
    for values, count in zip(known, counts, strict=True):
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < count:
            raise IdError(f"known: got {int(values.max())} or below 0, wanted 0 to {count - 1}")
    if not bool((rows.diff() >= 0).all()):
        raise IdError("known: got rows of queries in another order, wanted ascending ones")


def check_temperature(temperature: float | Tensor) -> None:
    """Raise ConfigError unless a temperature is positive and finite, and not to be learned."""
    if isinstance(temperature, Tensor) and temperature.requires_grad:
        raise ConfigError(
            "temperature: got a tensor that wants a gradient, which it would not get here; to "
            "learn it, give queries / temperature for queries, and 1 for the temperature"
        )
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ConfigError(f"temperature: got {temperature}, wanted positive and finite")


class _Softmax(torch.autograd.Function):
    """Loss and gradient in one sweep over blocks of rows: the [n, m] logits are never stored."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        items: Tensor,
        negatives: Tensor,
        bias: Tensor,
        own_bias: Tensor | None,
        scale: float,
        known: list[tuple[Tensor, ...]],
    ) -> Tensor:
        n, rows = len(queries), _rows_at_once(queries, len(negatives))
        scaled = queries * scale
        own = (scaled * items).sum(1)
        if own_bias is not None:
            own += own_bias
        query_grad, own_weight = torch.empty_like(queries), torch.empty_like(own)
        negative_grad = torch.zeros_like(negatives)
        total = queries.new_zeros(())
        for number, start in enumerate(range(0, n, rows)):
            block = slice(start, min(start + rows, n))
            logits = torch.addmm(bias, scaled[block], negatives.T)  # [rows, m]
            for places in known:
                logits.view(-1).index_fill_(0, places[number], -torch.inf)
            target = own[block]
            peak = torch.maximum(logits.amax(1), target)
            weights = logits.sub_(peak.unsqueeze(1)).exp_()
            own_share = (target - peak).exp()
            norm = weights.sum(1) + own_share
            total += (norm.log() + peak - target).sum()
            weights.div_(norm.unsqueeze(1) * n)  # softmax / n
            own_weight[block] = (own_share / norm - 1) / n
            torch.mm(weights, negatives, out=query_grad[block])
            negative_grad.addmm_(weights.T, scaled[block])
        own_weight = own_weight.unsqueeze(1)
        query_grad.addcmul_(own_weight, items).mul_(scale)
        ctx.save_for_backward(query_grad, own_weight * scaled, negative_grad)
        return total / n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        by_input = (saved * grads[0] for saved in ctx.saved_tensors)
        return *by_input, None, None, None, None


class _Distillation(torch.autograd.Function):
    """Loss and gradient in one sweep over blocks of rows: the [n, m] scores are never stored."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        vectors: Tensor,
        teacher_queries: Tensor,
        teacher_vectors: Tensor,
        scale: float,
        known: tuple[Tensor, ...],
    ) -> Tensor:
        n, rows = len(queries), _rows_at_once(queries, len(vectors))
        scaled, taught = queries * scale, teacher_queries * scale
        query_grad, vector_grad = torch.empty_like(queries), torch.zeros_like(vectors)
        total = queries.new_zeros(())
        for number, start in enumerate(range(0, n, rows)):
            block = slice(start, min(start + rows, n))
            logits, wanted = scaled[block] @ vectors.T, taught[block] @ teacher_vectors.T
            for each in (logits, wanted):  # not -inf: where all are known, both are even
                each.view(-1).index_fill_(0, known[number], -1e30)
            log_q, log_p = logits.log_softmax(1), wanted.log_softmax(1)
            p = log_p.exp()
            total += (p * (log_p - log_q)).sum()
            excess = log_q.exp_().sub_(p).div_(n)
            torch.mm(excess, vectors, out=query_grad[block])
            vector_grad.addmm_(excess.T, scaled[block])
        ctx.save_for_backward(query_grad.mul_(scale), vector_grad)
        return total / n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        by_input = (saved * grads[0] for saved in ctx.saved_tensors)
        return *by_input, None, None, None, None


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
