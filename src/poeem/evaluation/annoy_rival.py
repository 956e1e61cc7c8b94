"""Annoy's forest of trees over whole vectors, built afterwards. The only file with annoy."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from types import ModuleType

import numpy as np

from poeem.errors import MissingDependencyError, install_hint
from poeem.evaluation.rivals import Built
from poeem.types import FloatArray, IntArray

_NUM_TREES = 50


def build(name: str, vectors: FloatArray, num_bytes: int, num_threads: int) -> Built:  # noqa: ARG001
    """Build a forest; it keeps the vectors, so that its size is its own.

    Raises:
        MissingDependencyError: annoy is not installed.
    """
    annoy = _require_annoy()
    start, cpu = time.perf_counter(), time.process_time()
    index = annoy.AnnoyIndex(vectors.shape[1], "dot")
    index.set_seed(0)
    for number, vector in enumerate(vectors):
        index.add_item(number, vector)
    index.build(_NUM_TREES, num_threads)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.ann"
        index.save(str(path))
        size = path.stat().st_size
        index.load(str(path))  # maps the file, which may then lose its name

    def search(queries: FloatArray, k: int) -> IntArray:
        found = np.full((len(queries), k), -1, dtype=np.int64)
        for row, query in enumerate(queries):
            ids = index.get_nns_by_vector(query, k)
            found[row, : len(ids)] = ids
        return found

    # As many nodes are looked at as Annoy does unless told otherwise.
    how = f"dot, {_NUM_TREES} trees, {_NUM_TREES} nodes inspected per answer"
    return Built(size / len(vectors), seconds, cpu, how, search)


def _require_annoy() -> ModuleType:
    try:
        import annoy
    except ModuleNotFoundError as error:
        if error.name != "annoy":
            raise
        message = f"needs annoy; {install_hint('compare')}"
        raise MissingDependencyError(message) from error
    module: ModuleType = annoy
    return module
