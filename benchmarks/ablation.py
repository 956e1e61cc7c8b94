"""Each ingredient of the recipe taken out or put in, one at a time, on validation pairs.

All begin at the same warm start of the same float twin, and train the same steps; recall is that of
exact search over T(x), which is what the engine answers. What needs more than other settings is in
`tried.py`. A row is kept when it is done; called again, the script goes on with what is missing, or
was made with other defaults: each is compared with the "ours" of its own recipe only.

    POEEM_DATA=../shared/data python benchmarks/ablation.py gowalla --bytes 8
    python benchmarks/ablation.py movielens-1m --only "ours,product codes"
    python benchmarks/ablation.py movielens-1m --draw    # the picture again, from the result file

The picture shows by how many per cent each change moves recall@100, size by size.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import torch
from ablation_rows import OURS, moved_by
from common import RESULTS, circumstances
from compare import SETS, settings, stamp
from tried import TRIED

from poeem.cli.output import say
from poeem.config import Config
from poeem.evaluation.comparison import import_matplotlib
from poeem.evaluation.results import METRICS, ResultFile
from poeem.files import atomic_write
from poeem.training.display import Bar
from poeem.training.loop import evaluate_state
from poeem.training.objective import batch_losses
from poeem.training.prepared import measured_pairs, prepare
from poeem.training.recipes import recipe_config
from poeem.training.run import train_state
from poeem.training.twin import LeftOpen, TwinFolder, left_open, settings_mark

CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    OURS: {},
    "product codes": {"layer": {"family": "product"}},
    "product codes without a rotation": {"layer": {"family": "product", "rotation": False}},
    "product codes whose rotation stays": {
        "layer": {"family": "product"},
        "train": {"rotation_learning_rate": 0.0},
    },
    "product codes whose rotation turns a tenth as fast": {
        "layer": {"family": "product"},
        "train": {"rotation_learning_rate": 1e-4},
    },
    "the plain distance instead of the queries'": {"layer": {"query_power": 0.0}},
    "the queries' distance in full": {"layer": {"query_power": 1.0}},
    "beam of 8 in training too": {"layer": {"beam": 8}},
    "no rounds over all codebooks in the warm start": {"layer": {"refit_rounds": 0}},
    "codewords as fast as towers": {"train": {"codebook_learning_rate": 3e-3}},
    "codewords a hundredth as fast": {"train": {"codebook_learning_rate": 3e-5}},
    "gradient to codewords too": {"layer": {"gradient": "both"}},
    "commitment 0.1": {"layer": {"commitment_weight": 0.1}},
    "a tenth of the weight on distortion": {"layer": {"distortion_weight": 1.0}},
    "ten times the weight on distortion": {"layer": {"distortion_weight": 100.0}},
    "temperature 0.05 from the warm start on": {"model": {"temperature": 0.05}},
    "temperature 0.1 from the warm start on": {"model": {"temperature": 0.1}},
    "errors along the vector cost twice as much": {"layer": {"parallel_weight": 1.0}},
    "errors along the vector cost five times as much": {"layer": {"parallel_weight": 4.0}},
    "no frozen epoch": {"train": {"frozen_epochs": 0}},
    "frozen epoch at full steps": {"train": {"frozen_rate": 1.0}},
    "frozen epoch against the batch": {"train": {"frozen_negatives": 0, "frozen_rate": 0.2}},
    "all codewords learn in the frozen epoch": {"train": {"frozen_bits": 0}},
    "those of 128 bits learn in the frozen epoch": {"train": {"frozen_bits": 128}},
    "half of the frozen loss by float scores": {"train": {"distillation_share": 0.5}},
    "frozen loss by float scores alone": {"train": {"distillation_share": 1.0}},
    "codes always fitted once more": {"train": {"refit_below": 10**9}},
    "codes never fitted once more": {"train": {"refit_below": 0}},
    "all items quantized": {"train": {"quantized_share": 1.0}},
    "half of the items quantized": {"train": {"quantized_share": 0.5}},
    "quantizer dropout on all items": {"layer": {"quantizer_dropout": 1.0}},
    "quantizer dropout on half of the items": {"layer": {"quantizer_dropout": 0.5}},
    "no quantizer dropout": {"layer": {"quantizer_dropout": 0.0}},
    "dropout of later codewords": {"layer": {"tail_dropout": 1.0}},
    "no dropout of later codewords": {"layer": {"tail_dropout": 0.0}},
    "no revival": {"layer": {"revive_window": 0}},
    "a rotation": {"layer": {"rotation": True}},
    **{name: {} for name in TRIED},
}
"""Name -> settings that differ from the defaults; of `TRIED` none do."""


MADE = ("mean", "verdicts", "rows")
"""What a result file has beside its facts."""


def changed(config: Config, change: dict[str, dict[str, Any]]) -> Config:
    """Return the settings with a change."""
    sections = {
        name: dataclasses.replace(getattr(config, name), **values)
        for name, values in change.items()
    }
    return dataclasses.replace(config, **sections)


def row_of(
    name: str,
    recipe: Config,
    num_bytes: int,
    found: dict[str, float],
    twin: TwinFolder,
    left: LeftOpen,
) -> dict[str, Any]:
    """Return a row of the result file: recall of T(x), and beside it that of the float vectors.

    Args:
        recipe: what was changed; `settings` and `recipe` of the row are the marks of both.
        left: see `mark_of`.
    """
    exact = twin.figures()["recall@100"]
    measured = {key: found[f"quantized_{key}"] for key in METRICS}
    measured |= {key: found[key] for key in ("used_codewords", "distortion")}
    measured |= {"own_float_recall@100": found["recall@100"], "twin_recall@100": exact}
    measured |= {"over_twin": measured["recall@100"] / exact}
    about = {"seed": recipe.train.seed, "bytes": num_bytes, "name": name, "label": name}
    about |= {"kind": "joint", "settings": mark_of(recipe, name, left)}
    about |= {"recipe": mark_of(recipe, OURS, left)}
    about |= {"bytes_per_item": num_bytes, "build_seconds": None}
    return {**about, **{key: round(value, 5) for key, value in measured.items()}}


def mark_of(recipe: Config, name: str, left: LeftOpen) -> str:
    """Return the mark of all settings of a row, those that nobody changed among them.

    left: what settings left open come to with the data.
    """
    return settings_mark(changed(recipe, CHANGES[name]), joint=True, left=left)


def draw(results: ResultFile, data: str, notes: dict[str, str] | None = None) -> None:
    """Draw by how much each change moves recall@100 of ours, with the same seeds.

    notes: what to write behind the names of changes.
    """
    figure_class, canvas_class = import_matplotlib()
    moved = moved_by(results.rows)
    if not moved:
        return
    most = max(map(len, moved.values()))
    height = 1.2 + 0.26 * most
    figure = figure_class(figsize=(7.5 * len(moved), height), dpi=130, layout="constrained")
    canvas_class(figure)
    figure.suptitle(f"{data}, validation pairs: what each change does to recall@100")
    for axes, size in zip(figure.subplots(1, len(moved), squeeze=False)[0], moved, strict=True):
        names = sorted(moved[size], key=moved[size].__getitem__)
        values = [moved[size][name] for name in names]
        colours = ["#5b8db8" if value < 0 else "#d9622b" for value in values]
        labels = [name + (notes or {}).get(name, "") for name in names]
        bars = axes.barh(labels, values, color=colours, height=0.7)
        axes.bar_label(bars, [f"{value:+.1f} %" for value in values], padding=3, fontsize=8)
        axes.axvline(0, color="#444444", linewidth=0.8)
        axes.margins(x=0.15)
        axes.set_ylim(len(names) - most - 0.6, len(names) - 0.4)  # bars as thick as the others'
        axes.set_title(f"{size} bytes an item")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0, labelsize=8)
    with atomic_write(results.path.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png")


def main() -> None:
    """Train what is asked for and not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", choices=SETS)
    parser.add_argument("--bytes", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", help="names, with commas between them")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--draw", action="store_true", help="only the picture")
    options = parser.parse_args()
    path = options.out / f"ablation_{options.data}.json"
    if options.draw:
        facts = {k: v for k, v in json.loads(path.read_text("utf-8")).items() if k not in MADE}
        draw(ResultFile(path, facts), options.data)
        return
    names = options.only.split(",") if options.only else list(CHANGES)
    if options.threads:
        torch.set_num_threads(options.threads)
    config = settings(options.data)
    held_out = dataclasses.replace(config.data, hold_out_valid=True)
    config = dataclasses.replace(config, data=held_out)
    prepared = prepare(config)
    evaluation = measured_pairs(config, prepared)
    left = left_open(prepared, config)
    facts = {"data": options.data, "measured_on": "validation pairs", "config": config.to_dict()}

    def with_seed(seed: int) -> Config:
        return dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))

    def counts(row: dict[str, Any]) -> bool:
        """Return whether a row stands beside the recipe as it is."""
        recipe = recipe_config("ours-residual", with_seed(row["seed"]), row["bytes"], row["seed"])
        return row.get("recipe") == mark_of(recipe, OURS, left)

    results = ResultFile(path, {"benchmark": path.stem, **circumstances(), **facts}, counts)
    for seed in options.seeds:
        seeded = with_seed(seed)
        work = Path("runs") / "compare" / options.data
        twin = TwinFolder(work, seeded, prepared, evaluation)
        twin.train(Bar)
        for name in names:
            recipe = recipe_config("ours-residual", seeded, options.bytes, seed)
            if results.has(seed, options.bytes, name, mark_of(recipe, name, left)):
                continue
            state = twin.joint_state(changed(recipe, CHANGES[name]))
            start = time.perf_counter()
            unwatched = dataclasses.replace(prepared, validation=None)
            losses = TRIED[name](state, prepared.pairs) if name in TRIED else batch_losses
            train_state(state, unwatched, display=Bar, title=name, losses=losses)
            state.model.eval()
            state.layer.eval()
            found = evaluate_state(state, evaluation, prepared.pairs)
            spent = {"spent_seconds": round(time.perf_counter() - start, 1)}
            row = row_of(name, recipe, options.bytes, found, twin, left)
            results.add({**row, **spent, **stamp()})
            say(f"{name}: recall@100 {found['quantized_recall@100']:.4f}")
    results.save()
    draw(results, options.data)


if __name__ == "__main__":
    main()
