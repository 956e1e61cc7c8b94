"""online-retail as it stood on earlier days: is a figure that falls short a matter of the day?

The table of `compare.py` holds out the last fifth of online-retail's pairs by time, weeks before
Christmas. Here the table ends earlier: of its rows by time only a first share is kept, and the last
fifth of those is held out. Nothing was chosen on these days but for those whose held-out pairs
reach into the validation pairs (shares above .64). Ours against exact search over the float twin
and against the indexes that are best at 32 bytes where all of the table is there.

    python benchmarks/earlier_days.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from common import circumstances, write_result
from compare import settings, stamp

from poeem.cli.compare import compare_data
from poeem.data.sources import open_source
from poeem.evaluation.results import verdicts

DATA, RIVALS = "online-retail", ("float", "ivf-opq", "rq", "ours")
WORK = Path("runs") / "earlier_days"


def cut(share: float) -> tuple[Path, str]:
    """Write the first rows by time to a table; return it and its last day."""
    with open_source(DATA) as source:
        table = pq.read_table(source.table)
    times = np.asarray(table["timestamp"])
    first = np.argsort(times, kind="stable")[: int(len(times) * share)]
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / f"until_{share:g}.parquet"
    pq.write_table(table.take(first), path)
    return path, str(times[first[-1]].astype("datetime64[s]").astype("datetime64[D]"))


def measure(share: float, sizes: tuple[int, ...], seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return a row for each size: recall@100 of ours, of the best of the others, and exact."""
    path, day = cut(share)
    config = settings(DATA, {"data": {"path": str(path)}, "train": {"num_threads": 1}})
    results = compare_data(
        config,
        seeds=seeds,
        sizes=sizes,
        names=RIVALS,
        validation=False,
        again=False,
        out=WORK,
        facts=circumstances,
        stamp=stamp,
    )
    facts = {key: results.facts[key] for key in ("num_training_pairs", "num_users")}
    found = [vars(v) for v in verdicts(results.rows) if v.name == "ours-residual"]
    return [{"share": share, "last_day": day, **facts, **verdict} for verdict in found]


def main() -> None:
    """Measure every share; keep what is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.65, 0.8])
    parser.add_argument("--bytes", type=int, nargs="+", default=[32])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for share in options.shares:
        rows += measure(share, tuple(options.bytes), tuple(options.seeds))
        write_result("earlier_days", {"data": DATA, "seeds": options.seeds, "rows": rows})


if __name__ == "__main__":
    main()
