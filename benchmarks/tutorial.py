"""The authors' tutorial: 8 lists, 8 subspaces, 256 codewords, dim 64, 1 probe, 3 epochs.

Model and training are theirs: a vector per query and per item, cosine times 30, 1,000,000 pairs,
batch 128, the summed softmax loss, Adagrad at 0.1. Their figures for precision@100: 0.9805 theirs,
0.9610 Faiss afterwards, 0.9989 exact. Here a jointly trained model and its float twin are trained,
and the twin's vectors go through Faiss IVF8,PQ8 in this same run. Precision is given by the rule
that the authors publish and by the strict one (see `poeem.data.TutorialData`).

    python benchmarks/tutorial.py --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from common import write_result
from torch import Tensor, nn

import poeem
from poeem.data import TutorialData, tutorial_dataset
from poeem.evaluation.exact import exact_search

DIM, NUM_LISTS, NUM_SUBSPACES, NUM_CODEWORDS, K = 64, 8, 8, 256, 100
NUM_PAIRS, BATCH_SIZE, NUM_EPOCHS, WARM_START_EPOCH = 1_000_000, 128, 3, 1
COARSE_WEIGHT = 1.0
TEMPERATURE = 1 / 30  # the authors multiply cosines by 30


class Tower(nn.Module):
    """A vector of length 1 per number."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        start = torch.randn(10_000, DIM, generator=generator) / DIM**0.5
        self.embedding = nn.Embedding(10_000, DIM, _weight=start)

    def forward(self, numbers: Tensor) -> Tensor:
        """Return float32 [n, dim] for int64 numbers [n]."""
        return nn.functional.normalize(self.embedding(numbers), dim=1)


def train(
    data: TutorialData, seed: int, joint: bool
) -> tuple[Tensor, Tensor, poeem.IndexLayer | None]:
    """Train two towers, with or without the layer; return all queries, all items, the layer."""
    generator = torch.Generator().manual_seed(seed)
    query_tower, item_tower = Tower(generator), Tower(generator)
    pairs = data.sample_pairs(NUM_PAIRS, np.random.default_rng(seed))
    queries, items = (torch.from_numpy(numbers).long() for numbers in pairs)
    towers = [*query_tower.parameters(), *item_tower.parameters()]
    optimizers = [torch.optim.Adagrad(towers, lr=0.1, initial_accumulator_value=0.1)]
    layer = None
    if joint:
        layer = poeem.IndexLayer(
            DIM,
            family="product",
            num_lists=NUM_LISTS,
            num_subspaces=NUM_SUBSPACES,
            num_codewords=NUM_CODEWORDS,
            pass_through_steps=None,
            gradient="both",
            commitment_weight=1.0,
            seed=seed,
        )
        optimizers.append(torch.optim.Adam(layer.euclidean_parameters(), lr=1e-3))
        optimizers.append(poeem.GivensDescent(layer.rotation_parameters(), lr=1e-3))
    for epoch in range(NUM_EPOCHS):
        if layer is not None and epoch == WARM_START_EPOCH:
            with torch.no_grad():
                layer.warm_start(item_tower(torch.arange(data.num_items)))
        order = torch.randperm(NUM_PAIRS, generator=generator)
        total = 0.0
        for batch in order.split(BATCH_SIZE):
            vectors, extra = item_tower(items[batch]), 0.0
            if layer is not None:
                out = layer(vectors)
                vectors, extra = out.vectors, out.loss
            asking = query_tower(queries[batch])
            loss = poeem.in_batch_softmax(asking, vectors, temperature=TEMPERATURE)
            if layer is not None and out.coarse_vectors is not None:
                # Also rank the lists: a query's best list should be the one its item is in.
                extra = extra + COARSE_WEIGHT * poeem.list_softmax(
                    asking, out.coarse_vectors, out.lists, temperature=TEMPERATURE
                )
            for optimizer in optimizers:
                optimizer.zero_grad()
            ((loss + extra) * len(batch)).backward()
            for optimizer in optimizers:
                optimizer.step()
            total += float(loss.detach()) * len(batch)
        print(
            f"seed {seed} joint {joint} epoch {epoch + 1} loss {total / NUM_PAIRS:.4f}", flush=True
        )
    with torch.no_grad():
        numbers = torch.arange(data.num_items)
        return query_tower(numbers), item_tower(numbers), layer


def precision(data: TutorialData, found: np.ndarray) -> dict[str, float]:
    """Return precision@100 by the published and by the strict rule."""
    return {
        "precision@100": round(data.precision(found, as_published=True), 4),
        "strict_precision@100": round(data.precision(found), 4),
    }


def faiss_afterwards(queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return what Faiss IVF8,PQ8 built after training answers with 1 probe."""
    import faiss

    quantizer = faiss.IndexFlatIP(DIM)
    index = faiss.IndexIVFPQ(
        quantizer, DIM, NUM_LISTS, NUM_SUBSPACES, 8, faiss.METRIC_INNER_PRODUCT
    )
    index.train(items)
    index.add(items)
    return index.search(queries, K)[1]


def one_seed(data: TutorialData, seed: int) -> dict[str, dict[str, float]]:
    """Train twin and joint model and measure every way to search them."""
    queries, items, _ = train(data, seed, joint=False)
    rows = {"exact, float twin": precision(data, exact_search(queries, items, K))}
    rows["Faiss IVF8,PQ8 afterwards, 1 probe"] = precision(
        data, faiss_afterwards(queries.numpy(), items.numpy())
    )
    queries, items, layer = train(data, seed, joint=True)
    rows["exact, joint model's float vectors"] = precision(data, exact_search(queries, items, K))
    index = poeem.build_index(layer, np.arange(data.num_items), items.numpy(), metric="ip")
    for probes in (1, 2, NUM_LISTS):
        found = index.search(queries.numpy(), K, num_probes=probes).ids
        rows[f"joint index, {probes} of {NUM_LISTS} lists"] = precision(data, found)
    print(layer.health(items))
    return rows


def main() -> None:
    """Run all seeds and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    started = time.perf_counter()
    data = tutorial_dataset()
    runs = {seed: one_seed(data, seed) for seed in seeds}
    mean = {
        row: {m: round(float(np.mean([runs[s][row][m] for s in seeds])), 4) for m in figures}
        for row, figures in runs[seeds[0]].items()
    }
    write_result(
        "tutorial",
        {
            "seeds": seeds,
            "settings": {
                "dim": DIM,
                "num_lists": NUM_LISTS,
                "num_subspaces": NUM_SUBSPACES,
                "num_codewords": NUM_CODEWORDS,
                "num_probes": 1,
                "epochs": NUM_EPOCHS,
                "pairs": NUM_PAIRS,
                "batch_size": BATCH_SIZE,
            },
            "published": {"theirs": 0.9805, "Faiss afterwards": 0.9610, "exact": 0.9989},
            "mean": mean,
            "runs": runs,
            "seconds": round(time.perf_counter() - started),
        },
    )


if __name__ == "__main__":
    main()
