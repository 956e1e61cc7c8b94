"""`poeem demo`: real purchases, a model and its index, and what it is worth."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from poeem.cli.output import Json, answers, print_json, say, show_table
from poeem.cli.train import anchored, data_line

if TYPE_CHECKING:
    from poeem.cli.demo_job import DemoResult
    from poeem.training.prepared import Prepared

EXAMPLES = """
poeem demo
poeem demo --out runs/mine --epochs 2
"""


def demo(
    path: Annotated[
        str | None,
        typer.Argument(help=r"a table of interactions \[default: online-retail, which is bundled]"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help=r"where all goes \[default: runs/NAME of the data]"
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", min=1, help="passes over the data")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace a run in --out that is no demo's")
    ] = False,
    json: Json = False,
) -> None:
    """Train a model and its index as one on real purchases, and compare with indexes of Faiss.

    The comparison is with exact search over the vectors of the model's float twin, and with indexes
    that Faiss builds from these vectors afterwards.
    """
    from poeem.cli.demo_job import Demo, check_data, demo_config, take_folder
    from poeem.evaluation.comparison import save_json, save_picture
    from poeem.files import held_folder
    from poeem.interchange.faiss_module import require_faiss
    from poeem.training.display import Bar
    from poeem.training.folder import RunFolder
    from poeem.training.prepared import prepare

    require_faiss()  # before minutes of training, not after
    start = time.perf_counter()
    config = anchored(demo_config(epochs, path))
    folder = out or Path("runs") / Path(config.data.path).stem
    prepared = prepare(config)
    say(data_line(prepared))
    check_data(config, prepared)
    RunFolder(folder).make()
    with held_folder(folder):
        work = take_folder(folder, overwrite=overwrite)
        result = Demo(config, prepared, work, Bar, say).run()
        result.seconds["all"] = time.perf_counter() - start
        facts = {"data": config.data.path, "config": config.to_dict(), "seconds": result.seconds}
        save_json(result.rows, facts, work / "comparison.json")
        title = f"{Path(config.data.path).stem}: index learned with the model, or built afterwards"
        save_picture(result.rows, title, work / "comparison.png")
        RunFolder(folder).finish()
    if json:
        print_json({"out": str(folder), **facts, "rows": [vars(row) for row in result.rows]})
    else:
        _show(result, prepared, folder)


def _show(result: DemoResult, prepared: Prepared, folder: Path) -> None:
    from poeem.cli.search import show
    from poeem.evaluation.comparison import comparison_table

    test = prepared.test
    console = answers()
    console.print()
    num_users = 0 if test is None else len(test.users)
    show_table(comparison_table(result.rows, f"Held-out purchases of {num_users:,} customers"))
    user, item, (questions, found) = _example(prepared, folder)
    console.print()
    show(questions, found)
    index = folder / "items.poeem"
    console.print(
        f"\nDone in {result.seconds['all']:.0f} s. In {folder}: items.poeem (the index), "
        "comparison.png, comparison.json.\nTry:"
    )
    for words in (
        ("search", index, "--like", item),
        ("search", index, "--model", folder, "--user", user),
        ("search", index, "--model", folder, "--history", item),
        ("inspect", index),
        ("evaluate", folder),
    ):
        command = shlex.join(["poeem", *map(str, words)])
        console.print(f"  {command}", soft_wrap=True)


def _example(prepared: Prepared, folder: Path) -> tuple[Any, Any, Any]:
    """Answer for a customer whose purchases are few enough to read; name an item of theirs."""
    import numpy as np

    from poeem.cli.search import answer, questions_from_model
    from poeem.config import SearchConfig
    from poeem.index import Index

    catalogue = prepared.catalogue
    lengths = catalogue.histories.lengths()
    tested = prepared.test.users if prepared.test is not None else np.arange(len(lengths))
    user = int(tested[np.argmin(np.abs(lengths[tested] - 12))])
    user_id = catalogue.user_ids[user]
    item_id = catalogue.item_ids[catalogue.history_of(user)[0]]
    index = Index.open(folder / "items.poeem")
    questions = questions_from_model(index, folder, str(user_id), None)
    return user_id, item_id, (questions, answer(index, questions, SearchConfig(k=8)))
