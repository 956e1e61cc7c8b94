"""The float twin of joint models: same towers, data, order and steps, no index layer.

Before the warm start a joint run and its twin are the same run, to the bit. So the twin is trained
once, and what it was at that point is where every joint model begins.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from poeem.config import Config, TrainConfig
from poeem.evaluation.protocol import EvaluationSet
from poeem.evaluation.rival_process import save_inputs
from poeem.files import atomic_write
from poeem.training.checkpoint import load_checkpoint, save_checkpoint
from poeem.training.loop import FEW_STEPS, FEW_STEPS_OF_PARTS, evaluate_state, schedule
from poeem.training.objective import usual_tail_dropout
from poeem.training.prepared import Prepared
from poeem.training.run import MakeDisplay, new_state, train_state
from poeem.training.state import TrainingState, code_bits, has_tail, usual_frozen_bits
from poeem.types import FloatArray

# Of training, but nothing to a model without an index layer.
_ONLY_JOINT = (
    *("codebook_learning_rate", "rotation_learning_rate", "coarse_weight"),
    *("quantized_share", "refit_below", "refit_beam", "frozen_bits"),
    *("frozen_epochs", "frozen_rate", "frozen_negatives", "distillation_share"),
    *("list_choice", "list_capacity", "list_rounds"),
)
# Nothing without lists; without residual codes.
_ONLY_LISTS = ("list_choice", "list_capacity", "list_rounds")
_ONLY_RESIDUAL = ("quantizer_dropout", "tail_dropout")
# Nothing without frozen epochs.
_ONLY_FROZEN = ("frozen_rate", "frozen_negatives", "frozen_bits", "distillation_share")
# Nothing where they are 0: later than most results.
_NONE_AT_0 = ("distillation_share", "parallel_weight", "tail_dropout", "frozen_bits")
# Nothing to the figures.
_NEUTRAL = ("eval_every", "eval_users", "checkpoint_every", "num_threads")


def fork(state: TrainingState, other: TrainingState) -> None:
    """Bring another state to where `state` stands, all but the layer, the optimizer included."""
    shared = {k: v.clone() for k, v in state.tensors().items() if "layer/" not in k}
    other.load_tensors(other.tensors() | shared)
    other.epoch, other.batch, other.step = state.epoch, state.batch, state.step


class LeftOpen(NamedTuple):
    """What settings that a user left to the library come to.

    refit_below: see `left_open`. frozen_epochs: None = 1 where codes freeze, else 0.
    tail_dropout: of long residual codes. users_are_ids: what is long depends on it (`has_tail`),
    and what `frozen_bits` comes to.
    """

    refit_below: int = FEW_STEPS
    frozen_epochs: int | None = None
    tail_dropout: float = 0.0
    users_are_ids: bool = False


_USUAL = LeftOpen()


def settings_mark(config: Config, *, joint: bool, left: LeftOpen = _USUAL) -> str:
    """Return 8 hexadecimal digits that change with any setting that a figure depends on.

    Args:
        joint: whether those of the index layer are among them.
        left: what settings left open come to; see `left_open`.
    """
    values = config.to_dict()
    train = values["train"]
    train["frozen_epochs"] = _marked_epochs(config.train, left.frozen_epochs)
    if train["refit_below"] is None:  # where nothing freezes, nothing is fitted then
        train["refit_below"] = left.refit_below if train["frozen_epochs"] else FEW_STEPS
    left_out = _NEUTRAL if joint else (*_NEUTRAL, *_ONLY_JOINT)
    layer = values["layer"]
    tail = has_tail(config.layer, users_are_ids=left.users_are_ids)
    if layer["tail_dropout"] is None and tail and not layer["quantizer_dropout"]:
        layer["tail_dropout"] = left.tail_dropout
    train["frozen_bits"] = _marked_bits(config, left)
    if not train["frozen_epochs"]:
        left_out = (*left_out, *_ONLY_FROZEN)
    left_out = (*left_out, *(name for name in _NONE_AT_0 if not train.get(name)))
    if not layer["num_lists"]:
        left_out = (*left_out, *_ONLY_LISTS)
    if layer["family"] != "residual":
        layer = {k: v for k, v in layer.items() if k not in _ONLY_RESIDUAL}
    values["layer"] = {k: v for k, v in layer.items() if v or k not in _NONE_AT_0}
    values["train"] = {k: v for k, v in train.items() if k not in left_out}
    sections = ("data", "model", "train", "layer", "build") if joint else ("data", "model", "train")
    text = json.dumps({name: values[name] for name in sections}, sort_keys=True)
    return f"{zlib.crc32(text.encode()):08x}"


def _marked_epochs(config: TrainConfig, usual: int | None) -> int | list[int]:
    """Return what the mark has for frozen epochs: 1 where they are left to the library.

    So have results from before it chose. Who asks for 1 where it would choose others is told apart.
    """
    told = config.frozen_epochs
    as_before = int(dataclasses.replace(config, frozen_epochs=None).freezes)
    usual = as_before if usual is None else usual
    if told is None or told == usual:
        return as_before
    return [told] if told == as_before else told


def _marked_bits(config: Config, left: LeftOpen) -> int:
    """Return what the mark has for the bits that learn in frozen epochs: 0 where those are all."""
    told = config.train.frozen_bits
    usual = usual_frozen_bits(config.layer, users_are_ids=left.users_are_ids)
    bits = usual if told is None else told
    later = config.layer.family == "residual" and bits < code_bits(config.layer)
    return bits if later else 0


def left_open(prepared: Prepared, config: Config) -> LeftOpen:
    """Return what settings that are left open come to with these data.

    Of texts and histories more steps are few: 1,000. But where as many are made as make no
    difference, `refit_below` is 100, as in results from before that.
    """
    texts = prepared.texts is not None and config.model.item_tower != "id"
    query_tower = config.model.query_tower
    histories = query_tower == "history"
    by_id = query_tower == "id" or (query_tower == "auto" and prepared.texts is None)
    tail = usual_tail_dropout(prepared.pairs, users_are_ids=by_id)
    num_batches = prepared.pairs.num_batches(config.train.batch_size)
    untold = dataclasses.replace(config.train, frozen_epochs=None)
    usual = schedule(untold, num_batches, texts=texts, histories=histories)
    frozen = usual.frozen_epochs
    if not (texts or histories):
        return LeftOpen(FEW_STEPS, frozen, tail, by_id)
    told = config.train.frozen_epochs
    steps = config.train.epochs - config.train.warm_start_epoch
    as_before = int(untold.freezes) if told in (None, frozen) else told
    steps = (steps - as_before) * num_batches
    few = FEW_STEPS_OF_PARTS if FEW_STEPS <= steps < FEW_STEPS_OF_PARTS else FEW_STEPS
    return LeftOpen(few, frozen, tail, by_id)


class TwinFolder:
    """A twin in a folder: trained once, found again by whoever needs it.

    Args:
        root: holds a folder for each twin, named by its seed, settings and data.
        config: the twin's settings; what is of the layer alone does not count.
        prepared: the data.
        evaluation: the pairs to measure on.
    """

    def __init__(
        self, root: Path, config: Config, prepared: Prepared, evaluation: EvaluationSet
    ) -> None:
        mark = settings_mark(config, joint=False)
        self.path = root / f"seed{config.train.seed}-{mark}-{prepared.digest}"
        self.config, self.prepared, self.evaluation = config, prepared, evaluation

    def is_trained(self) -> bool:
        """Return whether there is nothing left to do."""
        return (self.path / "figures.json").exists()

    def train(self, display: MakeDisplay | None = None) -> None:
        """Train the twin, on from its last checkpoint, and write what rivals and joint runs need.

        Raises:
            TrainingInterrupted: Ctrl-C; calling it again goes on.
        """
        if self.is_trained():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        state = new_state(self.config, self.prepared, joint=False)
        checkpoint = self.path / "twin.safetensors"
        if checkpoint.exists():
            load_checkpoint(state, checkpoint)
        train_state(
            state,
            dataclasses.replace(self.prepared, validation=None),  # nothing to look at on the way
            checkpoint=checkpoint,
            display=display,
            title="float twin",
            on_warm_start=lambda now: save_checkpoint(now, self._fork),
        )
        state.model.eval()
        figures = evaluate_state(state, self.evaluation, self.prepared.pairs)
        vectors: FloatArray = state.model.all_items().cpu().numpy()
        queries = query_vectors(state, self.prepared, self.evaluation)
        save_inputs(self.path, vectors, queries, self.evaluation)
        with atomic_write(self.path / "figures.json") as temporary:  # last: says that all is there
            temporary.write_text(json.dumps(figures), encoding="utf-8")

    def figures(self) -> dict[str, float]:
        """Return recall and precision of exact search over its float vectors."""
        found: dict[str, float] = json.loads((self.path / "figures.json").read_text("utf-8"))
        return found

    def trained(self) -> TrainingState:
        """Return the twin after its last step."""
        state = new_state(self.config, self.prepared, joint=False)
        load_checkpoint(state, self.path / "twin.safetensors")
        return state

    def joint_state(self, config: Config) -> TrainingState:
        """Return a joint model where the twin stood before the warm start.

        Args:
            config: differs from the twin's in nothing that counts before the warm start.
        """
        before = new_state(self.config, self.prepared, joint=False)
        load_checkpoint(before, self._fork)
        state = new_state(config, self.prepared, joint=True)
        fork(before, state)
        return state

    @property
    def _fork(self) -> Path:
        return self.path / "warm-start.safetensors"


@torch.no_grad()
def query_vectors(
    state: TrainingState, prepared: Prepared, evaluation: EvaluationSet
) -> FloatArray:
    """Return the vectors of the users of `evaluation`, float32 [n, dim]."""
    users = prepared.pairs.histories.of(torch.from_numpy(evaluation.users)).to(state.device)
    vectors: FloatArray = np.asarray(state.model.encode_queries(users).cpu().numpy())
    return vectors
