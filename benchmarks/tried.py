"""What was tried and did not pay, so that the library has no setting for it: rows of `ablation.py`.

Each of `TRIED` takes a state that is about to be trained and what it will learn from, and returns
the losses to train it with (`poeem.training.loop.train`, `losses=`):

- codebooks by a moving average of what the other codebooks leave over, and not by gradient
  (Razavi et al., VQ-VAE-2, arXiv 1906.00446, section 2.1)
- weights of distortion and commitment that change from the warm start to where codes freeze
- hard negatives, taken from the index as it stands: those that each query finds first. Once codes
  are frozen (Zhan et al., JPQ, arXiv 2108.00644), or before, from the index as it stood at the
  beginning of each epoch (Xiong et al., ANCE, arXiv 2007.00808)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from poeem.evaluation.exact import exact_search
from poeem.evaluation.metrics import Grouped
from poeem.quantize.layer import IndexLayer, IndexOutput
from poeem.training.loop import scheduled
from poeem.training.losses import catalogue_softmax, in_batch_softmax
from poeem.training.objective import Losses, batch_losses, drawn_items, item_vectors
from poeem.training.pairs import TrainingPairs
from poeem.training.state import TrainingState

Prepare = Callable[[TrainingState, TrainingPairs], Losses]


class MovingAverage:
    """Moves the codewords of a layer of residual codes by what a step has seen, not by gradient.

    With n_k of a step's vectors in codeword k and t_i what the other codebooks leave over of vector
    i: N_k <- decay N_k + (1 - decay) n_k, and u_k moves by (1 - decay) (sum t_i - n_k u_k) / N_k,
    which is the mean of both sums, decayed.
    """

    def __init__(self, state: TrainingState, decay: float) -> None:
        assert state.layer is not None
        self._state, self._layer, self._decay = state, state.layer, decay
        self._counts = torch.zeros(0)
        self._seen: tuple[Tensor, Tensor] | None = None
        self._layer.register_forward_hook(self._remember)
        self._layer.codebooks.register_hook(self._gradient)

    def _remember(self, layer: IndexLayer, inputs: tuple[Tensor], out: IndexOutput) -> None:
        if layer.training and out.codes is not None:
            self._seen = (inputs[0].detach(), out.codes)

    def _gradient(self, gradient: Tensor) -> Tensor:
        return torch.zeros_like(gradient) if self._state.frozen is None else gradient

    @torch.no_grad()
    def step(self) -> None:
        """Move the codewords by the step before."""
        if self._seen is None:
            return
        (x, codes), self._seen = self._seen, None
        books = self._layer.codebooks
        if not len(self._counts):  # the warm start has left them as if all were met alike
            self._counts = torch.full(books.shape[:2], len(x) / books.shape[1])
        left = x - self._layer.family.decode(codes, books)
        for m, book in enumerate(books):
            met = torch.bincount(codes[:, m], minlength=len(book)).float()
            self._counts[m].mul_(self._decay).add_(met, alpha=1 - self._decay)
            # left + u_k is what the others leave over, so its sum less n_k u_k is that of `left`.
            move = torch.zeros_like(book).index_add_(0, codes[:, m], left)
            book += (1 - self._decay) * move / self._counts[m].clamp(min=1e-6).unsqueeze(1)

    def losses(
        self,
        state: TrainingState,
        pairs: TrainingPairs,
        users: Tensor,
        items: Tensor,
        log_q: Tensor,
    ) -> tuple[Tensor, Tensor | float]:
        """Return the usual losses, after the codewords have moved by the step before."""
        if state.frozen is None:
            self.step()
        else:  # what Adam has counted were steps of no gradient
            if self._seen is not None:
                state.adam.state.pop(self._layer.codebooks, None)
            self._seen = None
        return batch_losses(state, pairs, users, items, log_q)


def moving_average(decay: float) -> Prepare:
    """Return what lets codebooks move by a moving average until codes freeze."""

    def prepare(state: TrainingState, pairs: TrainingPairs) -> Losses:  # noqa: ARG001
        return MovingAverage(state, decay).losses

    return prepare


def weight_schedule(name: str, first: float, last: float) -> Prepare:
    """Return what lets a weight go from one value to another, evenly in its logarithm.

    Args:
        name: a weight of `LayerConfig`.
        first: at the warm start. last: from where codes freeze on.
    """

    def prepare(state: TrainingState, pairs: TrainingPairs) -> Losses:
        train, layer = state.config.train, state.layer
        assert layer is not None
        num_batches = pairs.num_batches(train.batch_size)
        frozen = scheduled(state, num_batches).frozen_epochs or 0
        span = max(1, train.epochs - train.warm_start_epoch - frozen)

        def losses(
            state: TrainingState, pairs: TrainingPairs, users: Tensor, items: Tensor, log_q: Tensor
        ) -> tuple[Tensor, Tensor | float]:
            if state.is_warm:
                done = state.epoch + state.batch / num_batches - train.warm_start_epoch
                weight = first * (last / first) ** min(1.0, done / span)
                layer.config = dataclasses.replace(layer.config, **{name: weight})
            return batch_losses(state, pairs, users, items, log_q)

        return losses

    return prepare


def frozen_hard_negatives(count: int, *, alone: bool) -> Prepare:
    """Return what learns, once codes are frozen, against what each query finds first, too.

    Args:
        count: how many of the first items that a query finds and its user has not had.
        alone: against these and nothing else; else beside the items drawn from the catalogue.
    """

    def prepare(state: TrainingState, pairs: TrainingPairs) -> Losses:  # noqa: ARG001
        def losses(
            state: TrainingState, pairs: TrainingPairs, users: Tensor, items: Tensor, log_q: Tensor
        ) -> tuple[Tensor, Tensor | float]:
            if state.frozen is None:
                return batch_losses(state, pairs, users, items, log_q)
            asking = pairs.histories.of(users, without=items).to(state.device)
            queries = state.model.encode_queries(asking)
            scale = 1 / state.config.model.temperature
            first = _first_found(state, pairs, users, queries, count)
            hard = item_vectors(state, first.ravel())[0].view(len(queries), count, -1)
            own = (queries * item_vectors(state, items)[0]).sum(1, keepdim=True) * scale
            found = torch.einsum("nd,nhd->nh", queries, hard) * scale
            logits = [own, found.masked_fill(first < 0, -torch.inf)]
            if not alone:
                drawn = drawn_items(state)
                others = queries @ item_vectors(state, drawn)[0].T * scale
                others = others + math.log(state.model.num_items / len(drawn))
                places = pairs.histories.places(users, drawn)
                logits.append(others.index_put(places, others.new_tensor(-torch.inf)))
            target = torch.zeros(len(queries), dtype=torch.int64)
            return torch.nn.functional.cross_entropy(torch.cat(logits, dim=1), target), 0.0

        return losses

    return prepare


@torch.no_grad()
def _first_found(
    state: TrainingState, pairs: TrainingPairs, users: Tensor, queries: Tensor, count: int
) -> Tensor:
    """Return the items that each query finds first in the index as it stands, int64 [n, count].

    What its user had is left out.
    """
    assert state.layer is not None
    found = state.item_codes()
    exclude = _had(pairs, users)
    first = exact_search(queries, state.layer.decode(found.codes, found.lists), count, exclude)
    return torch.from_numpy(first)


def _had(pairs: TrainingPairs, users: Tensor) -> Grouped:
    rows, items = pairs.histories.places(users, torch.arange(pairs.num_items))
    return Grouped.by_row(rows.numpy(), items.numpy(), len(users))


def joint_hard_negatives(count: int, weight: float) -> Prepare:
    """Return what adds, while codes still move, a loss against items that the index finds wrongly.

    Args:
        count: of the first items that each user found at the beginning of the epoch one is drawn
            for each pair of a batch; all pairs learn against all that were drawn.
        weight: of that loss.
    """

    def prepare(state: TrainingState, pairs: TrainingPairs) -> Losses:  # noqa: ARG001
        first = _FirstOfAll(pairs, count)

        def losses(
            state: TrainingState, pairs: TrainingPairs, users: Tensor, items: Tensor, log_q: Tensor
        ) -> tuple[Tensor, Tensor | float]:
            if not state.is_warm or state.frozen is not None:
                return batch_losses(state, pairs, users, items, log_q)
            hard = first.drawn(state, users)
            queries = state.model.encode_queries(pairs.histories.of(users, without=items))
            vectors, _, _, extra = item_vectors(state, torch.cat([items, hard]))
            own, others = vectors.split([len(items), len(hard)])
            temperature = state.config.model.temperature
            usual = in_batch_softmax(
                queries,
                own,
                temperature=temperature,
                user_ids=users,
                item_ids=items,
                log_q=log_q[items],
            )
            known = pairs.histories.places(users, hard)
            more = catalogue_softmax(
                queries, own, others, temperature=temperature, known=known, num_items=len(hard)
            )
            return usual + weight * more, extra

        return losses

    return prepare


class _FirstOfAll:
    """What each user finds first, looked for anew in each epoch."""

    def __init__(self, pairs: TrainingPairs, count: int) -> None:
        self._pairs, self._count = pairs, count
        self._epoch, self._first = -1, torch.zeros(0)

    def drawn(self, state: TrainingState, users: Tensor) -> Tensor:
        """Return one for each of `users`, int64 [m], ascending, each once."""
        if self._epoch != state.epoch:
            everybody = torch.arange(self._pairs.num_users)
            with torch.no_grad():
                queries = state.model.encode_queries(self._pairs.histories.of(everybody))
            self._first = _first_found(state, self._pairs, everybody, queries, self._count)
            self._epoch = state.epoch
        generator = torch.Generator().manual_seed(state.config.train.seed * 1_000_003 + state.step)
        column = torch.randint(self._count, (len(users), 1), generator=generator)
        found = self._first[users].gather(1, column)[:, 0].unique()
        return found[found >= 0]


TRIED: dict[str, Prepare] = {
    "codebooks by a moving average": moving_average(0.99),
    "codebooks by a slow moving average": moving_average(0.999),
    "weight on distortion grows from a tenth": weight_schedule("distortion_weight", 1.0, 10.0),
    "weight on distortion falls from tenfold": weight_schedule("distortion_weight", 100.0, 10.0),
    "commitment grows from 0.001 to 0.1": weight_schedule("commitment_weight", 0.001, 0.1),
    "commitment falls from 0.1 to 0.001": weight_schedule("commitment_weight", 0.1, 0.001),
    "hard negatives beside those drawn in the frozen epoch": frozen_hard_negatives(
        100, alone=False
    ),
    "hard negatives alone in the frozen epoch": frozen_hard_negatives(200, alone=True),
    "hard negatives in the joint epochs": joint_hard_negatives(100, 0.1),
}
"""Name of the row -> what prepares a state for it. One that is changed wants another name: rows are
kept by their names and by settings that all of these share."""
