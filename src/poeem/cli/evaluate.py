"""`poeem evaluate`: how good are a run's answers?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from poeem.cli.options import Given, settings
from poeem.cli.output import Json, answers, counting, print_json, show_table

if TYPE_CHECKING:
    from rich.console import Console

    from poeem.training.trained import Evaluation

EXAMPLES = """
poeem evaluate runs/shop
poeem evaluate runs/shop --num-probes 4 --json
"""

_SHOWN = ("recall@20", "recall@100", "precision@100")


@settings("search", skip=("search.k",))
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="the folder of a run")],
    *,
    given: Given,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index", metavar="FILE", help="an index built from the run; else its items.poeem"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure recall and precision on a run's held-out pairs.

    Three times: by exact search over float vectors, by exact search over quantized vectors, and
    through the index file. The last two are the same, but for the order of equal scores, if the
    index has the metric ip and all its lists are visited.
    """
    from poeem.training.folder import RunFolder
    from poeem.training.prepared import prepare
    from poeem.training.trained import evaluate_run

    config = given.config(RunFolder(run).read_config())
    with counting("reading") as progress:
        prepared = prepare(config, progress=progress)
    with counting("evaluating") as progress:
        evaluation = evaluate_run(
            run, index=index, search=config.search, prepared=prepared, progress=progress
        )
    if json:
        print_json({"run": str(run), **evaluation.to_dict()})
    else:
        show_evaluation(evaluation, answers())


def show_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print a table: what was searched, and how good it was."""
    from rich.table import Table

    title = f"{evaluation.num_users:,} {evaluation.asked_by}, their held-out items"
    table = Table(title=title, title_justify="left")
    table.add_column("search over")
    for name in _SHOWN:
        table.add_column(name, justify="right")
    rows = {
        "float vectors, exactly": evaluation.exact,
        "quantized vectors, exactly": evaluation.quantized,
        "the index file": evaluation.engine,
    }
    for name, figures in rows.items():
        if figures is not None:
            table.add_row(name, *(f"{figures[key]:.4f}" for key in _SHOWN))
    show_table(table, console)
