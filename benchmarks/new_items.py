"""What the codes of new items are worth: an index that began with few items, the others added live.

A run is trained on each data set. Of its items a tenth are indexed with the codes of the run, the
others are put in by `LiveIndex.add`, as vectors: with codes found as the index says (`Encoding`),
and, for comparison, by an index that says nothing, in the plain distance. All items have vectors of
one model, so that nothing differs but how codes are found. Recall is the engine's, on test pairs.

    python benchmarks/new_items.py
    POEEM_DATA=../shared/data python benchmarks/new_items.py --data movielens-1m
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import write_result

from poeem import Index, LiveIndex, build_index, build_index_from_codes
from poeem.training.prepared import measured_pairs, prepare
from poeem.training.trained import TrainedRun, engine_ranking
from poeem.types import Encoding, IntArray


def index_of(known: Index, rows: IntArray, encoding: Encoding) -> Index:
    """Return the items of some rows of an index without lists, with what it says of its codes."""
    return build_index_from_codes(
        codes=known.codes[rows],
        codebooks=known.codebooks,
        family=known.family,
        rotation=known.rotation,
        ids=known.ids[rows],
        metric=known.metric,
        lineage=known.lineage,
        encoding=encoding,
    )


def grown(known: Index, run: TrainedRun, encoding: Encoding, folder: Path) -> Index:
    """Return an index of all items, of which nine tenths were added as vectors."""
    vectors, known_ids = run.item_vectors(), run.catalogue.index_ids()
    ids = np.arange(len(vectors)) if known_ids is None else known_ids
    first = np.random.default_rng(0).permutation(len(ids))[: len(ids) // 10]
    path = Path(tempfile.mkdtemp(dir=folder)) / "items.poeem"
    index_of(known, np.flatnonzero(np.isin(known.ids, ids[first])), encoding).save(path)
    others = np.setdiff1d(np.arange(len(ids)), first)
    with LiveIndex.open(path) as live:
        live.add(ids[others], vectors[others])
        return live.view().to_index()


def measured(data: str, seed: int, options: list[str]) -> dict[str, Any]:
    """Train a run and return recall@100 with codes found in each way."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-c", "from poeem.cli.main import main; main()"]
        command += ["train", data, "--out", str(out), "--seed", str(seed), *options]
        subprocess.run(command, check=True)
        run = TrainedRun.load(out)
        pairs = measured_pairs(run.config, prepare(run.config))
        known = build_index(
            run.state.quantizer(),
            run.catalogue.index_ids(),
            run.item_vectors(),
            lineage=run.lineage(),
        )
        greedy = dataclasses.replace(known.encoding, beam=1)
        indexes = {
            "the run's codes": known,
            "added, found as the index says": grown(known, run, known.encoding, Path(folder)),
            "added, found so with a beam of 1": grown(known, run, greedy, Path(folder)),
            "added, by the plain distance": grown(known, run, Encoding(), Path(folder)),
        }
        found = {
            name: pairs.score(engine_ranking(index, run, pairs, run.config.search))["recall@100"]
            for name, index in indexes.items()
        }
        return {"beam": known.encoding.beam, "recall@100": found}


def main() -> None:
    """Train, index in each way, and keep the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["online-retail", "tldr-pages"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments, options = parser.parse_known_args()
    results = {}
    for data in arguments.data:
        runs = {f"seed {seed}": measured(data, seed, options) for seed in arguments.seeds}
        names = next(iter(runs.values()))["recall@100"]
        mean = {n: float(np.mean([r["recall@100"][n] for r in runs.values()])) for n in names}
        results[data] = {"runs": runs, "mean": {n: round(v, 4) for n, v in mean.items()}}
    write_result("new_items", {"settings": options, "results": results})


if __name__ == "__main__":
    main()
