"""`poeem compare` on the sets of POEEM_DATA, kept: rows with commit, table and picture in results/.

The settings are the command line's defaults; what is set here says only how to read a set:

- movielens-1m: ratings of 4 and 5 count. A fifth of each user's pairs is test, drawn at random, as
  in the published splits of gowalla and amazon-book: a cut by time would leave few users to measure
  on, since most of them rated all their films on one day.
- tldr-pages: a fifth of the queries is test, drawn at random; queries and pages are read by one
  tower of hashed tokens.
- wordnet-gloss: the same; each of 117,659 glosses asks for its words. None of the settings was
  chosen on it but `refit_below` of texts.
- online-retail: the last fifth of all pairs by time is test. Model and training are those of
  `poeem demo`, made for this table, whose query is the mean of what a customer bought: its float
  vectors are the better ones, and the harder to beat.

    POEEM_DATA=../shared/data python benchmarks/compare.py gowalla --seeds 0 1 2 --bytes 4 8 16 32
    python benchmarks/compare.py online-retail --bytes 8 --only float,opq,rq,ours --validation
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from common import RESULTS, circumstances

from poeem.cli.compare import compare_data, show_comparison
from poeem.cli.compare_job import LABELS
from poeem.cli.demo_job import SETTINGS as DEMO
from poeem.config import Config

SETS: dict[str, dict[str, dict[str, Any]]] = {
    "gowalla": {},
    "amazon-book-kgat": {},
    "movielens-1m": {"data": {"rating_column": "rating", "min_rating": 4.0, "split": "random"}},
    "tldr-pages": {},
    "wordnet-gloss": {},
    "online-retail": {name: DEMO.to_dict()[name] for name in ("model", "train")},
}


def settings(name: str, extra: dict[str, dict[str, Any]] | None = None) -> Config:
    """Return the settings of a set; `extra` is sections with settings over them."""
    sections: dict[str, dict[str, Any]] = {"data": {"path": name}}
    for given in (SETS[name], extra or {}):
        for section, values in given.items():
            sections[section] = {**sections.get(section, {}), **values}
    return Config.from_dict(sections)


def stamp() -> dict[str, Any]:
    """Return what each row says of its making."""
    now = circumstances()
    row = {key: now[key] for key in ("when", "commit")}
    return {**row, "processor": now["machine"]["processor"]}


def main() -> None:
    """Compare on one set, or on all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", choices=[*SETS, []], default=list(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--bytes", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--only", help=f"some of {','.join(LABELS)},ours")
    parser.add_argument("--validation", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    for name in options.data:
        results = compare_data(
            settings(name, {"train": {"num_threads": options.threads}}),
            seeds=tuple(options.seeds),
            sizes=tuple(options.bytes),
            names=tuple(options.only.split(",")) if options.only else None,
            validation=options.validation,
            again=options.again,
            out=options.out,
            facts=circumstances,
            stamp=stamp,
        )
        show_comparison(results)


if __name__ == "__main__":
    main()
