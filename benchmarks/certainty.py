"""How sure a ratio of the comparison is: its users drawn anew, with repetitions.

Ours, exact search over the float twin and the indexes that come nearest are made as `compare.py`
makes them, and recall@100 is kept user by user, the mean over seeds. Of each of 10,000 draws of as
many users as there are the ratio of the means is taken: 95 % of the ratios lie between the two
numbers that are given. What it leaves out: that the best of several rivals is partly the luckiest.

    python benchmarks/certainty.py online-retail --bytes 32
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import write_result
from compare import SETS, settings

from poeem.cli.output import say
from poeem.config import Config
from poeem.evaluation.metrics import hits
from poeem.evaluation.protocol import EvaluationSet, search_excluding
from poeem.evaluation.rivals import COMPARED, build_afterwards
from poeem.index import build_index
from poeem.training.display import Bar
from poeem.training.prepared import Prepared, measured_pairs, prepare
from poeem.training.recipes import recipe_config
from poeem.training.run import train_state
from poeem.training.twin import TwinFolder, query_vectors
from poeem.types import FloatArray, IntArray, SearchResult

K, DRAWS = 100, 10_000
RIVALS = ("rq", "rq-wide", "ivf-opq", "opq")
OURS, EXACT = "ours", "exact"

Search = Any  # of queries float32 [n, dim] and a k: row numbers int64 [n, k]


def recalls(search: Search, queries: FloatArray, evaluation: EvaluationSet) -> FloatArray:
    """Return recall@100 of each user, float64 [num_users]."""

    def answers(rows: IntArray, k: int) -> SearchResult:
        return SearchResult(search(queries[rows], k), np.empty((0, 0), dtype=np.float32))

    found = hits(search_excluding(answers, evaluation, K), evaluation.relevant)
    share: FloatArray = found.sum(1) / evaluation.relevant.lengths()
    return share


def of_seed(
    config: Config, prepared: Prepared, evaluation: EvaluationSet, sizes: list[int]
) -> dict[int, dict[str, FloatArray]]:
    """Return recall of each user by size and name."""
    seed, work = config.train.seed, Path("runs") / "compare" / Path(config.data.path).stem
    twin = TwinFolder(work, config, prepared, evaluation)
    twin.train(Bar)
    vectors, queries = (np.load(twin.path / f"{name}.npy") for name in ("vectors", "queries"))

    def exact(asked: FloatArray, k: int) -> IntArray:
        scores = torch.from_numpy(asked) @ torch.from_numpy(vectors).T
        ids: IntArray = scores.topk(min(k, len(vectors))).indices.numpy()
        return ids

    found: dict[int, dict[str, FloatArray]] = {}
    for size in sizes:
        here = found[size] = {EXACT: recalls(exact, queries, evaluation)}
        for name in RIVALS:
            built = build_afterwards(name, vectors, size, 1)
            here[COMPARED[name].label] = recalls(built.search, queries, evaluation)
        state = twin.joint_state(recipe_config("ours-residual", config, size, seed))
        train_state(state, dataclasses.replace(prepared, validation=None), display=Bar)
        state.model.eval()
        state.layer.eval()
        index = build_index(state.quantizer(), None, state.model.all_items(), metric="ip")
        own = query_vectors(state, prepared, evaluation)
        here[OURS] = recalls(
            lambda asked, k, index=index: index.search(asked, min(k, index.num_items)).ids,
            own,
            evaluation,
        )
        say(f"seed {seed}, {size} bytes: " + _means(here))
    return found


def _means(recalls_of: dict[str, FloatArray]) -> str:
    return ", ".join(f"{name} {values.mean():.4f}" for name, values in recalls_of.items())


def interval(ours: FloatArray, theirs: FloatArray) -> dict[str, float]:
    """Return the ratio of the means, and between what 95 % of it lie with users drawn anew."""
    rng, ratios = np.random.default_rng(0), np.empty(DRAWS)
    for draw in range(DRAWS):
        users = rng.integers(len(ours), size=len(ours))
        ratios[draw] = ours[users].mean() / theirs[users].mean()
    low, high = np.quantile(ratios, [0.025, 0.975])
    ratio = ours.mean() / theirs.mean()
    return {"ratio": round(ratio, 4), "low": round(low, 4), "high": round(high, 4)}


def main() -> None:
    """Make all indexes for all seeds; keep means and intervals."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=SETS, nargs="?", default="online-retail")
    parser.add_argument("--bytes", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = settings(options.data, {"train": {"num_threads": 1}})
    prepared = prepare(config)
    evaluation = measured_pairs(config, prepared)
    by_seed = [
        of_seed(
            dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed)),
            prepared,
            evaluation,
            options.bytes,
        )
        for seed in options.seeds
    ]
    figures = {}
    for size in options.bytes:
        mean = {
            name: np.mean([found[size][name] for found in by_seed], axis=0)
            for name in by_seed[0][size]
        }
        best = max(mean.keys() - {OURS, EXACT}, key=lambda name: float(mean[name].mean()))
        figures[f"{size} bytes"] = {
            "recall@100": {name: round(float(values.mean()), 5) for name, values in mean.items()},
            "best": best,
            "over_best": interval(mean[OURS], mean[best]),
            "over_exact": interval(mean[OURS], mean[EXACT]),
        }
    facts = {"data": options.data, "seeds": options.seeds, "num_users": len(evaluation.users)}
    write_result(f"certainty_{options.data}", {**facts, "draws": DRAWS, "figures": figures})


if __name__ == "__main__":
    main()
