"""Builds and measures one rival in a process of its own.

So a crash, a leak or a pool of threads of one rival is no business of the others. Vectors, queries
and held-out pairs come as files in a folder; the answer goes to a file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from poeem.errors import ConfigError, MissingDependencyError, PoeemError
from poeem.evaluation.metrics import Grouped
from poeem.evaluation.protocol import CUTOFFS, EvaluationSet, search_excluding
from poeem.evaluation.rivals import build_afterwards
from poeem.types import FloatArray, IntArray, SearchResult

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_SHOWN_LINES = 5


def save_inputs(
    folder: Path, vectors: FloatArray, queries: FloatArray, evaluation: EvaluationSet
) -> None:
    """Write what rivals work on.

    Args:
        vectors: float32 [num_items, dim].
        queries: float32 [n, dim], a row for each row of `evaluation`.
    """
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "queries.npy", queries)
    np.savez(
        folder / "evaluation.npz",
        users=evaluation.users,
        relevant_offsets=evaluation.relevant.offsets,
        relevant_items=evaluation.relevant.items,
        exclude_offsets=evaluation.exclude.offsets,
        exclude_items=evaluation.exclude.items,
    )


def load_evaluation(folder: Path) -> EvaluationSet:
    """Return the held-out pairs that `save_inputs` wrote."""
    with np.load(folder / "evaluation.npz") as arrays:
        relevant = Grouped(arrays["relevant_offsets"], arrays["relevant_items"])
        exclude = Grouped(arrays["exclude_offsets"], arrays["exclude_items"])
        return EvaluationSet(arrays["users"], relevant, exclude)


def measure_rival(name: str, folder: Path, num_bytes: int, num_threads: int) -> dict[str, Any]:
    """Start a process that builds a rival and measures it.

    Args:
        name: one of `poeem.evaluation.rivals.COMPARED`.
        folder: with the files of `save_inputs`.
        num_bytes: the budget per item.
        num_threads: for building and searching.

    Returns:
        Figures and facts of its row, or one of these: `cannot`, why it has no such index;
        `missing`, how to install it; `failed`, the last lines of a process that crashed.
    """
    environment = os.environ | {name: str(num_threads) for name in _THREAD_VARIABLES}
    with tempfile.TemporaryDirectory() as place:
        answer = Path(place) / "answer.json"
        words = [name, str(folder), str(num_bytes), str(num_threads), str(answer)]
        done = subprocess.run(
            [sys.executable, "-m", "poeem.evaluation.rival_process", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            check=False,
        )
        if done.returncode or not answer.exists():
            said = [line.strip() for line in done.stdout.splitlines() if line.strip()]
            if any(line.startswith("Traceback") for line in said):
                said = said[-1:]  # the error alone
            tail = " | ".join(said[-_SHOWN_LINES:])
            return {"failed": f"process ended with {done.returncode}: {tail}"}
        result: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return result


def measure_here(name: str, folder: Path, num_bytes: int, num_threads: int) -> dict[str, Any]:
    """Do in this process what `measure_rival` does in another."""
    vectors, queries = np.load(folder / "vectors.npy"), np.load(folder / "queries.npy")
    evaluation = load_evaluation(folder)
    try:
        built = build_afterwards(name, vectors, num_bytes, num_threads)
    except ConfigError as error:
        return {"cannot": str(error)}
    except MissingDependencyError as error:
        return {"missing": str(error)}

    def search(rows: IntArray, k: int) -> SearchResult:
        ids = built.search(queries[rows], k)
        return SearchResult(ids, np.empty((0, 0), dtype=np.float32))

    figures = evaluation.score(search_excluding(search, evaluation, max(CUTOFFS)))
    return {
        **figures,
        "bytes_per_item": round(built.bytes_per_item, 2),
        "build_seconds": round(built.build_seconds, 3),
        "build_cpu_seconds": round(built.build_cpu_seconds, 3),
        "how": built.how,
    }


def main() -> None:
    """Measure the rival that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("num_bytes", type=int)
    parser.add_argument("num_threads", type=int)
    parser.add_argument("answer", type=Path)
    given = parser.parse_args()
    try:
        found = measure_here(given.name, given.folder, given.num_bytes, given.num_threads)
    except PoeemError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    given.answer.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
