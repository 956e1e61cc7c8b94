"""Do other programs give the answers of our index? Out to Faiss and in from it, on real data.

glove-6b-50d (POEEM_DATA): the first words, and the 1,000 after them as queries; the layer is fitted
by its warm start. A trained model: the bundled purchases after a short training; users ask. Of the
first 100 answers: equal ids and scores, and what differs beyond ties.

python benchmarks/interchange.py --items 399000 --trained gowalla
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import write_result

import poeem
from poeem.config import Config
from poeem.index.calibration import recall_of
from poeem.index.refresh import exact_rows

K = 100
NUM_QUERIES = 1000
TOLERANCE = 1e-5  # of the largest score of a query: two programs round differently


def agreement(ours: poeem.SearchResult, ids: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Compare answers [n, K].

    `ids_beyond_ties` counts items that only one program returns although their score is above the
    last one of the other's answer by more than rounding.
    """
    near = TOLERANCE * np.maximum(1e-30, np.abs(ours.scores).max(axis=1))
    beyond = 0
    for row in range(len(ids)):
        for mine, my_scores, others, last in (
            (ours.ids[row], ours.scores[row], ids[row], scores[row].min()),
            (ids[row], scores[row], ours.ids[row], ours.scores[row].min()),
        ):
            alone = ~np.isin(mine, others)
            beyond += int((my_scores[alone] > last + 2 * near[row]).sum())
    same_set = (np.sort(ours.ids, axis=1) == np.sort(ids, axis=1)).all(axis=1).mean()
    return {
        "queries_with_equal_ids": float(same_set),
        "ids_at_equal_places": float((ours.ids == ids).mean()),
        "largest_score_difference": float((np.abs(ours.scores - scores).max(axis=1) / near).max())
        * TOLERANCE,
        "ids_beyond_ties": beyond,
    }


def ask_faiss(index: Any, queries: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and scores as ours are: the higher, the better."""
    values, ids = index.search(queries, K)
    return ids, -values if metric == "l2" else values


def out_and_back(index: poeem.Index, vectors: np.ndarray, queries: np.ndarray) -> dict[str, Any]:
    """Export an index, let Faiss answer from the file, import it again."""
    import faiss

    best = np.sort(index.ids)[exact_rows(vectors, queries, K, index.metric)]
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "index.faiss"
        start = time.perf_counter()
        poeem.export_faiss(index, path)
        seconds = time.perf_counter() - start
        theirs = faiss.read_index(str(path))
        again = poeem.import_faiss(path)
        size = path.stat().st_size
    ours = index.search(queries, K)
    ids, scores = ask_faiss(theirs, queries, index.metric)
    back = again.search(queries, K)
    return {
        "items": len(index),
        "faiss": describe(theirs),
        **agreement(ours, ids, scores),
        "recall_ours": recall_of(ours.ids, best),
        "recall_faiss": recall_of(ids, best),
        "imported_again_equal_to_the_bit": bool(
            np.array_equal(back.ids, ours.ids) and np.array_equal(back.scores, ours.scores)
        ),
        "export_seconds": seconds,
        "file_bytes": size,
    }


def describe(index: Any) -> str:
    """Return the kinds of Faiss, from the outside in."""
    import faiss

    name = type(index).__name__
    inner = getattr(index, "index", None)
    return name if inner is None else f"{name}({describe(faiss.downcast_index(inner))})"


def glove(num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors of words and, apart, the queries."""
    path = Path(os.environ["POEEM_DATA"]) / "glove-6b-50d" / "vectors.f16.npy"
    vectors = np.load(path)[: num_items + NUM_QUERIES].astype(np.float32)
    return vectors[:num_items], vectors[num_items:]


def exports_of_glove(num_items: int, families: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Export glove with each family, metric, with and without lists and rotation."""
    vectors, queries = glove(num_items)
    sample = torch.from_numpy(vectors[:: max(1, len(vectors) // 20_000)])
    for family in families:
        for num_lists in (0, 256):
            for rotation in (False, True):
                settings: dict[str, Any] = {"num_subspaces": 10, "num_lists": num_lists}
                settings |= {"rotation": rotation, "kmeans_iterations": 5, "rotation_iterations": 5}
                settings |= {"family": family}
                layer = poeem.IndexLayer(vectors.shape[1], **settings)
                layer.warm_start(sample)
                layer.eval()
                for metric in ("ip", "l2"):
                    index = poeem.build_index(layer, None, vectors, metric=metric)
                    name = f"glove, {family}, {metric}, {num_lists} lists"
                    name += ", rotated" if rotation else ""
                    yield name, out_and_back(index, vectors, queries)


def exports_of_a_model(
    data: str, epochs: int, families: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Export the index of a short training, asked by users."""
    from poeem.training.run import train_run
    from poeem.training.trained import TrainedRun, build_run

    for family in families:
        for num_lists in (0, 64):
            config = Config.from_dict({"data": {"path": data}, "train": {"epochs": epochs}})
            layer = dataclasses.replace(config.layer, num_lists=num_lists)
            layer = dataclasses.replace(layer, family=family)
            train = dataclasses.replace(config.train, warm_start_epoch=1, frozen_epochs=0)
            config = dataclasses.replace(config, layer=layer, train=train)
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place) / "run"
                train_run(config, folder)
                run = TrainedRun.load(folder)
                users = np.random.default_rng(0).permutation(run.catalogue.user_ids)[:NUM_QUERIES]
                queries = run.query_vectors(users=users.tolist())
                vectors = run.state.model.all_items().cpu().numpy()
                for metric in ("ip", "l2"):
                    settings = dataclasses.replace(config.build, metric=metric)
                    index = build_run(folder, settings)
                    name = f"{data} trained {epochs} epochs, {family}, {metric}, {num_lists} lists"
                    yield name, out_and_back(index, vectors, queries)


def imports(num_items: int, families: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Let Faiss train indexes of glove, and import them."""
    import faiss

    vectors, queries = glove(num_items)
    wanted = ["PQ10np", "OPQ10,PQ10np", "IVF256,PQ10np", "OPQ10,IVF256,PQ10np"]
    if "residual" in families:
        wanted += ["RQ4x8", "IVF256,RQ4x8"]
    for description in wanted:
        for metric, number in (("ip", faiss.METRIC_INNER_PRODUCT), ("l2", faiss.METRIC_L2)):
            theirs = faiss.index_factory(vectors.shape[1], description, number)
            inner = theirs
            if isinstance(theirs, faiss.IndexPreTransform):
                faiss.downcast_VectorTransform(theirs.chain.at(0)).niter = 5
                inner = faiss.downcast_index(theirs.index)
            theirs.train(vectors[:: max(1, len(vectors) // 20_000)])
            theirs.add(vectors)
            if hasattr(inner, "nprobe"):
                inner.nprobe = inner.nlist
            ours = poeem.import_faiss(theirs).search(queries, K)
            found = agreement(ours, *ask_faiss(theirs, queries, metric))
            yield f"faiss {description}, {metric}", {"items": len(vectors), **found}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000, help="words of glove")
    parser.add_argument("--trained", default="online-retail", help="data set of the trained model")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--families", nargs="+", default=["product", "residual"])
    parser.add_argument("--name", default="interchange")
    options = parser.parse_args()
    cases: dict[str, Any] = {"exports": {}, "imports": {}}
    for part, found in (
        ("exports", exports_of_glove(options.items, options.families)),
        ("exports", exports_of_a_model(options.trained, options.epochs, options.families)),
        ("imports", imports(options.items, options.families)),
    ):
        for name, figures in found:
            cases[part][name] = figures
            print(f"{name}: {figures}", flush=True)
    every = [case for part in cases.values() for case in part.values()]
    settings = {"k": K, "queries": NUM_QUERIES, "tolerance": TOLERANCE}
    summary = {
        "cases": len(every),
        "ids_beyond_ties": sum(case["ids_beyond_ties"] for case in every),
        "least_ids_at_equal_places": min(case["ids_at_equal_places"] for case in every),
        "largest_score_difference": max(case["largest_score_difference"] for case in every),
        "largest_recall_difference": max(
            abs(case["recall_ours"] - case["recall_faiss"]) for case in cases["exports"].values()
        ),
    }
    write_result(options.name, {**settings, "summary": summary, **cases})


if __name__ == "__main__":
    main()
