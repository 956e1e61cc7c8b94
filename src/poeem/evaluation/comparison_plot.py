"""A comparison as a picture: recall against bytes, with the line of exact search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poeem.evaluation.comparison import import_matplotlib
from poeem.evaluation.results import Figures, Mean, means
from poeem.files import atomic_write

_SHOWN = ("recall@20", "recall@100")
_COLOURS = (
    *("#3d6a91", "#5b8db8", "#8fb3d1", "#44685a", "#6b9080", "#93b8a2"),
    *("#6d597a", "#8d6b94", "#b497bd", "#7f5539", "#b08968"),
)
_JOINT = ("#e9a178", "#d9622b", "#a8421a", "#7a2c0e")
_LEVEL = {"color": "#b08968", "ls": ":"}
_MARKS = "osD^vP*X<>ph8d"


def save_comparison_picture(rows: Sequence[Figures], title: str, path: Path) -> None:
    """Draw recall@20 and recall@100 against the bytes an item really takes, into a .png file.

    Args:
        rows: of a `ResultFile`. Where there are several seeds, bars reach from lowest to highest.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure_class, canvas_class = import_matplotlib()
    figure = figure_class(figsize=(12, 5.5), dpi=150, layout="constrained")
    canvas_class(figure)  # draws into memory: no window, no global state
    figure.suptitle(title.replace("$", r"\$"), fontsize=13, fontweight="bold")
    found = [mean for mean in means(rows) if mean.figures]
    names = list(dict.fromkeys(mean.name for mean in found if mean.bytes))
    joint = [name for name in names if _kind(found, name) == "joint"]
    after = [name for name in names if name not in joint]
    style = {name: (_JOINT[-1 - at % len(_JOINT)], 2.6) for at, name in enumerate(reversed(joint))}
    style |= {name: (_COLOURS[at % len(_COLOURS)], 1.3) for at, name in enumerate(after)}
    for axes, metric in zip(figure.subplots(1, 2), _SHOWN, strict=True):
        for mean in (each for each in found if not each.bytes):
            # Without a budget, and too large for the axis: a level to compare with.
            style_of = {"color": "#555", "ls": "--"} if mean.kind == "float" else _LEVEL
            size = f", {mean.bytes_per_item:,.0f} bytes" if mean.bytes_per_item else ""
            level = mean.figures[metric]["mean"]
            axes.axhline(level, label=f"{mean.label}{size}", **style_of)
        for at, name in enumerate(names):
            line = [mean for mean in found if mean.name == name]
            _draw_line(axes, line, metric, style[name], _MARKS[at % len(_MARKS)])
        axes.set_xscale("log", base=2)
        ticks = sorted({mean.bytes for mean in found if mean.bytes})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xlabel("bytes an item really takes")
        axes.set_title(metric, fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_line(
    axes: Any, line: Sequence[Mean], metric: str, style: tuple[str, float], mark: str
) -> None:
    """Draw one index at all its budgets."""
    figures = [mean.figures[metric] for mean in line]
    axes.errorbar(
        [mean.bytes_per_item for mean in line],
        [each["mean"] for each in figures],
        yerr=(
            [each["mean"] - each["lowest"] for each in figures],
            [each["highest"] - each["mean"] for each in figures],
        ),
        color=style[0],
        linewidth=style[1],
        marker=mark,
        markersize=5,
        label=line[0].label,
    )


def _kind(found: Sequence[Mean], name: str) -> str:
    return next(mean.kind for mean in found if mean.name == name)
