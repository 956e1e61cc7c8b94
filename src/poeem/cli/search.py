"""`poeem search`: ask an index file. Loads torch only when a model is named."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from poeem.checks import check_vectors
from poeem.cli.arrays import load_array
from poeem.cli.find import AnyIndex, find_item, index_file, names_of, open_index
from poeem.cli.options import Given, settings
from poeem.cli.output import Json, answers, print_json, printable
from poeem.config import SearchConfig
from poeem.errors import ConfigError, NotAnIndexError
from poeem.types import FloatArray, IntArray

EXAMPLES = """
poeem search runs/shop/items.poeem --like 85123A
poeem search runs/shop/items.poeem --query-vectors queries.npy --k 100 --json
poeem search runs/shop --user 12347
poeem search runs/tldr --text "count the lines of a file"
poeem search runs/shop/items.poeem --query-vectors queries.npy --target-recall 0.95
poeem search runs/shop/items.poeem --model runs/shop --history 85123A --history 22423
"""

# Items of a history named above an answer.
_MAX_NAMED = 5


@dataclass(frozen=True)
class Questions:
    """What to ask an index.

    vectors: float32 [n, dim] or [n, num_heads, dim]. names: n, for people.
    leave_out: ids that no answer may have, the same for all.
    had: the names of what a user had, latest first.
    """

    vectors: FloatArray
    names: list[str]
    leave_out: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    had: list[str] = field(default_factory=list)


@settings("search")
def search(
    file: Annotated[
        Path, typer.Argument(metavar="INDEX", help="an index file, or the folder of a run")
    ],
    *,
    given: Given,
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="ITEM", help="items like this: an id, or part of a title"),
    ] = None,
    query_vectors: Annotated[
        Path | None,
        typer.Option(
            "--query-vectors",
            metavar="FILE.npy",
            help="float32, num_queries x dim, or num_queries x num_heads x dim",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="RUN",
            help=r"the run that made the index; needs torch \[default: INDEX, where it is a run]",
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text", metavar="TEXT", help="any text, for a model of a text set; may be repeated"
        ),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="for a user that --model knows")
    ] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(
            "--history",
            metavar="ID",
            help="for somebody who had these items, latest first: --history again for each, or "
            "several with commas between",
        ),
    ] = None,
    include_known: Annotated[
        bool, typer.Option("--include-known", help="also answer with what was had or asked with")
    ] = False,
    json: Json = False,
) -> None:
    """Search an index file: by an item, by vectors, or by what the model that made it can read."""
    history, text = history or None, text or None
    asked = [name for name in (like, query_vectors, user, history, text) if name is not None]
    if len(asked) != 1:
        raise ConfigError(
            "search: wanted one of --like, --query-vectors, --text, --user and --history"
        )
    model = model or (file if file.is_dir() else None)
    if not os.path.exists(file):
        raise NotAnIndexError(f"{file}: there is no such file or folder")
    if like is None and query_vectors is None and model is None:
        raise ConfigError("search: --text, --user and --history need --model RUN")
    config = given.config()
    file = index_file(file)
    index = open_index(file)
    if like is not None:
        questions = _like(index, like)
    elif query_vectors is not None:
        questions = _from_file(index, query_vectors)
    elif text is not None:
        questions = _from_texts(index, Path(str(model)), text)
    else:
        questions = questions_from_model(index, Path(str(model)), user, history)
    if include_known:
        questions = Questions(questions.vectors, questions.names, had=questions.had)
    found = answer(index, questions, config.search)
    if json:
        print_json({"index": str(file), "had": questions.had, "answers": found})
    else:
        show(questions, found)


def _like(index: AnyIndex, text: str) -> Questions:
    item = find_item(index, text)
    name = f"like {names_of(index, [item])[0]}"
    return Questions(index.reconstruct([item]), [name], np.array([item]))


def _from_file(index: AnyIndex, path: Path) -> Questions:
    array = load_array("--query-vectors", path)
    vectors = check_vectors("--query-vectors", array, index.dim, num_axes=(1, 2, 3))
    if vectors.ndim == 1:
        vectors = vectors[None]
    return Questions(vectors, [f"query {row}" for row in range(len(vectors))])


def _from_texts(index: AnyIndex, folder: Path, texts: list[str]) -> Questions:
    from poeem.training.trained import TrainedRun

    if not all(text.strip() for text in texts):
        raise ConfigError("--text: got a blank text, wanted something to search for")
    run = TrainedRun.load(folder)
    run.require_lineage(index)
    return Questions(run.query_vectors(texts=texts), [f"for {text!r}" for text in texts])


def questions_from_model(
    index: AnyIndex, folder: Path, user: str | None, history: list[str] | None
) -> Questions:
    """Return the query of a user, or of a history of ids, and what they had."""
    from poeem.training.trained import TrainedRun

    run = TrainedRun.load(folder)
    run.require_lineage(index)
    if user is not None:
        vectors = run.query_vectors(users=[user])
        numbers = run.catalogue.history_of(int(run.catalogue.user_numbers([user])[0]))
        name = f"for user {user}"
        if (texts := run.catalogue.query_texts) is not None:
            name = f"for query {user}, {texts[int(run.catalogue.user_numbers([user])[0])]!r}"
    else:
        items = _separate(history or [], set(map(str, run.catalogue.item_ids.tolist())))
        vectors = run.query_vectors(history=items)
        numbers = run.catalogue.item_numbers(items)
        name = f"for somebody who had {', '.join(items)}"
    ids = run.catalogue.index_ids()
    had = numbers if ids is None else ids[numbers]
    there = had[np.isin(had, index.ids)]  # others were removed since
    return Questions(vectors, [name], had, [str(one) for one in names_of(index, there.tolist())])


def _separate(texts: list[str], known: set[str]) -> list[str]:
    """Split at commas, except for an id that has commas itself."""
    parts = [[text] if text in known else text.split(",") for text in texts]
    return [part.strip() for several in parts for part in several]


def answer(index: AnyIndex, questions: Questions, config: SearchConfig) -> list[dict[str, Any]]:
    """Return per question its name and its items, best first.

    Of each item: its own id as "item", the index's number as "id", "score" and "title".
    """
    # One more for each item that is then dropped, so that k are left.
    k = min(config.k + len(questions.leave_out), index.num_items)
    ids, scores = index.search(
        questions.vectors,
        k,
        num_probes=config.num_probes,
        target_recall=config.target_recall,
        num_threads=config.num_threads,
    )
    found = []
    for name, row_ids, row_scores in zip(questions.names, ids, scores, strict=True):
        kept = np.flatnonzero((row_ids != -1) & ~np.isin(row_ids, questions.leave_out))[: config.k]
        named = names_of(index, row_ids[kept].tolist())
        items = [
            {"item": one.item, "id": number, "score": score, "title": one.title}
            for one, number, score in zip(
                named, row_ids[kept].tolist(), row_scores[kept].tolist(), strict=True
            )
        ]
        found.append({"query": name, "items": items})
    return found


def show(questions: Questions, found: list[dict[str, Any]]) -> None:
    """Print a table per question."""
    from rich.table import Table

    console = answers()
    if questions.had:
        console.print(f"had {len(questions.had)}, latest first:")
        for name in questions.had[:_MAX_NAMED]:
            console.print(f"  {printable(name)}")
        if len(questions.had) > _MAX_NAMED:
            console.print(f"  and {len(questions.had) - _MAX_NAMED} more")
    for one in found:
        table = Table(title=printable(one["query"]), title_justify="left")
        table.add_column("item", justify="right")
        table.add_column("score", justify="right")
        has_titles = any(item["title"] is not None for item in one["items"])
        if has_titles:
            table.add_column("title", overflow="fold")
        for item in one["items"]:
            cells = [printable(str(item["item"])), f"{item['score']:.4f}"]
            table.add_row(*cells, *([printable(item["title"] or "")] if has_titles else []))
        console.print(table)
