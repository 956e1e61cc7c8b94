"""Queries per second against recall of the true neighbours, all rivals on one picture.

Product codes of as many bytes for us, in fewer and in more lists, and residual codes, all with the
weight of errors along a vector that finds most; Faiss searches the first of these, and by its fast
scan 4-bit codes of its own of as many bytes in the same lists; ScaNN's own 4-bit codes of at most
as many bytes, in a tree of fewer and of more leaves, with the anisotropic threshold that finds
most; hnswlib over float vectors, which takes many times the memory. Each rival's one setting (lists
probed, leaves searched, ef) is swept, rivals in turns: each of theirs beside one of ours, then ours
between those.

python benchmarks/engine/curves.py --items 1000000 --bytes 16
POEEM_DATA=data python benchmarks/engine/curves.py --data glove-6b-50d --bytes 25 --name ...
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from contest import Rival, overlap, take_turns
from datasets import (
    NUM_QUERIES,
    Source,
    prepare_costly,
    prepare_lists,
    source_of,
    true_neighbours,
)
from rivals import COSTLY, IVF_FAST_SCAN, MORE_LEAVES, MORE_LISTS, SUMS
from table_parts import milliseconds

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import RESULTS, write_result

PROBES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BETWEEN = (3, 5, 6, 7, 10, 12, 14, 20, 24, 28, 40, 48, 56, 80, 96, 112, 160, 192, 224)
"""So that some setting of ours is hardly above each recall of a rival's."""
OURS = {COSTLY: "", MORE_LISTS: ", more lists", SUMS: ", residual codes"}
SWEEPS = {
    **dict.fromkeys(OURS, (*PROBES, 0, *BETWEEN)),
    "faiss ivfpq": PROBES,
    IVF_FAST_SCAN: PROBES,
    "scann": (*PROBES, 512),
    MORE_LEAVES: tuple(4 * probes for probes in (*PROBES, 512)),
    "hnswlib": (100, 150, 200, 300, 500, 800),
}
CASES = ("one, 1 thread", "batch, 1 thread", "one, 2 thread", "batch, 2 thread")


def sweep(
    folder: Path, truth: np.ndarray, rounds: int, threads: list[int], names: list[str]
) -> dict[str, Any]:
    """Return for each rival a point per setting."""
    rivals = [Rival(name, folder) for name in names]
    points: dict[str, Any] = {
        rival.name: {"index_bytes": rival.num_bytes, "points": []} for rival in rivals
    }
    try:
        for step in range(max(len(SWEEPS[name]) for name in names)):
            active = [rival for rival in rivals if step < len(SWEEPS[rival.name])]
            for rival in active:
                rival.choose(SWEEPS[rival.name][step])
            figures = take_turns(active, threads, rounds)
            for rival in active:
                points[rival.name]["points"].append(
                    {
                        "setting": SWEEPS[rival.name][step],
                        "recall10_at_10": round(overlap(rival.ids[:, :10], truth), 4),
                        "recall10_at_100": round(overlap(rival.ids, truth), 4),
                        **figures[rival.label],
                    }
                )
    finally:
        for rival in rivals:
            rival.close()
    return points


def at_equal_recall(
    points: dict[str, Any], us: str, rival: str, measure: str, case: str
) -> dict[str, Any]:
    """Return, for the rival's best recall that we reach too, how many times faster we are."""
    ours = points[us]["points"]
    for theirs in sorted(points[rival]["points"], key=lambda p: -p[measure]):
        level = [p for p in ours if p[measure] >= theirs[measure]]
        if level:
            best = min(level, key=lambda p: milliseconds(p, case))
            return {
                "recall": theirs[measure],
                "their_setting": theirs["setting"],
                "our_setting": best["setting"],
                "our_recall": best[measure],
                "times_ours": round(milliseconds(theirs, case) / milliseconds(best, case), 2),
            }
    return {"times_ours": None}


def draw(points: dict[str, Any], source: Source, num_bytes: int, path: Path) -> None:
    """Draw queries per second against recall, for batches and single queries."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 5.5), sharey=True, layout="constrained")
    for axis, case in zip(axes, ("one, 1 thread", "batch, 1 thread"), strict=True):
        for name, each in points.items():
            along = sorted(each["points"], key=lambda p: p["recall10_at_10"])
            x = [p["recall10_at_10"] for p in along]
            y = [1e3 / milliseconds(p, case) for p in along]
            size = each["index_bytes"] / source.items
            axis.plot(x, y, marker="o", markersize=4, label=f"{name}, {size:.0f} bytes an item")
        axis.set(yscale="log", xlabel="recall@10 of the true neighbours", title=case)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("queries per second")
    figure.suptitle(f"{source.name}, {source.items:,} items of dim {source.dim}, {num_bytes} bytes")
    lines, labels = axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, draw and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="clustered")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--lists", type=int, default=1024)
    parser.add_argument("--bytes", type=int, default=16)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rivals", nargs="+", default=list(SWEEPS)[len(OURS) :], help="besides us")
    parser.add_argument("--name", default="engine_curves")
    options = parser.parse_args()
    source = source_of(options.data, options.items, options.dim)
    queries = source.queries()
    truth = true_neighbours(source, queries)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source.save(folder)
        np.save(folder / "queries.npy", queries)
        prepare_lists(folder, source, options.lists)
        more = folder / "more"
        prepare_lists(more, source, 4 * options.lists)
        weights = {"product": prepare_costly(more, source, options.bytes, "product")}
        prepare_costly(folder, source, options.bytes, "product", next(iter(weights["product"])))
        weights["residual"] = prepare_costly(folder, source, options.bytes, "residual")
        names = [*OURS, *options.rivals]
        points = sweep(folder, truth, options.rounds, options.threads, names)
    cases = [case for case in CASES if int(case.split()[1]) in options.threads]
    found = {
        f"at_equal_recall{kind}": {
            rival: {
                measure: {case: at_equal_recall(points, us, rival, measure, case) for case in cases}
                for measure in ("recall10_at_10", "recall10_at_100")
            }
            for rival in options.rivals
        }
        for us, kind in OURS.items()
    }
    draw(points, source, options.bytes, RESULTS / f"{options.name}.png")
    settings = {"data": source.name, "items": source.items, "dim": source.dim, "k": 100}
    settings |= {"bytes": options.bytes, "lists": options.lists, "batch": NUM_QUERIES}
    settings |= {"rounds": options.rounds, "picture": f"{options.name}.png"}
    settings |= {"parallel_weight": weights}
    write_result(options.name, {**settings, **found, "rivals": points})


if __name__ == "__main__":
    main()
