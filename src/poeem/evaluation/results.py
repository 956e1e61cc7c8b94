"""Rows of a comparison in a file: each kept as soon as it is known, so that a cut run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from poeem.errors import DataError
from poeem.files import atomic_write, file_lock

if TYPE_CHECKING:
    from rich.table import Table

METRICS = ("recall@20", "recall@100", "precision@100")
_KEY = ("seed", "bytes", "name")

Figures = dict[str, Any]


class ResultFile:
    """Rows of a comparison, as a JSON file.

    A row is a dict with at least seed, bytes (of the budget; 0 = it takes none), name, label, kind
    and settings; then either the figures of `METRICS`, bytes_per_item and build_seconds, or
    `cannot`, why there is no such index.

    Args:
        path: the file; may be missing.
        facts: what is true of all rows and of this call; replaces what the file has.
        counts: whether a row is of these data and settings; others stay in the file, but are in no
            mean, table or picture.

    Raises:
        DataError: the file is there and no comparison, or one of something else.
    """

    def __init__(
        self, path: Path, facts: Mapping[str, Any], counts: Callable[[Figures], bool] | None = None
    ) -> None:
        self.path = path
        self.facts = dict(facts)
        self.counts = counts or (lambda _: True)
        self.all_rows: list[Figures] = []
        if path.exists():
            self.all_rows = self._read()

    @property
    def rows(self) -> list[Figures]:
        """The rows that count."""
        return [row for row in self.all_rows if self.counts(row)]

    def _read(self) -> list[Figures]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            rows: list[Figures] = found["rows"]
            _ = [row[key] for row in rows for key in (*_KEY, "settings")]
            same = found["benchmark"] == self.facts["benchmark"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path}: not a comparison: {error!r}") from error
        if not same:
            raise DataError(
                f"{self.path}: got {found['benchmark']!r}, wanted {self.facts['benchmark']!r}"
            )
        return rows

    def has(self, seed: int, num_bytes: int, name: str, settings: str) -> bool:
        """Return whether there is such a row, made with these settings, that counts."""
        key = (seed, num_bytes, name)
        found = (row for row in self.rows if tuple(row[k] for k in _KEY) == key)
        return any(row["settings"] == settings for row in found)

    def add(self, row: Figures) -> None:
        """Keep a row, in the place of one with the same seed, bytes and name, and save."""
        self.save([row])

    def save(self, more: Sequence[Figures] = ()) -> None:
        """Write facts, means and rows, with those that other processes have added meanwhile.

        Args:
            more: rows to add.

        Raises:
            SaveError: the file before is whole.
        """
        with file_lock(self.path):
            if self.path.exists():
                self.all_rows = self._read()
            new = {_key(row) for row in more}
            self.all_rows = [row for row in self.all_rows if _key(row) not in new] + list(more)
            value = {**self.facts, "mean": [vars(m) for m in means(self.rows)]}
            value["verdicts"] = [vars(verdict) for verdict in verdicts(self.rows)]
            value["rows"] = self.all_rows
            text = json.dumps(value, indent=1, allow_nan=False)
            with atomic_write(self.path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")

    def seconds_of(self, name: str) -> float | None:
        """Return how long a row of this name took so far, on average; None = nobody knows."""
        spent = [r["spent_seconds"] for r in self.rows if r["name"] == name]
        return float(np.mean(spent)) if spent else None


def _key(row: Figures) -> tuple[Any, ...]:
    return tuple(row[name] for name in _KEY)


@dataclass(frozen=True)
class Mean:
    """A row of the table: one index at one budget, over all its seeds.

    figures: of each of `METRICS`, mean, lowest and highest. cannot: why there are none.
    build_seconds, build_cpu_seconds: from trained vectors to an index that can be searched: by the
        clock, which other work on the machine prolongs, and of all threads' processor time.
    """

    bytes: int
    name: str
    label: str
    kind: str
    seeds: list[int]
    figures: dict[str, dict[str, float]]
    bytes_per_item: float | None
    build_seconds: float | None
    build_cpu_seconds: float | None
    cannot: str | None


def means(rows: Sequence[Figures]) -> list[Mean]:
    """Return rows over seeds, by budget, then in the order in which names came first."""
    groups: dict[tuple[int, str], list[Figures]] = {}
    for row in rows:
        groups.setdefault((row["bytes"], row["name"]), []).append(row)
    place = {row["name"]: at for at, row in reversed(list(enumerate(rows)))}
    ordered = sorted(groups, key=lambda key: (key[0], place[key[1]]))
    return [_mean(groups[key]) for key in ordered]


def _mean(rows: Sequence[Figures]) -> Mean:
    first = rows[0]
    measured = [row for row in rows if "cannot" not in row]

    def average(key: str) -> float | None:
        values = [row[key] for row in measured if row.get(key) is not None]
        return round(float(np.mean(values)), 3) if values else None

    figures = {}
    for name in METRICS if measured else ():
        values = [row[name] for row in measured]
        figures[name] = {
            "mean": round(float(np.mean(values)), 5),
            "lowest": round(min(values), 5),
            "highest": round(max(values), 5),
        }
    return Mean(
        bytes=first["bytes"],
        name=first["name"],
        label=first["label"],
        kind=first["kind"],
        seeds=sorted(row["seed"] for row in rows),
        figures=figures,
        bytes_per_item=average("bytes_per_item"),
        build_seconds=average("build_seconds"),
        build_cpu_seconds=average("build_cpu_seconds"),
        cannot=None if measured else first["cannot"],
    )


@dataclass(frozen=True)
class Verdict:
    """How a joint index stands at a budget, by mean recall@100.

    name, label: the joint index. best: label of the index built afterwards at this budget over
        which it has least.
    recall, best_recall, over_best: of both and their ratio, over the seeds that both have.
    seeds: how many these are.
    over_exact: over exact search of float vectors, over the seeds that have it.
    """

    bytes: int
    name: str
    label: str
    recall: float
    best: str
    best_recall: float
    over_best: float
    over_exact: float | None
    seeds: int


def verdicts(rows: Sequence[Figures]) -> list[Verdict]:
    """Compare each joint index with the best built afterwards, budget by budget.

    Each pair is compared over the seeds that both have, so that a rival of fewer seeds takes none
    from the others.
    """
    recalls: dict[tuple[int, str], dict[int, float]] = {}
    first: dict[tuple[int, str], Figures] = {}
    for row in rows:
        if "cannot" not in row:
            key = row["bytes"], row["name"]
            first.setdefault(key, row)
            recalls.setdefault(key, {})[row["seed"]] = row["recall@100"]
    exact = next((recalls[key] for key in first if first[key]["kind"] == "float"), {})
    result = []
    for size in sorted({row["bytes"] for row in rows} - {0}):
        at_size = [key for key in first if key[0] == size]
        after = [key for key in at_size if first[key]["kind"] == "afterwards"]
        for key in at_size:
            if first[key]["kind"] == "joint":
                rivals = {first[rival]["label"]: recalls[rival] for rival in after}
                result += _verdict(first[key], recalls[key], rivals, exact)
    return result


def _verdict(
    row: Figures,
    ours: dict[int, float],
    rivals: dict[str, dict[int, float]],
    exact: dict[int, float],
) -> list[Verdict]:
    """Return the verdict on a joint index; none where no rival has a seed of it."""
    pairs = {label: _paired(ours, theirs) for label, theirs in rivals.items()}
    pairs = {label: pair for label, pair in pairs.items() if pair[2]}
    if not pairs:
        return []
    best = min(pairs, key=lambda label: pairs[label][0] / max(pairs[label][1], 1e-9))
    recall, best_recall, seeds = pairs[best]
    own, floats, both = _paired(ours, exact)
    return [
        Verdict(
            bytes=row["bytes"],
            name=row["name"],
            label=row["label"],
            recall=round(recall, 5),
            best=best,
            best_recall=round(best_recall, 5),
            over_best=round(recall / max(best_recall, 1e-9), 4),
            over_exact=round(own / max(floats, 1e-9), 4) if both else None,
            seeds=seeds,
        )
    ]


def _paired(one: dict[int, float], other: dict[int, float]) -> tuple[float, float, int]:
    """Return the means of both over the seeds that both have, and how many these are."""
    shared = sorted(one.keys() & other.keys())
    if not shared:
        return 0.0, 0.0, 0
    own, theirs = (float(np.mean([each[seed] for seed in shared])) for each in (one, other))
    return own, theirs, len(shared)


def verdict_table(rows: Sequence[Figures]) -> Table:
    """Return the verdicts as a table for the terminal; needs rich."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title="recall@100", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("budget", justify="right")
    for name in ("trained jointly", "best built afterwards"):
        table.add_column(name, no_wrap=True)
    for name in ("over the best", "over exact"):
        table.add_column(name, justify="right")
    for each in verdicts(rows):
        exact = "-" if each.over_exact is None else f"{each.over_exact:.3f}"
        table.add_row(f"{each.bytes}", each.label, each.best, f"{each.over_best:.3f}", exact)
    return table


def means_table(rows: Sequence[Figures], title: str) -> Table:
    """Return means and spreads as a table for the terminal; needs rich."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("budget", justify="right")
    table.add_column("index", no_wrap=True)
    for name in (*METRICS, "bytes an item", "build", "of CPU", "seeds"):
        table.add_column(name, justify="right")
    found = means(rows)
    for at, mean in enumerate(found):
        if at and mean.bytes != found[at - 1].bytes:
            table.add_section()
        budget = f"{mean.bytes}" if mean.bytes else "-"
        style = "bold" if mean.kind == "joint" else None
        if mean.cannot is not None:
            table.add_row(budget, mean.label, *("-",) * 7, style="dim")
            continue
        spent = [
            "-" if seconds is None else f"{seconds:.1f} s"
            for seconds in (mean.build_seconds, mean.build_cpu_seconds)
        ]
        cells = [_with_spread(mean.figures[name]) for name in METRICS]
        size = f"{mean.bytes_per_item:,.1f}"
        table.add_row(budget, mean.label, *cells, size, *spent, str(len(mean.seeds)), style=style)
    return table


def _with_spread(figure: Mapping[str, float]) -> str:
    half = (figure["highest"] - figure["lowest"]) / 2
    return f"{figure['mean']:.4f}" + (f" ±{half:.4f}" if half else "")


def reasons(rows: Sequence[Figures]) -> list[str]:
    """Return a line for each index that there is not at a budget."""
    return [f"{m.label}, {m.bytes} bytes: {m.cannot}" for m in means(rows) if m.cannot is not None]
