"""Where a verb's words go: answers to stdout, progress and remarks to stderr."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="print one JSON object, for machines")]


def answers() -> Console:
    """Return the console for what was asked; made when used, so that tests can catch it."""
    return Console(highlight=False, markup=False, emoji=False)


def show_table(table: Table, console: Console | None = None) -> None:
    """Print a table of figures, all of them: a narrow terminal folds its lines, none is cut off.

    console: where to; None = where answers go.
    """
    console = answers() if console is None else console
    width = max(console.width, Console(width=1000).measure(table).maximum)
    whole = Console(file=console.file, width=width, highlight=False, markup=False, emoji=False)
    whole.print(table)


def remarks() -> Console:
    """Return the console for everything else."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def say(text: str) -> None:
    """Print a remark of one line as it is, unwrapped."""
    remarks().print(text, soft_wrap=True)


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object; NaN and infinity, which JSON lacks, become null."""
    typer.echo(json.dumps(_plain(value), ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def facts_table(title: str, facts: Mapping[str, str]) -> Table:
    """Return a table of two columns: name and value."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(printable(name), printable(value))
    return table


def printable(text: str) -> str:
    """Return a text of a stranger's file without codes that a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)


@contextmanager
def counting(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr and yield what moves it: `progress(done, in_all)`."""
    console = remarks()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)

        def move(done: int, in_all: int) -> None:
            progress.update(task, completed=done, total=in_all)

        yield move
