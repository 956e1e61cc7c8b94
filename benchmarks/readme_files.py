"""Result files that the READMEs take their figures from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def result(name: str) -> dict[str, Any]:
    """Return one result file."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def exists(name: str) -> bool:
    """Return whether a result file is there."""
    return (RESULTS / f"{name}.json").exists()


def link(name: str) -> str:
    """Return a link to a result file."""
    return f"[{name}.json](benchmarks/results/{name}.json)"


def means(seeds: set[int]) -> str:
    """Say over how many seeds figures are."""
    count = " or ".join(map(str, sorted(seeds)))
    return "one seed" if count == "1" else f"means of {count} seeds"
