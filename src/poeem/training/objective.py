"""What a step of training makes smaller."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from poeem.checks import seed_in_range
from poeem.config import Config
from poeem.models.towers import IdTower
from poeem.training.losses import (
    catalogue_softmax,
    distillation_loss,
    in_batch_softmax,
    list_softmax,
    route_softmax,
)
from poeem.training.pairs import TrainingPairs
from poeem.training.state import TrainingState, has_tail, is_long

_FEW_PAIRS = 16
_MANY_PAIRS = 48

Losses = Callable[
    [TrainingState, TrainingPairs, Tensor, Tensor, Tensor], tuple[Tensor, Tensor | float]
]
"""What `batch_losses` is: from state, pairs, users, items and log_q to two scalars, the retrieval
loss and what the layer adds, whose sum a step makes smaller."""


def batch_losses(
    state: TrainingState, pairs: TrainingPairs, users: Tensor, items: Tensor, log_q: Tensor
) -> tuple[Tensor, Tensor | float]:
    """Return the retrieval loss of a batch, and what the index layer adds to it.

    Args:
        users, items: int64 [n], the pairs of the batch.
        log_q: float32 [num_items], log popularity, or zeros; on the state's device.
    """
    config, model = state.config, state.model
    temperature = config.model.temperature
    asking = pairs.histories.of(users, without=items).to(state.device)
    users, items = users.to(state.device), items.to(state.device)
    queries = model.encode_queries(asking)
    vectors, near, lists, extra = item_vectors(state, items)
    if near is not None and lists is not None and config.train.coarse_weight:
        extra = extra + config.train.coarse_weight * _list_loss(state, queries, near, lists)
    if state.frozen is not None and config.train.frozen_negatives:
        return _frozen_loss(state, pairs, users, queries, vectors), extra
    retrieval = in_batch_softmax(
        queries,
        vectors,
        temperature=temperature,
        user_ids=users,
        item_ids=items,
        log_q=log_q[items],
    )
    return retrieval, extra


def _frozen_loss(
    state: TrainingState, pairs: TrainingPairs, users: Tensor, queries: Tensor, vectors: Tensor
) -> Tensor:
    """Return the loss over items drawn from the catalogue: of pairs, of float scores, or both."""
    drawn = drawn_items(state)
    rows, columns = pairs.histories.places(users.cpu(), drawn)
    drawn, known = drawn.to(state.device), (rows.to(state.device), columns.to(state.device))
    quantized = item_vectors(state, drawn)[0]
    temperature, share = state.config.model.temperature, state.config.train.distillation_share
    loss = queries.new_zeros(())
    if share < 1:
        loss = (1 - share) * catalogue_softmax(
            queries,
            vectors,
            quantized,
            temperature=temperature,
            known=known,
            num_items=state.model.num_items,
        )
    if share > 0:
        with torch.no_grad():  # the item tower stays
            floats = state.model.encode_items(drawn)
        loss = loss + share * distillation_loss(
            queries,
            quantized,
            teacher_queries=queries.detach(),
            teacher_vectors=floats,
            temperature=temperature,
            known=known,
        )
    return loss


def _list_loss(state: TrainingState, queries: Tensor, near: Tensor, lists: Tensor) -> Tensor:
    """Return the loss that teaches queries which list to visit, and centroids where to stand."""
    temperature, frozen = state.config.model.temperature, state.frozen
    if frozen is None or frozen.route_scale is None or state.layer is None:
        return list_softmax(queries, near, lists, temperature=temperature)
    # Centroids are the routes times the scale, and so are the scores.
    temperature = temperature * frozen.route_scale
    return route_softmax(queries, state.layer.list_vectors(), lists, temperature=temperature)


def drawn_items(state: TrainingState) -> Tensor:
    """Return the items that a step's pairs are compared with, int64 [m], ascending, each once.

    Drawn evenly, with repetitions dropped; all where no fewer than the catalogue are asked for.
    They depend on the seed and the number of the step alone.
    """
    train = state.config.train
    return evenly_drawn(train.frozen_negatives, state.model.num_items, train.seed, state.step)


def evenly_drawn(count: int, num_items: int, seed: int, step: int) -> Tensor:
    """Return `count` items drawn evenly without their repetitions, or all if there are no more."""
    if count >= num_items:
        return torch.arange(num_items)
    generator = torch.Generator().manual_seed(seed_in_range(seed * 1_000_003 + step))
    drawn: Tensor = torch.randint(num_items, (count,), generator=generator).unique()
    return drawn


def item_vectors(
    state: TrainingState, items: Tensor
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | float]:
    """Return item vectors as the index sees them, their lists' centroids, lists, layer's loss.

    items: int64 [n], on the state's device.
    """
    if state.layer is not None and state.frozen is not None:
        codes, lists = state.frozen.of(items)
        return *state.layer.lookup(codes, lists), lists, 0.0
    vectors = state.model.encode_items(items)
    if state.layer is None:
        return vectors, None, None, 0.0
    out = state.layer(vectors)
    dropout = max(state.layer.quantizer_dropout, state.layer.tail_dropout)
    seen, share = out.vectors, quantized_share(state.config, dropout)
    if share < 1 and out.codes is not None:
        seed = seed_in_range(state.config.train.seed + state.step)
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(len(vectors), 1, generator=generator) < share
        seen = torch.where(drawn.to(vectors.device), out.vectors, vectors)
    return seen, out.coarse_vectors, out.lists, out.loss


def quantized_share(config: Config, dropout: float = 0.0) -> float:
    """Return the share of a batch's items to quantize: as told, or else by the length of a code.

    With dropout of codewords all are: float vectors among them would undo what it is for.
    """
    told, layer = config.train.quantized_share, config.layer
    if told is not None or dropout:
        return 1.0 if told is None else told
    return 0.5 if is_long(layer) else 1.0


def quantizer_dropout(state: TrainingState, pairs: TrainingPairs) -> float:
    """Return the layer's share as told; else 1 where each user's vector is fitted to few pairs.

    Found on validation pairs, in single runs: dropout gains where there are 9 pairs a user
    (amazon-book), costs a little at 27 (gowalla), and more at 76 (movielens-1m), or where a query
    is made of items or words; docs/recipe.md has the figures.
    """
    told = state.config.layer.quantizer_dropout
    if state.config.layer.family != "residual":
        return 0.0  # product codes have no later codewords
    if told is not None:
        return told
    by_id = isinstance(state.model.query_tower, IdTower)
    return 1.0 if by_id and len(pairs) < _FEW_PAIRS * pairs.num_users else 0.0


def tail_dropout(state: TrainingState, pairs: TrainingPairs) -> float:
    """Return the layer's share as told; else 1 for long codes, unless ids have few or many pairs.

    Of ids, codes of more than 8 bytes are long, else of more than 16. Found on gowalla's validation
    pairs; docs/recipe.md has what other sets say.
    """
    layer = state.config.layer
    if layer.family != "residual":
        return 0.0  # no slice refines others
    if layer.tail_dropout is not None:
        return layer.tail_dropout
    by_id = isinstance(state.model.query_tower, IdTower)
    if not has_tail(layer, users_are_ids=by_id) or quantizer_dropout(state, pairs):
        return 0.0
    return usual_tail_dropout(pairs, users_are_ids=by_id)


def usual_tail_dropout(pairs: TrainingPairs, *, users_are_ids: bool) -> float:
    """Return the share for long codes: 0 where users are ids and have few or many pairs each."""
    each = len(pairs) / pairs.num_users
    return 0.0 if users_are_ids and not _FEW_PAIRS <= each < _MANY_PAIRS else 1.0
