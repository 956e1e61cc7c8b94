"""A training step with the layer against the same step without it.

The steps are those of `poeem.training`: two towers by id with as many users and items as gowalla,
batch 4,096, dim 64, 8 x 256 codes. With lists, training by default adds a second softmax that
teaches which list to probe; it is measured with and without. Both kinds of step take turns in one
process, and medians are compared. Threads of torch spin as little as in `poeem train`, which sets
GOMP_SPINCOUNT; with more, they keep the layer's own threads from a core.

    python benchmarks/step_cost.py
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable

import numpy as np

import poeem.cli  # noqa: F401  before torch, which it tells to spin less

# isort: split
import torch
from common import write_result

from poeem.config import Config, LayerConfig, ModelConfig, TrainConfig
from poeem.training.loop import batch_losses
from poeem.training.pairs import TrainingPairs
from poeem.training.state import TrainingState

NUM_USERS, NUM_ITEMS, BATCH_SIZE, DIM = 29_858, 40_981, 4096, 64


CASES = {
    "num_lists=0": ("product", 0, 1.0),
    "num_lists=256, loss on lists": ("product", 256, 1.0),
    "num_lists=256, layer alone": ("product", 256, 0.0),
    "residual codes, num_lists=0": ("residual", 0, 1.0),
    "residual codes, num_lists=256, loss on lists": ("residual", 256, 1.0),
}


def random_pairs() -> TrainingPairs:
    """Return as many random pairs as a few batches need."""
    rng = np.random.default_rng(0)
    count = 16 * BATCH_SIZE
    nothing = (np.zeros(NUM_USERS + 1, np.int64), np.zeros(0, np.int64))  # no histories: id towers
    return TrainingPairs.from_arrays(
        rng.integers(NUM_USERS, size=count),
        rng.integers(NUM_ITEMS, size=count),
        nothing,
        num_users=NUM_USERS,
        num_items=NUM_ITEMS,
        max_history=1,
    )


def make_step(state: TrainingState, pairs: TrainingPairs) -> Callable[[], None]:
    """Return a function that does one whole training step."""
    batches = itertools.cycle(list(pairs.batches(BATCH_SIZE, epoch=0, seed=0)))

    def step() -> None:
        users, items = next(batches)
        retrieval, extra = batch_losses(state, pairs, users, items, pairs.log_q)
        state.zero_grad()
        (retrieval + extra).backward()
        state.optimize()

    return step


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=60)
    repetitions = parser.parse_args().repetitions
    figures, pairs = {}, random_pairs()
    for case, (family, num_lists, coarse_weight) in CASES.items():
        config = Config(
            model=ModelConfig(dim=DIM),
            layer=LayerConfig(
                family=family, num_subspaces=8, num_codewords=256, num_lists=num_lists
            ),
            # Lists by demand come when codes freeze; these are there in every step.
            train=TrainConfig(
                batch_size=BATCH_SIZE,
                coarse_weight=coarse_weight,
                device="cpu",
                list_choice="nearest",
            ),
        )
        states = {
            joint: TrainingState.new(NUM_USERS, NUM_ITEMS, config, joint=joint)
            for joint in (True, False)
        }
        assert states[True].layer.num_lists == num_lists
        states[True].layer.warm_start(states[True].model.all_items())
        steps = {joint: make_step(state, pairs) for joint, state in states.items()}
        times: dict[bool, list[float]] = {True: [], False: []}
        for repetition in range(repetitions + 5):
            for joint, step in steps.items():
                started = time.perf_counter()
                step()
                if repetition >= 5:
                    times[joint].append(time.perf_counter() - started)
        with_layer, without = np.array(times[True]), np.array(times[False])
        figures[case] = {
            "ratio_of_medians": round(float(np.median(with_layer) / np.median(without)), 3),
            "median_of_ratios": round(float(np.median(with_layer / without)), 3),
            "median_ms_with_layer": round(1e3 * float(np.median(with_layer)), 1),
            "median_ms_without": round(1e3 * float(np.median(without)), 1),
        }
    settings = {
        "batch_size": BATCH_SIZE,
        "dim": DIM,
        "num_subspaces": 8,
        "num_codewords": 256,
        "threads": torch.get_num_threads(),
        "GOMP_SPINCOUNT": os.environ["GOMP_SPINCOUNT"],
        "repetitions": repetitions,
    }
    write_result("step_cost", {"settings": settings, "figures": figures})


if __name__ == "__main__":
    main()
