"""A number of epochs that a user chose, and the settings that must go with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Container

from poeem.config import TrainConfig


def fitted(train: TrainConfig, given: Container[str], usual: TrainConfig) -> TrainConfig:
    """Return a schedule whose parts fit its epochs, changing only what was not given.

    The warm start gets the share of the epochs that it usually has, and leaves one for the index at
    least; epochs with frozen codes leave one too. The step sizes do not begin to fall before it.

    Args:
        train: with the epochs wanted.
        given: names of the settings that the user set.
        usual: whose share counts.
    """
    warm, decay = train.warm_start_epoch, train.decay_epochs
    if "warm_start_epoch" not in given and train.epochs != usual.epochs:
        share = usual.warm_start_epoch / usual.epochs
        warm = max(0, min(round(train.epochs * share), train.epochs - 1))
    frozen = train.frozen_epochs
    if "frozen_epochs" not in given and frozen is not None:
        frozen = min(frozen, max(0, train.epochs - warm - 1))
    if "decay_epochs" not in given:
        usually = int(train.epochs - warm > 1) if frozen is None else frozen
        decay = min(decay, max(1, train.epochs - usually - warm))
    return dataclasses.replace(
        train, warm_start_epoch=warm, decay_epochs=decay, frozen_epochs=frozen
    )
