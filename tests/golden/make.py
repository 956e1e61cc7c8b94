"""Writes golden files of the present format version beside itself; what is there is left as it is.

    python -m tests.golden.make v1

Run it once when a version is new and commit what it wrote. Never run it to make a test pass.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from poeem.index import Index, build_index_from_codes, reference
from poeem.types import Array, Encoding
from tests.index.helpers import Shape, random_parts, random_queries

FOLDER = Path(__file__).parent
K = 7
PROBES = 2


def shapes(family: str) -> dict[str, Shape]:
    """Return every metric, with lists and without, rotated and not; the rest takes turns."""
    width = 5 if family == "residual" else 2
    turns = itertools.cycle(
        [
            {"ids": "positions", "num_codewords": 16, "titles": True},
            {"ids": "uint32", "num_codewords": 20},
            {"ids": "int64", "num_codewords": 300, "num_subspaces": 2, "titles": True},
            {"ids": "uint32", "num_codewords": 10, "titles": True},
            {"ids": "positions", "num_codewords": 256, "num_subspaces": 2, "num_items": 300},
        ]
    )
    found: dict[str, Shape] = {}
    for metric, num_lists, rotation in itertools.product(
        ("ip", "l2", "cosine"), (0, 5), (False, True)
    ):
        parts = [metric, "lists" if num_lists else "", "rotated" if rotation else ""]
        name = "-".join(part for part in parts if part)
        settings: dict[str, Any] = {"num_items": 70, "num_lists": num_lists, **next(turns)}
        found[name] = Shape(metric, rotation=rotation, family=family, sub_dim=width, **settings)
    return found


def encoding_of(shape: Shape, seed: int) -> Encoding:
    """Return a random one."""
    axes = np.linalg.qr(np.random.default_rng(seed).standard_normal((shape.dim, shape.dim)))[0]
    scales = np.linspace(0.5, 2, shape.dim)
    return Encoding((axes * scales @ axes.T).astype(np.float32), 0.5 * (seed % 3), 1 + seed)


def answers(index: Index, seed: int) -> list[dict[str, Any]]:
    """Return searches and what NumPy's slow search answers, as JSON values."""
    contents = index._contents
    single = random_queries(4, 1, index.dim, seed=seed)
    several = random_queries(2, 3, index.dim, seed=seed + 1)
    allowed = np.sort(index.ids)[::3]
    searches: list[dict[str, Any]] = [
        {"queries": single, "num_probes": None, "allowed": None},
        {"queries": several, "num_probes": None, "allowed": None},
        {"queries": single, "num_probes": None, "allowed": allowed},
    ]
    if index.num_lists:
        searches.append({"queries": several, "num_probes": PROBES, "allowed": None})
        searches.append({"queries": single, "num_probes": 1, "allowed": allowed})
    for one in searches:
        mask = None if one["allowed"] is None else np.isin(index.ids, one["allowed"])
        found = reference.search(contents, one["queries"], K, one["num_probes"], mask)
        one["ids"], one["scores"] = found.ids, found.scores
    return [{key: _plain(value) for key, value in one.items()} for one in searches]


def _plain(value: Any) -> Any:
    """Return arrays as lists; a float32 is a float64 too, so that JSON keeps every bit of it."""
    if not isinstance(value, np.ndarray):
        return value
    array: Array = np.where(np.isneginf(value), None, value) if value.dtype.kind == "f" else value
    return array.tolist()


def main(version: str) -> None:
    """Write NAME.poeem and NAME.json for each shape."""
    folder = FOLDER / version
    folder.mkdir(exist_ok=True)
    # Product codes are still written as version 1, residual ones as version 2 unless they were
    # found by a metric of errors.
    family = "product" if version == "v1" else "residual"
    for seed, (name, shape) in enumerate(shapes(family).items()):
        path = folder / f"{name}.poeem"
        if path.exists():
            continue
        index = build_index_from_codes(
            **random_parts(shape, np.random.default_rng(seed)),
            lineage={"model": "0123456789abcdef", "step": seed},
            sample_queries=random_queries(20, shape.dim) if seed % 2 else None,
            encoding=encoding_of(shape, seed) if version == "v3" else None,
        )
        index.save(path)
        expected = {
            "num_items": index.num_items,
            "ids": index.ids.tolist(),
            "titles": index.titles(index.ids) if index.has_titles else None,
            "vectors": index.reconstruct(index.ids).tolist(),
            "k": K,
            "searches": answers(index, seed),
        }
        (folder / f"{name}.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
