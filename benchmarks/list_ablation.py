"""Each ingredient of the lists changed, one at a time: recall of validation pairs by one list.

As `ablation.py`: all begin at the same warm start of the same float twin and train the same steps.
Recall is the engine's, of the index built of each; beside it is the share of the catalogue that the
lists probed hold, as a list that has everything finds everything.

    POEEM_DATA=../shared/data python benchmarks/list_ablation.py tldr-pages --lists 64 --seeds 0 1 2
    python benchmarks/list_ablation.py tldr-pages --draw    # the picture again, from the file
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation import MADE, changed, draw
from ablation_rows import OURS
from common import RESULTS, circumstances
from compare import SETS, settings, stamp

from poeem import build_index
from poeem.cli.output import say
from poeem.config import Config
from poeem.evaluation.protocol import CUTOFFS, EvaluationSet, search_excluding
from poeem.evaluation.results import METRICS, ResultFile
from poeem.training.display import Bar
from poeem.training.prepared import Prepared, measured_pairs, prepare
from poeem.training.recipes import recipe_config
from poeem.training.run import train_state
from poeem.training.state import TrainingState
from poeem.training.twin import TwinFolder, left_open, query_vectors, settings_mark
from poeem.types import IntArray, SearchResult

CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    OURS: {},
    "lists of nearest centroids": {"train": {"list_choice": "nearest"}},
    "lists of nearest centroids, no loss on them": {
        "train": {"list_choice": "nearest", "coarse_weight": 0.0}
    },
    "no loss on lists": {"train": {"coarse_weight": 0.0}},
    "room for no more than the mean": {"train": {"list_capacity": 1.0}},
    "room for twice the mean": {"train": {"list_capacity": 2.0}},
    "room for all": {"train": {"list_capacity": 1e6}},
    "one turn of queries and items": {"train": {"list_rounds": 1}},
    "twelve turns": {"train": {"list_rounds": 12}},
}
"""Name -> settings that differ from the defaults."""

PROBES = (1, 4)


def probed(state: TrainingState, prepared: Prepared, evaluation: EvaluationSet) -> dict[str, Any]:
    """Return figures of a model's index where one list is probed, and recall@100 of more."""
    index = build_index(state.quantizer(), None, state.model.all_items(), metric="ip")
    queries = query_vectors(state, prepared, evaluation)

    def figures(probes: int | None) -> dict[str, float]:
        def search(rows: IntArray, k: int) -> SearchResult:
            return index.search(queries[rows], min(k, index.num_items), num_probes=probes)

        return evaluation.score(search_excluding(search, evaluation, max(CUTOFFS)))

    found: dict[str, Any] = {key: figures(PROBES[0])[key] for key in METRICS}
    for probes in PROBES[1:]:
        found[f"recall@100, {probes} lists"] = figures(probes)["recall@100"]
    found["recall@100, all lists"] = figures(None)["recall@100"]
    sizes = np.bincount(index.lists, minlength=index.num_lists)
    first = (queries @ state.layer.list_vectors().detach().numpy().T).argmax(1)
    found["share_of_items_probed"] = float(sizes[first].mean() / index.num_items)
    return {key: round(value, 5) for key, value in found.items()}


def shares(results: ResultFile) -> dict[str, str]:
    """Return for each change how much of the catalogue the lists probed hold, mean over seeds."""
    found: dict[str, list[float]] = {}
    for row in results.rows:
        found.setdefault(row["name"], []).append(row["share_of_items_probed"])
    return {name: f" ({np.mean(each):.1%} of items)" for name, each in found.items()}


def main() -> None:
    """Train what is asked for and not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=SETS)
    parser.add_argument("--lists", type=int, default=64)
    parser.add_argument("--bytes", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--draw", action="store_true", help="only the picture")
    options = parser.parse_args()
    path = options.out / f"list_ablation_{options.data}.json"
    title = f"{options.data}, 1 of {options.lists} lists probed"
    if options.draw:
        facts = {k: v for k, v in json.loads(path.read_text("utf-8")).items() if k not in MADE}
        title = f"{facts['data']}, 1 of {facts['num_lists']} lists probed"
        results = ResultFile(path, facts)
        draw(results, title, shares(results))
        return
    if options.threads:
        torch.set_num_threads(options.threads)
    config = settings(options.data, {"layer": {"num_lists": options.lists}})
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, hold_out_valid=True))
    prepared = prepare(config)
    evaluation = measured_pairs(config, prepared)
    facts = {"data": options.data, "measured_on": "validation pairs", "config": config.to_dict()}
    facts |= {"num_lists": options.lists, "num_probes": PROBES[0]}
    results = ResultFile(path, {"benchmark": path.stem, **circumstances(), **facts})

    def mark(recipe: Config, name: str) -> str:
        return settings_mark(
            changed(recipe, CHANGES[name]), joint=True, left=left_open(prepared, config)
        )

    for seed in options.seeds:
        seeded = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))
        twin = TwinFolder(Path("runs") / "compare" / options.data, seeded, prepared, evaluation)
        twin.train(Bar)
        recipe = recipe_config("ours-residual", seeded, options.bytes, seed)
        for name in CHANGES:
            if results.has(seed, options.bytes, name, mark(recipe, name)):
                continue
            start = time.perf_counter()
            state = twin.joint_state(changed(recipe, CHANGES[name]))
            unwatched = dataclasses.replace(prepared, validation=None)
            train_state(state, unwatched, display=Bar, title=name)
            state.model.eval()
            state.layer.eval()
            row = {"seed": seed, "bytes": options.bytes, "name": name, "label": name}
            row |= {"kind": "joint", "settings": mark(recipe, name), "recipe": mark(recipe, OURS)}
            row |= {"bytes_per_item": options.bytes, "build_seconds": None}
            row |= probed(state, prepared, evaluation)
            row["spent_seconds"] = round(time.perf_counter() - start, 1)
            results.add({**row, **stamp()})
            say(f"{name}: recall@100 {row['recall@100']:.4f}")
    results.save()
    draw(results, title, shares(results))


if __name__ == "__main__":
    main()
