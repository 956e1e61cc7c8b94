"""Text sets: queries nobody trained on, through the whole of it: train, build, search, evaluate.

tldr-pages comes with the package. Of wordnet-gloss a document is the words of a synset and its
query the gloss; each document has one query, so that those of held-out queries are in no training
pair at all: their vectors come from their tokens alone. The defaults of the command line, but for
`--epochs`. Recall at the start is that of random token vectors: of the words that both share.

    POEEM_DATA=../shared/data python benchmarks/text.py
    python benchmarks/text.py --choices     # float twins on validation queries of tldr-pages
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import write_result

from poeem.cli.schedule import fitted
from poeem.config import Config, TrainConfig
from poeem.data import token_bags
from poeem.training.loop import evaluate_state
from poeem.training.prepared import prepare
from poeem.training.run import new_state, train_run, train_state
from poeem.training.trained import build_run, evaluate_run

SETS = ("tldr-pages", "wordnet-gloss")
SHOWN = ("recall@20", "recall@100", "precision@100")


def measure(name: str, epochs: int) -> dict[str, Any]:
    """Train and evaluate one set; return figures and seconds."""
    config = Config.from_dict({"data": {"path": name}})
    train = dataclasses.replace(config.train, epochs=epochs, eval_every=0)
    config = dataclasses.replace(config, train=fitted(train, (), TrainConfig()))
    prepared = prepare(config)
    texts = [*(prepared.catalogue.query_texts or []), *(prepared.catalogue.item_texts or [])]
    started = time.process_time()
    bags = token_bags(texts, num_buckets=config.model.text_buckets)
    tokenizing = time.process_time() - started
    state = new_state(config, prepared, joint=False)
    start = evaluate_state(state, prepared.test, prepared.pairs) if prepared.test else {}
    with tempfile.TemporaryDirectory() as folder:
        clock, cpu = time.perf_counter(), time.process_time()
        train_run(config, Path(folder), prepared=prepared)
        wall, cpu = time.perf_counter() - clock, time.process_time() - cpu
        build_run(Path(folder))
        found = evaluate_run(Path(folder), prepared=prepared)
    return {
        "queries": prepared.pairs.num_users,
        "documents": prepared.pairs.num_items,
        "fields": prepared.fields,
        "held_out_queries": found.num_users,
        "epochs": epochs,
        "at the start, exact": {k: round(start[k], 4) for k in SHOWN},
        "trained, exact": {k: round(found.exact[k], 4) for k in SHOWN},
        "index, 8 bytes": {k: round((found.engine or {})[k], 4) for k in SHOWN},
        "training_seconds": {"wall": round(wall, 1), "process_cpu": round(cpu, 1)},
        "tokenizing": {
            "texts": len(texts),
            "tokens": len(bags.buckets),
            "process_cpu_seconds": round(tokenizing, 2),
        },
    }


CHOICES: dict[str, dict[str, dict[str, Any]]] = {
    "defaults": {},
    "without bigrams": {"model": {"text_bigrams": False}},
    "without words": {"model": {"text_words": False}},
    "a table for each side": {"model": {"text_table": "separate"}},
    "documents with their commands": {"data": {"document_fields": "title,text,commands"}},
}


def measure_choice(settings: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Train a float twin for four epochs; return its recall on held-out validation queries."""
    train = {"epochs": 4, "warm_start_epoch": 1, "decay_epochs": 2, "eval_every": 0}
    sections = {"data": {"path": "tldr-pages"} | settings.get("data", {})}
    sections |= {"model": settings.get("model", {}), "train": train}
    config = Config.from_dict(sections)
    prepared = prepare(config, hold_out_valid=True)
    if prepared.validation is None:
        return {}
    state = new_state(config, prepared, joint=False)
    train_state(state, dataclasses.replace(prepared, validation=None))
    found = evaluate_state(state, prepared.validation, prepared.pairs)
    return {k: round(found[k], 4) for k in SHOWN}


def main() -> None:
    """Measure each set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--epochs", type=int, default=TrainConfig().epochs)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--choices", action="store_true", help="what the defaults were chosen by")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.choices:
        found = {name: measure_choice(choice) for name, choice in CHOICES.items()}
        write_result("text_choices", {"validation": found})
        return
    figures = {}
    for name in options.sets:
        figures[name] = measure(name, options.epochs)
        print(name, figures[name], flush=True)
    settings = {"seed": TrainConfig().seed, "threads": options.threads}
    write_result("text", {"settings": settings, "figures": figures})


if __name__ == "__main__":
    main()
