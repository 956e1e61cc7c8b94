"""All verbs, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

import poeem
from poeem.cli import (
    build,
    change,
    compare,
    demo,
    evaluate,
    export,
    import_,
    inspect,
    refresh,
    search,
    train,
    verify,
)
from poeem.cli.exits import describe_exits, reported
from poeem.cli.help import Verb

app = typer.Typer(
    name="poeem",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # a bug of ours shows a plain traceback
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"torch-poeem {poeem.__version__}")
        raise typer.Exit


@app.callback(epilog=f"Exit codes: {describe_exits()}.\n\nExample:\n\n    poeem demo")
def _top(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="print the version"),
    ] = False,
) -> None:
    """Train a retrieval model and its search index as one; search it without torch."""


def _add(name: str, verb: Callable[..., None], examples: str) -> None:
    app.command(name, epilog=examples, cls=Verb)(reported(verb))


_add("train", train.train, train.EXAMPLES)
_add("compare", compare.compare, compare.EXAMPLES)
_add("build", build.build, build.EXAMPLES)
_add("search", search.search, search.EXAMPLES)
_add("update", change.update, change.UPDATE_EXAMPLES)
_add("remove", change.remove, change.REMOVE_EXAMPLES)
_add("compact", change.compact, change.COMPACT_EXAMPLES)
_add("evaluate", evaluate.evaluate, evaluate.EXAMPLES)
_add("inspect", inspect.inspect, inspect.EXAMPLES)
_add("export", export.export, export.EXAMPLES)
_add("import", import_.import_index, import_.EXAMPLES)
_add("refresh", refresh.refresh, refresh.EXAMPLES)
_add("verify", verify.verify, verify.EXAMPLES)
_add("demo", demo.demo, demo.EXAMPLES)
