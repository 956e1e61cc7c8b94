"""Indexes side by side: as rows, as a table, as JSON and as a picture."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poeem.errors import MissingDependencyError, install_hint
from poeem.files import atomic_write

if TYPE_CHECKING:
    from rich.table import Table

FLOAT, AFTERWARDS, JOINT = "float", "afterwards", "joint"

# Of the float vectors, of what is built from them afterwards, and of ours.
_COLOURS = {FLOAT: "#9aa0a6", AFTERWARDS: "#5b8db8", JOINT: "#d9622b"}


@dataclass(frozen=True)
class Row:
    """One index and how good it is.

    name: what it is. kind: "float", "afterwards" or "joint".
    bytes_per_item: of an item's vector or code, without its id.
    build_seconds: from the trained model to an index that can be searched; None = nothing is built.
    """

    name: str
    kind: str
    bytes_per_item: int
    recall_at_20: float
    recall_at_100: float
    precision_at_100: float
    build_seconds: float | None

    @classmethod
    def of(
        cls,
        name: str,
        kind: str,
        bytes_per_item: int,
        figures: Mapping[str, float],
        build_seconds: float | None,
    ) -> Row:
        """Make a row from the figures of `EvaluationSet.score`."""
        return cls(
            name=name,
            kind=kind,
            bytes_per_item=bytes_per_item,
            recall_at_20=figures["recall@20"],
            recall_at_100=figures["recall@100"],
            precision_at_100=figures["precision@100"],
            build_seconds=build_seconds,
        )


def comparison_table(rows: Sequence[Row], title: str) -> Table:
    """Return the rows as a table for the terminal; needs rich."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("index", no_wrap=True)
    for name in ("bytes", "recall@20", "recall@100", "precision@100", "build"):
        table.add_column(name, justify="right")
    size = rows[0].bytes_per_item if rows else 0
    for row in rows:
        if row.bytes_per_item != size:  # a group for each size
            table.add_section()
            size = row.bytes_per_item
        table.add_row(
            row.name,
            f"{row.bytes_per_item:,}",
            f"{row.recall_at_20:.4f}",
            f"{row.recall_at_100:.4f}",
            f"{row.precision_at_100:.4f}",
            _seconds(row.build_seconds),
            style="bold" if row.kind == JOINT else None,
        )
    return table


def save_json(rows: Sequence[Row], facts: Mapping[str, Any], path: Path) -> None:
    """Write facts and rows as one JSON object."""
    value = {**facts, "rows": [dataclasses.asdict(row) for row in rows]}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def save_picture(rows: Sequence[Row], title: str, path: Path) -> None:
    """Draw recall@100 and the time to build as bars, into a .png file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure_class, canvas_class = import_matplotlib()
    figure = figure_class(figsize=(11, 1.6 + 0.44 * len(rows)), dpi=150, layout="constrained")
    canvas_class(figure)  # draws into memory: no window, no global state
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    figure.suptitle(title.replace("$", r"\$"), fontsize=13, fontweight="bold")
    places = _places(rows)
    colours = [_COLOURS[row.kind] for row in rows]
    recalls = [row.recall_at_100 for row in rows]
    bars = left.barh(places, recalls, color=colours, height=0.74)
    left.bar_label(bars, [f"{recall:.4f}" for recall in recalls], padding=4, fontsize=9)
    names = [f"{row.name}\n{row.bytes_per_item:,} bytes per item" for row in rows]
    left.set_yticks(places, names, fontsize=9)
    left.invert_yaxis()
    left.set_xlim(0, max(recalls) * 1.15 or 1)
    left.set_xlabel("recall@100, higher is better")
    seconds = [row.build_seconds or 0.0 for row in rows]
    bars = right.barh(places, seconds, color=colours, height=0.74)
    labels = [
        "nothing built" if s is None else _seconds(s) for s in (r.build_seconds for r in rows)
    ]
    right.bar_label(bars, labels, padding=4, fontsize=9)
    right.set_xlim(0, max(seconds) * 1.25 or 1)
    right.set_xlabel("seconds from trained model to index, lower is better")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")


def _places(rows: Sequence[Row]) -> list[float]:
    """Return where each bar goes, with a gap before each new size."""
    places: list[float] = []
    for number, row in enumerate(rows):
        gap = number > 0 and row.bytes_per_item != rows[number - 1].bytes_per_item
        places.append((places[-1] + 1 if places else 0.0) + (0.5 if gap else 0.0))
    return places


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def import_matplotlib() -> tuple[Any, Any]:
    """Return matplotlib's Figure and FigureCanvasAgg. Raises MissingDependencyError."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        message = f"the picture needs matplotlib; {install_hint('plot')}"
        raise MissingDependencyError(message) from error
    return Figure, FigureCanvasAgg
