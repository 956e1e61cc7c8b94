"""Tables of docs/recipe.md and DESIGN.md: what each ingredient is worth, and each rotation."""

from __future__ import annotations

import sys
from pathlib import Path

from ablation_rows import ratios_to_ours
from readme_files import RESULTS, result

sys.path.insert(0, str(Path(__file__).parent / "engine"))
from table_parts import table

SHORT = 8  # bytes, of the first table


def ablation() -> str:
    """Return what each change does to recall@100, in per cent, set by set; the worst first.

    A table of 8 bytes and one of longer codes. Changes that change nothing, since the recipe has
    them already, are left out.
    """
    columns: dict[tuple[str, int], dict[str, list[float]]] = {}
    for path in sorted(RESULTS.glob("ablation_*.json")):
        data = path.stem.removeprefix("ablation_")
        for (size, name), ratios in ratios_to_ours(result(path.stem)["rows"]).items():
            columns.setdefault((data, size), {})[name] = ratios
    short = [column for column in columns if column[1] <= SHORT]
    longer = sorted((c for c in columns if c[1] > SHORT), key=lambda column: column[1])
    return "\n\n".join(
        _table({column: columns[column] for column in part}) for part in (short, longer) if part
    )


def _table(columns: dict[tuple[str, int], dict[str, list[float]]]) -> str:
    means: dict[str, list[float]] = {}
    for column in columns.values():
        for name, ratios in column.items():
            means.setdefault(name, []).append(sum(ratios) / len(ratios))
    rows = [
        [name, *(_cell(column.get(name, [])) for column in columns.values())]
        for name in sorted(means, key=lambda name: (sum(means[name]) / len(means[name]), name))
        if any(mean != 1 for mean in means[name])
    ]
    return table(["", *(f"{data}, {size} bytes" for data, size in columns)], rows)


def _cell(ratios: list[float]) -> str:
    """Return a change in per cent, and of how many seeds it is the mean if of more than one."""
    if all(ratio == 1 for ratio in ratios):
        return "0" if ratios else ""
    mean = f"{100 * (sum(ratios) / len(ratios) - 1):+.1f}"
    return mean if len(ratios) == 1 else f"{mean} ({len(ratios)})"


def rotations() -> str:
    """Return where each way of turning ends on each set of fixed vectors, and what it takes."""
    summary = result("rotation")["summary"]
    ways = list(dict.fromkeys(way for found in summary.values() for way in found))
    rows = []
    for way in ways:
        cells = [way]
        for found in summary.values():
            each = found.get(way)
            cells.append(
                f"{each['distortion_over_faiss_opq']:.3f}, {_seconds(each['seconds'])}"
                if each
                else ""
            )
        rows.append(cells)
    return table(["", *summary], rows)


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 10 else f"{value:.2g} s"
