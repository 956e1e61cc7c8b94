"""A dict that says what a live index should hold, and a fresh index of it to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from poeem import LiveIndex, LiveView
from poeem.index import Index, build_index_from_codes
from tests.index.helpers import Shape, random_parts, random_queries
from tests.index.test_search import assert_same


class Model:
    """What the index should hold: id -> (codes, list, title)."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        self.shape = shape
        self.rng = np.random.default_rng(seed)
        parts = random_parts(shape, self.rng)
        ids = np.asarray(parts.pop("ids", np.arange(shape.num_items)))
        rows = zip(
            ids.tolist(),
            np.asarray(parts.pop("codes")),
            np.asarray(parts.pop("lists", [None] * len(ids))).tolist(),
            parts.pop("titles", [None] * len(ids)),
            strict=True,
        )
        self.items: dict[int, Any] = {item: (codes, lst, title) for item, codes, lst, title in rows}
        self.parts = parts

    def fresh(self) -> Index:
        """Return a new index of what there is."""
        return build_index_from_codes(
            **self.parts, ids=list(self.items), **self.arguments(list(self.items))
        )

    def save(self, path: Path) -> Path:
        self.fresh().save(path)
        return path

    def arguments(self, ids: list[int]) -> dict[str, Any]:
        """Return codes, lists and titles of these items, as `LiveIndex.update` takes them."""
        chosen = [self.items[item] for item in ids]
        codes = np.array([codes for codes, _, _ in chosen], dtype=np.int64)
        found: dict[str, Any] = {"codes": codes.reshape(len(ids), self.shape.num_subspaces)}
        if self.shape.num_lists:
            found["lists"] = np.array([lst for _, lst, _ in chosen], dtype=np.int64)
        if self.shape.titles:
            found["titles"] = [title for _, _, title in chosen]
        return found

    def new(self, ids: list[int]) -> None:
        """Give these items random codes, a list, a title."""
        shape = self.shape
        high = min(2, shape.num_codewords) if shape.few_codes else shape.num_codewords
        for item in ids:
            codes = self.rng.integers(0, high, shape.num_subspaces)
            lst = int(self.rng.integers(shape.num_lists)) if shape.num_lists else None
            title = f"{item} is new {self.rng.integers(99)}" if shape.titles else None
            self.items[item] = (codes, lst, title)

    def known(self, count: int) -> list[int]:
        """Return some of the ids that are there."""
        return self.rng.permutation(list(self.items))[:count].tolist()

    def unknown(self, count: int) -> list[int]:
        """Return some ids that are not there."""
        pool = [item for item in range(-60, 400) if item != -1 and item not in self.items]
        return self.rng.permutation(pool)[:count].tolist()

    def add(self, live: LiveIndex, count: int) -> None:
        ids = self.unknown(count)
        self.new(ids)
        live.add(ids, **self.arguments(ids))

    def update(self, live: LiveIndex, count: int) -> None:
        ids = self.known(count) + self.unknown(count // 2)
        self.new(ids)
        live.update(ids, **self.arguments(ids))

    def remove(self, live: LiveIndex, count: int) -> None:
        ids = self.known(count)
        for item in ids:
            del self.items[item]
        live.remove(ids)


def assert_holds(live: LiveIndex | LiveView, model: Model, seed: int = 0) -> None:
    """The index answers as a fresh one of the same items would, to the last bit."""
    rng = np.random.default_rng(seed)
    queries = random_queries(2, 2, model.shape.dim, seed=seed)
    assert sorted(live.ids.tolist()) == sorted(model.items)
    assert live.num_items == len(live) == len(model.items)
    if not model.items:
        assert (live.search(queries, 5).ids == -1).all()
        return
    fresh = model.fresh()
    some = rng.permutation(list(model.items))[: 1 + len(model.items) // 3]
    for k, probes, threads in ((3, None, 1), (500, 2, 1), (10, 1, 3), (10, 5, 1)):
        options = {"num_probes": probes, "num_threads": threads}
        assert_same(live.search(queries, k, **options), fresh.search(queries, k, **options))
        options["allowed"] = [*some, 12345678]
        assert_same(live.search(queries, k, **options), fresh.search(queries, k, **options))
    # Turned back by a matrix product, whose rounding goes by how many rows there are.
    np.testing.assert_allclose(live.reconstruct(some), fresh.reconstruct(some), rtol=0, atol=1e-5)
    if model.shape.titles:
        assert live.titles(some) == [model.items[item][2] for item in some.tolist()]
