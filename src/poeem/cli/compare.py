"""`poeem compare`: the index learned with the model against indexes built afterwards."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import poeem
from poeem.cli.options import Given, settings
from poeem.cli.output import Json, counting, print_json, say, show_table
from poeem.cli.train import anchored, data_line, with_schedule
from poeem.config import Config
from poeem.errors import ConfigError, TrainingInterrupted

if TYPE_CHECKING:
    from poeem.evaluation.results import ResultFile

EXAMPLES = """
poeem compare
poeem compare gowalla --seeds 0,1,2 --bytes 4,8,16,32
poeem compare gowalla --bytes 8 --only float,opq,rq,ours --validation
"""

# Of these the comparison has its own: bytes, seeds and the hold-out.
_SKIPPED = (
    "data.path",
    "data.hold_out_valid",
    "layer.pass_through_steps",
    "layer.num_subspaces",
    "layer.seed",
    "train.seed",
)

Facts = Callable[[], Mapping[str, Any]]


@settings("data", "model", "layer", "train", skip=_SKIPPED)
def compare(
    path: Annotated[
        str | None,
        typer.Argument(
            help="a table as for poeem train, or the name of a data set "
            r"\[default: online-retail]",
            show_default=False,
        ),
    ] = None,
    *,
    given: Given,
    seeds: Annotated[
        str,
        typer.Option(
            "--seeds", metavar="N,N,...", help=r"seeds; a float twin for each \[default: 0]"
        ),
    ] = "0",
    sizes: Annotated[
        str,
        typer.Option(
            "--bytes", metavar="N,N,...", help=r"budgets, bytes of code per item \[default: 8]"
        ),
    ] = "8",
    only: Annotated[
        str | None,
        typer.Option(
            "--only", metavar="NAME,...", help=r"what to compare, by name \[default: all]"
        ),
    ] = None,
    validation: Annotated[
        bool,
        typer.Option(
            "--validation",
            help="measure on validation pairs taken out of training, not on test pairs",
        ),
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="measure anew what the result file has already")
    ] = False,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help=r"where results and pictures go \[default: runs/compare]",
        ),
    ] = Path("runs/compare"),
    json: Json = False,
) -> None:
    """Compare indexes learned with the model with indexes built from its float twin afterwards.

    Trains one float twin per seed; lets Faiss, ScaNN and Annoy index its vectors, each in a process
    of its own; trains joint models on from the twin's warm start. Every row is kept at once in
    FOLDER/compare_NAME.json (compare_NAME_validation.json with --validation): called again, it goes
    on with what is not there yet. Twins are kept in runs/compare/NAME.

    Names for --only: float, pq, opq, ivf-opq, rq, rq-wide, lsq, rabitq, lsh, scann, scann-8bit,
    annoy, fixed-codes, paper, ours-product, ours-residual; ours is the one of the last two that
    the settings name.
    """
    if path is not None:
        given = Given(given.file, {**given.options, "data": _with_path(given, path)})
    names = None if only is None else tuple(only.split(","))
    results = compare_data(
        anchored(with_schedule(given)),
        seeds=_numbers("--seeds", seeds),
        sizes=_numbers("--bytes", sizes),
        names=names,
        validation=validation,
        again=again,
        out=out,
        facts=dict,
        stamp=_stamp,
    )
    if json:
        print_json({"result": str(results.path), "rows": results.rows})
    else:
        show_comparison(results)


def compare_data(
    config: Config,
    *,
    seeds: tuple[int, ...],
    sizes: tuple[int, ...],
    names: tuple[str, ...] | None,
    validation: bool,
    again: bool,
    out: Path,
    facts: Facts,
    stamp: Facts,
) -> ResultFile:
    """Run a comparison; write its JSON and its picture.

    Args:
        names: None = all there are.
        facts: of the whole file. stamp: of each row; both are called when they are needed.

    Raises:
        TrainingInterrupted: Ctrl-C; says how to go on.
    """
    from poeem.cli.compare_job import LABELS, Comparison, Plan
    from poeem.evaluation.comparison_plot import save_comparison_picture
    from poeem.evaluation.results import ResultFile
    from poeem.interchange.faiss_module import require_faiss
    from poeem.training.display import Bar
    from poeem.training.prepared import measured_pairs, prepare
    from poeem.training.recipes import resolved

    require_faiss()  # before minutes of training, not after
    chosen = tuple(resolved(name, config) for name in names) if names else tuple(LABELS)
    plan = Plan(seeds, sizes, chosen)
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, hold_out_valid=validation)
    )
    data = Path(config.data.path).stem
    name = f"compare_{data}" + ("_validation" if validation else "")
    with counting("reading") as progress:
        prepared = prepare(config, progress=progress)
    say(data_line(prepared))
    evaluation = measured_pairs(config, prepared)
    out.mkdir(parents=True, exist_ok=True)
    own_facts = {
        "data": data,
        "split": prepared.split.method,
        "measured_on": "validation pairs" if validation else "test pairs",
        "num_users": len(evaluation.users),
        "num_items": prepared.pairs.num_items,
        "num_training_pairs": len(prepared.pairs),
        "config": config.to_dict(),
    }
    results = ResultFile(out / f"{name}.json", {"benchmark": name, **facts(), **own_facts})
    work = Path("runs") / "compare" / data
    comparison = Comparison(
        config, prepared, evaluation, plan, results, stamp, work, Bar, say, again
    )
    try:
        comparison.run()
    except TrainingInterrupted as error:
        message = "stopped by you; the same command goes on with what is missing"
        raise TrainingInterrupted(message, error.checkpoint) from error
    save_comparison_picture(results.rows, _title(results), out / f"{name}.png")
    say(f"in {out}: {name}.json, {name}.png")
    return results


def show_comparison(results: ResultFile) -> None:
    """Print the table, and why some indexes are not in it."""
    from poeem.evaluation.results import means_table, reasons, verdict_table

    show_table(means_table(results.rows, _title(results)))
    show_table(verdict_table(results.rows))
    for line in reasons(results.rows):
        say(f"no index: {line}")


def _title(results: ResultFile) -> str:
    facts = results.facts
    return f"{facts['data']}, {facts['measured_on']} of {facts['num_users']:,} users"


def _stamp() -> dict[str, Any]:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"when": when, "version": poeem.__version__}


def _with_path(given: Given, path: str) -> dict[str, Any]:
    return {**given.options.get("data", {}), "path": path}


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise ConfigError(f"{name}: got {text!r}, wanted numbers with commas, e.g. 4,8") from None
