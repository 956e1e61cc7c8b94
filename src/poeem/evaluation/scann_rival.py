"""ScaNN's quantizer, built afterwards. The only file with scann."""

from __future__ import annotations

import time
from types import ModuleType

import numpy as np

from poeem.errors import ConfigError, MissingDependencyError, install_hint
from poeem.evaluation.rivals import Built
from poeem.types import FloatArray, IntArray

# Of unit vectors, as ScaNN's own examples have it.
_THRESHOLD = 0.2
_HASHES = {"scann": ("lut16", 4), "scann-8bit": ("lut256", 8)}


def build(name: str, vectors: FloatArray, num_bytes: int, num_threads: int) -> Built:
    """Build anisotropic codes, searched exhaustively; see `poeem.evaluation.rivals`.

    Raises:
        ConfigError: the blocks of so many bytes do not divide dim.
        MissingDependencyError: scann is not installed.
    """
    scann = _require_scann()
    hash_type, bits = _HASHES[name]
    num_blocks, dim = num_bytes * 8 // bits, vectors.shape[1]
    if dim % num_blocks:
        raise ConfigError(
            f"{num_bytes} bytes are {num_blocks} blocks of {bits} bits, "
            f"which do not divide {dim} dimensions"
        )
    start, cpu = time.perf_counter(), time.process_time()
    builder = scann.scann_ops_pybind.builder(vectors, 100, "dot_product")
    builder.set_n_training_threads(num_threads)
    searcher = builder.score_ah(
        dim // num_blocks,
        anisotropic_quantization_threshold=_THRESHOLD,
        hash_type=hash_type,
        training_sample_size=len(vectors),
    ).build()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu

    def search(queries: FloatArray, k: int) -> IntArray:
        searcher.set_num_threads(num_threads)
        ids, scores = searcher.search_batched_parallel(
            np.ascontiguousarray(queries), final_num_neighbors=min(k, len(vectors))
        )
        found: IntArray = np.where(np.isfinite(scores), ids.astype(np.int64), -1)
        return found

    how = f"score_ah({dim // num_blocks}, {hash_type}, threshold {_THRESHOLD}), no tree"
    # What ScaNN saves spreads a 4-bit code over a byte; the search holds two in one.
    return Built(num_blocks * bits / 8, seconds, cpu, how, search)


def _require_scann() -> ModuleType:
    try:
        import scann
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "scann":
            raise
        message = f"needs scann; {install_hint('compare')}"
        raise MissingDependencyError(message) from error
    module: ModuleType = scann
    return module
