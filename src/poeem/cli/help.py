"""The help of a verb: names of options whole, examples on one line each, at any width."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from typer.core import TyperArgument, TyperCommand

from poeem.cli.output import answers

# Lines that are longer are hard to read.
_MAX_WIDTH = 110


class Verb(TyperCommand):
    """A verb whose epilog is its examples, a line each."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Print usage, what the verb does, its options by panel, and examples."""
        console = answers()
        width = min(console.width, _MAX_WIDTH)
        console.print(f"\n{self.get_usage(ctx)}\n", soft_wrap=True)
        for paragraph in (self.help or "").split("\n\n"):
            console.print(" ".join(paragraph.split()) + "\n", width=width)
        for title, params in self._panels(ctx).items():
            _print_panel(console, title, params, width)
        console.print("\nExample:\n")
        for line in (self.epilog or "").strip().splitlines():
            console.print(f"    {line}", soft_wrap=True)

    def _panels(self, ctx: Any) -> dict[str, list[Any]]:
        panels: dict[str, list[Any]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            usual = "Arguments" if isinstance(param, TyperArgument) else "Options"
            panel = getattr(param, "rich_help_panel", None) or usual
            panels.setdefault(panel, []).append(param)
        return {title: params for title, params in panels.items() if params}


def _print_panel(console: Console, title: str, params: list[Any], width: int) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, expand=True)
    table.add_column(no_wrap=True, style="bold cyan", overflow="fold")
    table.add_column(ratio=1, overflow="fold")
    for param in params:
        table.add_row(_name(param), Text((param.help or "").replace("\\[", "[")))
    console.print(Panel(table, title=title, title_align="left", border_style="dim"), width=width)


def _name(param: Any) -> str:
    """Return an option with what it takes, the negative of a flag in a line below."""
    if isinstance(param, TyperArgument):
        return str(param.metavar or param.name)
    names = [", ".join(param.opts), *param.secondary_opts]
    if not param.is_flag:
        names[0] += f" {param.metavar or 'TEXT'}"
    return "\n".join(names)
