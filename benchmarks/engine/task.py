"""A jointly trained index against hnswlib on its float twin, at equal recall of the task.

RUN is the folder of `poeem train gowalla`; TWIN has vectors.npy and queries.npy of the float twin,
which `poeem compare` leaves in runs/compare. Both answer 200 items a query, of which the
100 best that are no training items count. hnswlib's links and ef are swept, and the fastest of its
settings whose recall is at least ours is what we are compared with; where none has as much, the
fastest of those that find most.

POEEM_DATA=data python benchmarks/engine/task.py RUN TWIN
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

K = 200
os.environ["POEEM_BENCH_K"] = str(K)  # before the rivals' processes start

from contest import Rival, take_turns  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write_result  # noqa: E402

LINKS = (2, 3, 4, 8, 16)
SEARCH_WIDTHS = (200, 300)


def scored(rival: Rival, test: Any) -> dict[str, float]:
    """Return the recall of what a rival found, training items dropped."""
    from poeem.evaluation.protocol import drop_excluded

    figures = test.score(drop_excluded(rival.ids, test.exclude, 100))
    return {name: round(figures[name], 4) for name in ("recall@20", "recall@100")}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("twin", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--name", default="engine_task_gowalla")
    options = parser.parse_args()
    from poeem.training.run import prepare
    from poeem.training.trained import TrainedRun

    run = TrainedRun.load(options.run)
    test = prepare(run.config).test
    points: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        ours, theirs = Path(place) / "ours", Path(place) / "theirs"
        ours.mkdir()
        theirs.mkdir()
        shutil.copy(options.run / "items.poeem", ours)
        users = run.catalogue.user_ids[test.users].tolist()
        np.save(ours / "queries.npy", run.query_vectors(users=users))
        for name in ("queries.npy", "vectors.npy"):
            shutil.copy(options.twin / name, theirs)
        names = [f"hnswlib {links} links" for links in LINKS]
        rivals = [Rival("poeem best", ours), *(Rival(name, theirs) for name in names)]
        try:
            for width in SEARCH_WIDTHS:
                for rival in rivals[1:]:
                    rival.choose(width)
                figures = take_turns(rivals, options.threads, options.rounds)
                for rival in rivals:
                    label = rival.name if rival is rivals[0] else f"{rival.name}, ef {width}"
                    row = {"index_bytes": rival.num_bytes, **scored(rival, test)}
                    points[label] = row | figures[rival.label]
        finally:
            for rival in rivals:
                rival.close()
    mine = points["poeem best"]
    rivals_points = {name: point for name, point in points.items() if name.startswith("hnswlib")}
    most = max(point["recall@100"] for point in rivals_points.values())
    wanted = min(mine["recall@100"], most)
    level = {name: p for name, p in rivals_points.items() if p["recall@100"] >= wanted}
    best: dict[str, Any] = {}
    for case in [key for key in mine if key.endswith("thread")]:
        name = min(level, key=lambda n: level[n][case]["p50_ms"])
        best[case] = {
            "hnswlib": name,
            "as_much_recall": most >= mine["recall@100"],
            "times_ours": round(level[name][case]["p50_ms"] / mine[case]["p50_ms"], 2),
            "its_bytes_over_ours": round(level[name]["index_bytes"] / mine["index_bytes"], 1),
        }
    write_result(options.name, {"k": K, "at_equal_recall": best, "points": points})


if __name__ == "__main__":
    main()
