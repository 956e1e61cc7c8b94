"""The joint index against exact search and against Faiss, on data from POEEM_DATA.

The joint model is trained, built and evaluated by `poeem train DATA`, with the defaults of the
command line. Its float twin (same towers, data, order and steps, no index layer) is trained beside
it, and Faiss builds its indexes from the twin's vectors, each in its own process.

    POEEM_DATA=../shared/data python benchmarks/joint_vs_after.py gowalla --bytes 8 --seeds 0
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import write_result

from poeem.config import Config
from poeem.evaluation.faiss_rival import RIVALS

NAMES = ("recall@20", "recall@100", "precision@100")


def settings(data: str, seed: int) -> Config:
    """Return the defaults of the command line for a data set and a seed."""
    config = Config()
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, path=data),
        train=dataclasses.replace(config.train, seed=seed),
    )


def joint(data: str, num_bytes: int, seed: int, folder: Path) -> dict[str, Any]:
    """Train, build and evaluate by the command line."""
    command = [
        sys.executable,
        "-c",
        "from poeem.cli.main import main; main()",
        "train",
        data,
        "--out",
        str(folder),
    ]
    command += ["--num-subspaces", str(num_bytes), "--seed", str(seed), "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def twin(data: str, seed: int, folder: Path) -> dict[str, float]:
    """Train the float twin; leave its vectors in the folder for the rivals."""
    import torch

    from poeem.training.loop import evaluate_state
    from poeem.training.run import prepare, train_run

    config = settings(data, seed)
    prepared = prepare(config)
    state = train_run(config, folder, joint=False, prepared=prepared)
    with torch.no_grad():
        users = prepared.pairs.histories.of(torch.from_numpy(prepared.test.users))
        np.save(folder / "queries.npy", state.model.encode_queries(users).numpy())
        np.save(folder / "vectors.npy", state.model.all_items().numpy())
    return evaluate_state(state, prepared.test, prepared.pairs)


def rival(data: str, name: str, num_bytes: int, folder: Path) -> dict[str, float]:
    """Build one of Faiss's indexes from the twin's vectors, search it, score it."""
    from poeem.evaluation.faiss_rival import build_rival
    from poeem.evaluation.protocol import search_excluding
    from poeem.training.run import prepare

    test = prepare(settings(data, 0)).test
    queries, vectors = np.load(folder / "queries.npy"), np.load(folder / "vectors.npy")
    index = build_rival(name, vectors, num_bytes)
    ranked = search_excluding(lambda rows, k: index.search(queries[rows], k), test, 100)
    return test.score(ranked) | {
        "bytes_per_item": index.bytes_per_item,
        "build_seconds": index.build_seconds,
    }


def in_own_process(*words: object) -> dict[str, float]:
    """Run this file for one part, and return what it prints last."""
    command = [sys.executable, __file__, *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def one_seed(data: str, sizes: list[int], seed: int, folder: Path) -> dict[str, dict[str, float]]:
    """Return the rows of one seed."""

    def picked(figures: dict[str, float], **extra: float | None) -> dict[str, Any]:
        return {k: round(figures[k], 4) for k in NAMES} | extra

    exact = in_own_process("--part", "twin", data, "--seeds", seed, "--folder", folder / "twin")
    rows = {"exact, float twin": picked(exact, bytes_per_item=256)}
    for num_bytes in sizes:
        for name in RIVALS:
            found = in_own_process(
                "--part", name, data, "--bytes", num_bytes, "--folder", folder / "twin"
            )
            seconds = round(found["build_seconds"], 2)
            rows[f"{name}, {num_bytes} bytes"] = picked(
                found, bytes_per_item=found["bytes_per_item"], build_seconds=seconds
            )
        figures = joint(data, num_bytes, seed, folder / f"joint{num_bytes}")
        evaluation = figures["evaluation"]
        size = figures["index_info"]["code_bytes_per_item"]
        rows[f"joint, {num_bytes} bytes"] = picked(evaluation["engine"], bytes_per_item=size)
        rows[f"joint, {num_bytes} bytes: its float vectors"] = picked(evaluation["exact"])
    return rows


def main() -> None:
    """Run all seeds and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--bytes", type=int, nargs="+", default=[8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--part")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.part == "twin":
        print(json.dumps(twin(options.data, options.seeds[0], options.folder)))
        return
    if options.part:
        print(json.dumps(rival(options.data, options.part, options.bytes[0], options.folder)))
        return
    started = time.perf_counter()
    runs = {}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            runs[seed] = one_seed(options.data, options.bytes, seed, Path(folder))
    mean = {
        row: {k: round(float(np.mean([runs[s][row][k] for s in runs])), 4) for k in NAMES}
        for row in runs[options.seeds[0]]
    }
    write_result(
        f"joint_vs_after_{options.data}",
        {
            "data": options.data,
            "seeds": options.seeds,
            "settings": settings(options.data, 0).to_dict(),
            "mean": mean,
            "runs": runs,
            "seconds": round(time.perf_counter() - started),
        },
    )


if __name__ == "__main__":
    main()
