"""What the tables of this folder's README are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"
KERNELS = {
    "poeem avx512-vbmi": "VBMI",
    "poeem avx512": "AVX-512 BW",
    "poeem avx2": "AVX2",
    "poeem neon": "NEON",
    "poeem scalar": "scalar",
}
"""Ours by kernel, the fastest first, as contests name them -> as tables do."""
SUMS = "poeem, residual codes"


def result(name: str) -> dict[str, Any]:
    """Return one result file."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def machine(found: dict[str, Any]) -> str:
    """Return which processor it was, in words without marks."""
    processor: str = found["machine"]["processor"]
    return processor.replace("(R)", "").replace(" Processor", "")


def where(found: dict[str, Any]) -> str:
    """Return on which machine it was measured, and on which day, as code goes on."""
    return f"{machine(found)}, {found['when'][:10]}"


def on(found: dict[str, Any]) -> str:
    """Return the line above a table: where it was measured."""
    return f"{where(found)}:\n\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def kernels_of(rivals: dict[str, Any]) -> list[str]:
    """Return which of ours were run, the fastest first: machines differ in what they have."""
    return [name for name in KERNELS if name in rivals]


def milliseconds(figures: dict[str, Any], case: str) -> float:
    """Return the median of a case: CPU time of one thread, wall time of several."""
    return figures[case]["cpu_p50_ms" if "1 thread" in case else "p50_ms"]


def times(figures: dict[str, Any], ours: dict[str, Any], case: str) -> str:
    """Return how many times as long a rival takes as we do."""
    ratio = milliseconds(figures, case) / milliseconds(ours, case)
    return f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.2f}"
