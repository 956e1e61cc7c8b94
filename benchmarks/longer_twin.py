"""How much of our gain is the loss of the last epoch, and not the index: a control.

With frozen codes our index learns for an epoch against items of the whole catalogue, while the
float twin of `compare.py` keeps the in-batch loss. Here that twin, trained to its end, gets one
epoch more with the loss, the negatives and the step sizes of our frozen epoch, both towers moving;
then Faiss builds its best index, residual codes by a wide beam, from the vectors.

    POEEM_DATA=../shared/data python benchmarks/longer_twin.py gowalla --bytes 8 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, write_result
from compare import SETS, settings, stamp

from poeem.cli.output import say
from poeem.evaluation.rival_process import measure_rival, save_inputs
from poeem.training.display import Bar
from poeem.training.loop import evaluate_state
from poeem.training.losses import catalogue_softmax
from poeem.training.objective import drawn_items
from poeem.training.pairs import TrainingPairs
from poeem.training.prepared import measured_pairs, prepare
from poeem.training.state import TrainingState
from poeem.training.twin import TwinFolder, query_vectors


def one_epoch_more(state: TrainingState, pairs: TrainingPairs) -> None:
    """Train a float twin against items of the catalogue, its step sizes falling to 0."""
    train, model = state.config.train, state.model
    total = pairs.num_batches(train.batch_size)
    model.train()
    with Bar("one epoch more", total_steps=total, num_epochs=1, done_steps=0) as bar:
        batches = pairs.batches(train.batch_size, epoch=train.epochs, seed=train.seed)
        for step, (users, items) in enumerate(batches):
            state.set_rates(train.frozen_rate * (1 - step / total))
            drawn = drawn_items(state)
            loss = catalogue_softmax(
                model.encode_queries(pairs.histories.of(users, without=items)),
                model.encode_items(items),
                model.encode_items(drawn),
                temperature=state.config.model.temperature,
                known=pairs.histories.places(users, drawn),
                num_items=model.num_items,
            )
            state.zero_grad()
            loss.backward()
            state.optimize()
            state.step += 1
            bar.step(0, float(loss.detach()), len(users))
    model.eval()


def control(data: str, seed: int, num_bytes: int, threads: int) -> dict[str, Any]:
    """Return recall of the twin, of the longer twin, and of the index built from it."""
    config = settings(data, {"train": {"num_threads": threads, "seed": seed}})
    prepared = prepare(config)
    evaluation = measured_pairs(config, prepared)
    twin = TwinFolder(Path("runs") / "compare" / data, config, prepared, evaluation)
    twin.train(Bar)
    state = twin.trained()
    one_epoch_more(state, prepared.pairs)
    longer = evaluate_state(state, evaluation, prepared.pairs)["recall@100"]
    folder = Path("runs") / "longer_twin" / f"{data}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    queries = query_vectors(state, prepared, evaluation)
    save_inputs(folder, state.model.all_items().numpy(), queries, evaluation)
    built = measure_rival("rq-wide", folder, num_bytes, threads)
    row = {
        "exact": twin.figures()["recall@100"],
        "longer, exact": longer,
        "longer, Faiss residual, wide beam": built["recall@100"],
    }
    say(f"{data}, seed {seed}: {row}")
    return {"seed": seed, **{key: round(value, 5) for key, value in row.items()}, **stamp()}


def main() -> None:
    """Run every seed; keep each when it is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=SETS)
    parser.add_argument("--bytes", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    name = f"longer_twin_{options.data}"
    path = RESULTS / f"{name}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = [row for row in rows if row["bytes"] == options.bytes]
    for seed in options.seeds:
        if any(row["seed"] == seed for row in rows):
            continue
        rows.append(
            {"bytes": options.bytes, **control(options.data, seed, options.bytes, options.threads)}
        )
        config = dataclasses.asdict(settings(options.data).train)
        write_result(
            name, {"data": options.data, "measured_on": "test pairs", "train": config, "rows": rows}
        )


if __name__ == "__main__":
    main()
