"""From settings to a trained model and its index, in a folder: what the command line's verbs do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch

from poeem.checks import check_path_text
from poeem.config import Config
from poeem.errors import ConfigError, DataError, InputError, TrainingInterrupted
from poeem.files import held_folder
from poeem.quantize.health import ScalarWriter
from poeem.training.checkpoint import load_checkpoint
from poeem.training.display import Display
from poeem.training.folder import Catalogue, RunFolder
from poeem.training.loop import train
from poeem.training.objective import Losses, batch_losses
from poeem.training.prepared import Prepared, prepare
from poeem.training.state import TrainingState, check_distillation, has_demand_lists


class MakeDisplay(Protocol):
    """Makes what shows a training; `poeem.training.display.Bar` is one."""

    def __call__(
        self, title: str, *, total_steps: int, num_epochs: int, done_steps: int
    ) -> Display:
        """Return a display for so many steps."""
        ...


def train_run(
    config: Config,
    folder: Path,
    *,
    joint: bool = True,
    resume: bool = False,
    overwrite: bool = False,
    prepared: Prepared | None = None,
    display: MakeDisplay | None = None,
    writer: ScalarWriter | None = None,
    on_warm_start: Callable[[TrainingState], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> TrainingState:
    """Train in a folder, from the beginning or from where an earlier call was stopped.

    Args:
        config: settings; on resume they must be those the run was begun with.
        folder: where settings, ids and checkpoints go; made if missing.
        joint: with the index layer; False trains the float twin alone.
        resume: go on with the run that is there.
        overwrite: replace the run that is there, once the new one has ended; see `RunFolder`.
        prepared: what `prepare(config)` returned, where the caller has it already.
        display: makes what shows the progress; None = nothing is shown.
        writer: TensorBoard's `SummaryWriter`, or anything with its `add_scalar`.
        on_warm_start: called just before the warm start, e.g. to fork a twin from there.
        say: receives a line where there is something to say, e.g. that nothing was left to do.

    Returns:
        The state after the last epoch. A resumed run gives the same, to the bit, as one that was
        never stopped, on the same machine with the same number of threads.

    Raises:
        InputError: the folder holds a run, and neither `resume` nor `overwrite` was asked for; or
            another process trains there.
        ConfigError: settings that do not go together, or on resume differ from the run's.
        CheckpointError: on resume, nothing there, damaged, or made for other data.
        TrainingInterrupted: Ctrl-C; a checkpoint has been left.
    """
    target = RunFolder(Path(folder))
    check_start(config, target.path, joint=joint, resume=resume, overwrite=overwrite)
    with _torch_threads(config.train.num_threads):
        prepared = prepared or prepare(config)
        _check_catalogue(config, prepared, joint)
        state = new_state(config, prepared, joint=joint)
        target.make()
        with held_folder(target.path):
            if resume:
                files = target.to_resume()
                Catalogue.load(files.ids).require_same(prepared.catalogue, files.ids)
                if files.checkpoint.exists():  # else it was stopped before its first checkpoint
                    load_checkpoint(state, files.checkpoint)
            else:
                files = target.begin(config, prepared.catalogue)
            if state.epoch < config.train.epochs:
                with _naming_what_stays(target, files):
                    train_state(
                        state,
                        prepared,
                        checkpoint=files.checkpoint,
                        display=display,
                        writer=writer,
                        on_warm_start=on_warm_start,
                    )
            elif say is not None:
                say(f"{files.path}: all {state.epoch} epochs are trained already")
            if files != target:
                target.finish()
        return state


@contextmanager
def _naming_what_stays(target: RunFolder, files: RunFolder) -> Iterator[None]:
    """Say, where a run that replaces another is stopped, that the other is whole."""
    try:
        yield
    except TrainingInterrupted as error:
        if files == target:
            raise
        # To go on is asked of the folder that the run is to be in, or it would never get there.
        text = str(error).replace(f"--out {files.path} ", f"--out {target.path} ")
        message = f"{text}; until it has ended, the earlier run in {target.path} stays"
        raise TrainingInterrupted(message, error.checkpoint) from None


def check_start(
    config: Config, folder: Path, *, joint: bool = True, resume: bool, overwrite: bool
) -> None:
    """Check, before any data is read, what `train_run` can refuse without it.

    Raises:
        InputError, ConfigError, CheckpointError: as in `train_run`.
    """
    settings = config.train
    check_path_text("out", folder)
    check_path_text("DataConfig.path", config.data.path)
    if joint:
        check_distillation(settings)
    if joint and settings.warm_start_epoch >= settings.epochs:
        raise ConfigError(
            f"TrainConfig.warm_start_epoch: got {settings.warm_start_epoch}, wanted less than "
            f"epochs ({settings.epochs}), or the index is never trained: set both"
        )
    frozen = settings.frozen_epochs or 0  # none fits itself to the epochs
    if joint and settings.warm_start_epoch >= settings.epochs - frozen:
        raise ConfigError(
            f"TrainConfig.frozen_epochs: got {frozen}, wanted less than "
            f"{settings.epochs - settings.warm_start_epoch}, the epochs after the warm start "
            f"(epochs {settings.epochs}, warm_start_epoch {settings.warm_start_epoch})"
        )
    if joint:
        has_demand_lists(config)
    files = RunFolder(Path(folder))
    if resume:
        files.to_resume().require_same(config)
    elif files.holds_a_run() and not overwrite:
        raise InputError(
            f"out: {files.path} already holds a run; go on with it by --resume, replace it by "
            "--overwrite, or name another folder"
        )


def new_state(config: Config, prepared: Prepared, *, joint: bool) -> TrainingState:
    """Return a state before its first step, of the sizes of the data."""
    pairs = prepared.pairs
    state = TrainingState.new(
        pairs.num_users, pairs.num_items, config, joint=joint, texts=prepared.texts
    )
    state.catalogue = prepared.catalogue.digest()
    return state


def train_state(
    state: TrainingState,
    prepared: Prepared,
    *,
    checkpoint: Path | None = None,
    display: MakeDisplay | None = None,
    title: str = "training",
    writer: ScalarWriter | None = None,
    on_warm_start: Callable[[TrainingState], None] | None = None,
    losses: Losses = batch_losses,
) -> TrainingState:
    """Train a state to its last epoch; see `poeem.training.loop.train`."""
    settings = state.config.train
    num_batches = prepared.pairs.num_batches(settings.batch_size)
    shown = None
    if display is not None:
        shown = display(
            title,
            total_steps=settings.epochs * num_batches,
            num_epochs=settings.epochs,
            done_steps=state.step,
        )
    return train(
        state,
        prepared.pairs,
        validation=prepared.validation,
        checkpoint=checkpoint,
        display=shown,
        writer=writer,
        on_warm_start=on_warm_start,
        losses=losses,
    )


def _check_catalogue(config: Config, prepared: Prepared, joint: bool) -> None:
    """Say before an hour of training what the warm start would say after it."""
    lacking = too_few_items(config, prepared)
    if joint and lacking is not None:
        raise DataError(lacking)


def too_few_items(config: Config, prepared: Prepared) -> str | None:
    """Return why a catalogue is too small for an index of these settings, or None."""
    have, wanted = prepared.pairs.num_items, max(config.layer.num_codewords, config.layer.num_lists)
    if have >= wanted:
        return None
    return (
        f"items: got {have}, wanted at least {wanted}, the larger of num_codewords and num_lists; "
        "set fewer of them, say with --num-codewords 16"
    )


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads for a while; 0 = what it uses already."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
