"""The training loop: towers and index as one."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from poeem.config import TrainConfig
from poeem.errors import NonFiniteError, TrainingInterrupted
from poeem.evaluation.exact import exact_search
from poeem.evaluation.protocol import CUTOFFS, EvaluationSet
from poeem.models.towers import HistoryTower, IdTower
from poeem.quantize.health import ScalarWriter, code_health
from poeem.quantize.layer_state import Phase
from poeem.training.checkpoint import save_checkpoint
from poeem.training.demand import DemandLists, demand_lists
from poeem.training.display import Display, Quiet
from poeem.training.objective import Losses, batch_losses, quantizer_dropout, tail_dropout
from poeem.training.pairs import TrainingPairs
from poeem.training.state import TrainingState, has_demand_lists

# Lists by demand: queries they are made with, and, where there is more time, pairs looked at.
_QUERIES_PER_LIST = 32
_GUESSES = 2**30
# Steps with the index after which codewords have followed the vectors: of ids, and of what is made
# of shared parts, as texts and histories are.
FEW_STEPS, FEW_STEPS_OF_PARTS = 100, 1000


def train(
    state: TrainingState,
    pairs: TrainingPairs,
    *,
    validation: EvaluationSet | None = None,
    checkpoint: Path | None = None,
    display: Display | None = None,
    writer: ScalarWriter | None = None,
    on_warm_start: Callable[[TrainingState], None] | None = None,
    losses: Losses = batch_losses,
) -> TrainingState:
    """Train from where `state` stands to the last epoch of its configuration.

    Args:
        state: new, or loaded from a checkpoint; changed in place. Without a layer it trains the
            float twin: same data, same order, same steps.
        pairs: what to learn from.
        validation: held-out pairs for the evaluations on the way.
        checkpoint: file to write at the end of each epoch, every `checkpoint_every` steps, and
            when the user interrupts.
        display: where to report; None = nowhere.
        writer: TensorBoard's `SummaryWriter`, or anything with its `add_scalar`.
        on_warm_start: called just before the warm start, e.g. to fork a twin from there; where a
            twin is trained, at the same point.
        losses: what a step makes smaller, arguments as those of `batch_losses`; called once a step.

    Returns:
        The same state.

    Raises:
        TrainingInterrupted: Ctrl-C; a checkpoint has been left, the message says how to go on.
    """
    model, layer = state.model, state.layer
    num_batches = pairs.num_batches(state.config.train.batch_size)
    config = scheduled(state, num_batches)
    log_q = pairs.log_q if config.logq_correction else torch.zeros_like(pairs.log_q)
    log_q = log_q.to(state.device)
    display = display or Quiet()
    model.train()
    if layer is not None:
        layer.train()
        layer.quantizer_dropout = quantizer_dropout(state, pairs)
        layer.tail_dropout = tail_dropout(state, pairs)
    with display, _interruptible() as interrupted:
        while state.epoch < config.epochs:
            if state.epoch == config.warm_start_epoch and state.batch == 0:
                if on_warm_start is not None:
                    on_warm_start(state)
                warm_start(state, pairs, display)
            if layer is not None and state.epoch == _first_frozen(config) and state.batch == 0:
                freeze(state, pairs, display, config.refit_below or 0)
            for users, items in pairs.batches(
                config.batch_size, epoch=state.epoch, seed=config.seed, skip=state.batch
            ):
                position = state.epoch + state.batch / num_batches
                state.set_rates(rate_factor(config, position, joint=layer is not None))
                retrieval, extra = _checked_losses(losses, state, pairs, users, items, log_q)
                state.zero_grad()
                (retrieval + extra).backward()
                state.optimize()
                state.batch += 1
                state.step += 1
                display.step(state.epoch, float(retrieval.detach()), len(users))
                due = config.checkpoint_every and state.step % config.checkpoint_every == 0
                if checkpoint is not None and (due or interrupted.is_set()):
                    save_checkpoint(state, checkpoint)
                if interrupted.is_set():
                    raise _interruption(state, checkpoint)
            state.epoch, state.batch = state.epoch + 1, 0
            if checkpoint is not None:
                save_checkpoint(state, checkpoint)
            last = state.epoch == config.epochs
            if validation is not None and (last or _divides(config.eval_every, state.epoch)):
                figures = evaluate_state(
                    state, validation.sample(config.eval_users, config.seed), pairs
                )
                display.message(_line(state.epoch, figures))
                _write(writer, figures, state)
    return state


def _checked_losses(
    losses: Losses,
    state: TrainingState,
    pairs: TrainingPairs,
    users: Tensor,
    items: Tensor,
    log_q: Tensor,
) -> tuple[Tensor, Tensor | float]:
    try:
        return losses(state, pairs, users, items, log_q)
    except NonFiniteError as error:
        raise NonFiniteError(
            f"training diverged in epoch {state.epoch + 1}, after {state.step} steps: {error}; "
            f"learning_rate was {state.config.train.learning_rate:g}, wanted a smaller one",
            error.rows,
        ) from error


def rate_factor(config: TrainConfig, epoch: float, *, joint: bool) -> float:
    """Return the share of the step sizes to use at a fractional epoch.

    1, then down to 0, never before the warm start, so that a float twin can be forked there; with
    an index layer once more from 1 to 0 in the frozen epochs.
    """
    end = config.epochs
    if joint and config.frozen_epochs:
        end = _first_frozen(config)
        if epoch >= end:
            return max(0.0, (config.epochs - epoch) / config.frozen_epochs)
    if config.decay_epochs == 0:
        return 1.0
    begin = max(end - config.decay_epochs, min(config.warm_start_epoch, end - 1))
    return min(1.0, max(0.0, (end - epoch) / (end - begin)))


def scheduled(state: TrainingState, num_batches: int) -> TrainConfig:
    """Return a state's settings with those of the last phase: as told, or by the steps there are.

    Few steps with the index do towers and codewords little good, more of the last phase does, and a
    fit before it. What few is depends on the towers: vectors of texts share their tokens and those
    of histories their items, so that all move in every step, those of ids when their turn comes
    (docs/recipe.md).

    Args:
        num_batches: steps of an epoch.
    """
    texts = not isinstance(state.model.item_tower, IdTower)
    histories = isinstance(state.model.query_tower, HistoryTower)
    return schedule(state.config.train, num_batches, texts=texts, histories=histories)


def schedule(
    config: TrainConfig, num_batches: int, *, texts: bool = False, histories: bool = False
) -> TrainConfig:
    """Return settings with those of the last phase; see `scheduled`.

    texts: what items are, else ids. histories: what users are. A fit after more steps pays for
    both, a longer last phase was tried for texts alone.
    """
    few = config.refit_below
    if few is None:
        few = FEW_STEPS_OF_PARTS if texts or histories else FEW_STEPS
    short = min(few, FEW_STEPS) if histories and not texts else few
    frozen, after = config.frozen_epochs, config.epochs - config.warm_start_epoch
    if frozen is None:
        frozen = int(config.freezes)
        if (after - frozen) * num_batches < short:
            frozen = max(frozen, after // 2)
    return dataclasses.replace(config, frozen_epochs=frozen, refit_below=few)


def _first_frozen(config: TrainConfig) -> int:
    """Return the epoch in which codes are frozen; beyond the last one where they never are."""
    return config.epochs - config.frozen_epochs if config.frozen_epochs else config.epochs + 1


@torch.no_grad()
def evaluate_state(
    state: TrainingState,
    evaluation: EvaluationSet,
    pairs: TrainingPairs,
    advance: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Return recall and precision of unquantized and, once warm, of quantized vectors.

    The quantized vectors T(x) are searched exactly, which is what the engine will answer.

    Args:
        state, evaluation, pairs: the model, whom to ask, and what they had.
        advance: called with how many more queries were answered, as it goes on; of a layer that
            is warm each counts twice.

    Returns:
        `recall@20`, `precision@20`, ... of float vectors, the same with the prefix `quantized_`,
        and the health of the catalogue's codes, those that are in the index.
    """
    model, layer = state.model, state.layer
    users = pairs.histories.of(torch.from_numpy(evaluation.users)).to(state.device)
    queries, items = model.encode_queries(users), model.all_items()
    ranked = exact_search(queries, items, max(CUTOFFS), evaluation.exclude, advance)
    figures = evaluation.score(ranked)
    if layer is not None and state.is_warm:
        found = state.item_codes()
        quantized = layer.decode(found.codes, found.lists)
        ranked = exact_search(queries, quantized, max(CUTOFFS), evaluation.exclude, advance)
        figures |= {f"quantized_{k}": v for k, v in evaluation.score(ranked).items()}
        figures |= code_health(
            found.codes,
            layer.config.num_codewords,
            lists=found.lists,
            num_lists=layer.config.num_lists,
            distortion=float((items - quantized).square().sum(1).mean()),
        ).to_dict()
    return figures


def warm_start(state: TrainingState, pairs: TrainingPairs, display: Display) -> None:
    """Start centroids, codebooks and rotation from the vectors of the whole catalogue."""
    layer = state.layer
    if layer is None or layer.phase is Phase.JOINT:
        return
    display.message(
        f"warm start: fitting rotation and codebooks to {state.model.num_items:,} items"
    )
    layer.warm_start(state.model.all_items(), _sample_queries(state, pairs))
    used = layer.health(state.model.all_items()[: layer.config.num_samples])
    display.message(f"warm start: distortion {used.distortion:.4f}")


def freeze(state: TrainingState, pairs: TrainingPairs, display: Display, refit_below: int) -> None:
    """Let the codes of the catalogue stay from now on; after few joint steps fit them once more.

    After many steps towers and codewords have grown together, and a fit to the vectors alone undoes
    it, even where the training loss gets smaller. After few, the towers have left small-stepping
    codewords behind, and a fit gains much.

    Args:
        refit_below: so many steps are enough.
    """
    config, layer = state.config.train, state.layer
    joint_steps = (state.epoch - config.warm_start_epoch) * pairs.num_batches(config.batch_size)
    if layer is None:
        return
    if joint_steps >= refit_below:
        state.freeze()
        display.message("codes frozen: codewords and query tower go on")
    else:
        layer.refit(state.model.all_items(), _sample_queries(state, pairs), beam=config.refit_beam)
        state.freeze(config.refit_beam)
        display.message("codes fitted once more and frozen: codewords and query tower go on")
    if has_demand_lists(state.config):
        display.message(f"lists by demand: {state.config.layer.num_lists:,} of them")
        state.add_lists(_make_lists(state, pairs))


@torch.no_grad()
def _make_lists(state: TrainingState, pairs: TrainingPairs) -> DemandLists:
    """Return lists made by the demand of users drawn by the seed, each with a history or a name."""
    config, num_items = state.config, state.model.num_items
    generator = torch.Generator().manual_seed(config.train.seed)
    count = max(_QUERIES_PER_LIST * config.layer.num_lists, _GUESSES // num_items)
    users = pairs.users.unique()
    users = users[torch.randperm(len(users), generator=generator)[:count]]
    return demand_lists(
        state.model.encode_queries(pairs.histories.of(users).to(state.device)),
        state.model.all_items(),
        config.layer.num_lists,
        temperature=config.model.temperature,
        capacity=config.train.list_capacity,
        rounds=config.train.list_rounds,
        kmeans_iterations=config.layer.kmeans_iterations,
        generator=generator,
    )


@torch.no_grad()
def _sample_queries(state: TrainingState, pairs: TrainingPairs, count: int = 16_384) -> Tensor:
    """Return the queries of pairs drawn by the seed, float32 [count at most, dim]."""
    generator = torch.Generator().manual_seed(state.config.train.seed)
    drawn = pairs.users[torch.randperm(len(pairs), generator=generator)[:count]]
    queries: Tensor = state.model.encode_queries(pairs.histories.of(drawn).to(state.device))
    return queries


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that a step is never left half done."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def remember(signum: int, frame: object) -> None:  # noqa: ARG001
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


def _interruption(state: TrainingState, checkpoint: Path | None) -> TrainingInterrupted:
    where = f"stopped by you in epoch {state.epoch + 1}, after {state.step} steps"
    if checkpoint is None:
        return TrainingInterrupted(f"{where}; no checkpoint was asked for")
    how = f"go on from {checkpoint} with: poeem train --out {checkpoint.parent} --resume"
    return TrainingInterrupted(f"{where}; {how}", checkpoint)


def _divides(every: int, epoch: int) -> bool:
    return every > 0 and epoch % every == 0


def _line(epoch: int, figures: dict[str, float]) -> str:
    text = f"epoch {epoch}: recall@100 float {figures['recall@100']:.4f}"
    if "quantized_recall@100" in figures:
        text += (
            f", quantized {figures['quantized_recall@100']:.4f}; distortion "
            f"{figures['distortion']:.4f}, codewords used {figures['used_codewords']:.1%}"
        )
    return text


def _write(writer: ScalarWriter | None, figures: dict[str, float], state: TrainingState) -> None:
    if writer is not None:
        for name, value in figures.items():
            writer.add_scalar(f"evaluation/{name}", value, state.step)
