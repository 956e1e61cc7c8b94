"""A training step with the layer against the same step without it.

Two towers by id with as many users and items as gowalla, batch 4,096, dim 64, 8 x 256 codes; both
kinds of step take turns in one process, and medians are compared.

    python benchmarks/step_cost.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from common import write_result

from poeem.config import Config, LayerConfig, ModelConfig, TrainConfig
from poeem.training.losses import in_batch_softmax
from poeem.training.state import TrainingState

NUM_USERS, NUM_ITEMS, BATCH_SIZE, DIM = 29_858, 40_981, 4096, 64


def make_step(state: TrainingState, seed: int) -> Callable[[], None]:
    """Return a function that does one whole training step on random pairs."""
    generator = torch.Generator().manual_seed(seed)

    def step() -> None:
        users = torch.randint(NUM_USERS, (BATCH_SIZE,), generator=generator)
        items = torch.randint(NUM_ITEMS, (BATCH_SIZE,), generator=generator)
        queries = state.model._finish(state.model.query_tower(users))
        vectors, extra = state.model.encode_items(items), 0.0
        if state.layer is not None:
            out = state.layer(vectors)
            vectors, extra = out.vectors, out.loss
        loss = in_batch_softmax(
            queries,
            vectors,
            temperature=0.07,
            user_ids=users,
            item_ids=items,
            log_q=torch.zeros(BATCH_SIZE),
        )
        state.zero_grad()
        (loss + extra).backward()
        state.optimize()

    return step


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=60)
    repetitions = parser.parse_args().repetitions
    figures = {}
    for num_lists in (0, 256):
        config = Config(
            model=ModelConfig(dim=DIM),
            layer=LayerConfig(num_subspaces=8, num_codewords=256, num_lists=num_lists),
            train=TrainConfig(batch_size=BATCH_SIZE),
        )
        states = {
            joint: TrainingState.new(NUM_USERS, NUM_ITEMS, config, joint=joint)
            for joint in (True, False)
        }
        states[True].layer.warm_start(states[True].model.all_items())
        steps = {joint: make_step(state, 0) for joint, state in states.items()}
        times: dict[bool, list[float]] = {True: [], False: []}
        for repetition in range(repetitions + 5):
            for joint, step in steps.items():
                started = time.perf_counter()
                step()
                if repetition >= 5:
                    times[joint].append(time.perf_counter() - started)
        with_layer, without = np.array(times[True]), np.array(times[False])
        figures[f"num_lists={num_lists}"] = {
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
        "repetitions": repetitions,
    }
    write_result("step_cost", {"settings": settings, "figures": figures})


if __name__ == "__main__":
    main()
