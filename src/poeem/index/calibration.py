"""How many lists to visit for a recall: measured with sample queries, kept with the index."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from poeem.errors import ConfigError, HeaderError
from poeem.types import IntArray


@dataclass(frozen=True)
class Calibration:
    """Recall of the exhaustive answer by lists visited.

    num_probes: 1, 2, 4, ... and last all lists.
    recalls: for each of them, the mean share of the k best items of all lists that were found at
        so many probes, or at any more of the table; the last is 1.
    """

    k: int
    num_queries: int
    num_probes: tuple[int, ...]
    recalls: tuple[float, ...]

    def probes_for(self, target_recall: float) -> int:
        """Return the fewest probes of the table that reached a recall of at most 1."""
        pairs = zip(self.num_probes, self.recalls, strict=True)
        return next(probes for probes, recall in pairs if recall >= target_recall)


def measure(search: Callable[[int], IntArray], k: int, num_lists: int) -> Calibration:
    """Calibrate with `search(num_probes)`, which returns ids [num_queries, k], -1 = no item."""
    steps = probe_steps(num_lists)
    best = search(num_lists)
    recalls = [recall_of(search(probes), best) for probes in steps[:-1]] + [1.0]
    # One query vector finds no less with more probes; several heads may, since an item's score
    # can rise with the lists. What is kept holds for more probes too.
    kept = np.minimum.accumulate(recalls[::-1])[::-1]
    return Calibration(k, len(best), steps, tuple(kept.tolist()))


def probe_steps(num_lists: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... and num_lists."""
    return (*(1 << i for i in range((num_lists - 1).bit_length())), num_lists)


def recall_of(found: IntArray, best: IntArray) -> float:
    """Return the mean share of the ids of each row of `best` that are in that row of `found`."""
    shares = []
    for found_row, best_row in zip(found, best, strict=True):
        wanted = best_row[best_row != -1]
        shares.append(float(np.isin(wanted, found_row).mean()) if len(wanted) else 1.0)
    return min(1.0, float(np.mean(shares)))


def check_target(target_recall: Any) -> float:
    """Return target_recall as a float.

    Raises:
        ConfigError: not a number above 0 and at most 1.
    """
    number = isinstance(target_recall, (int, float, np.integer, np.floating))
    if not number or isinstance(target_recall, bool) or not 0 < target_recall <= 1:
        raise ConfigError(f"target_recall: got {target_recall!r}, wanted above 0 and at most 1")
    return float(target_recall)


def to_text(calibration: Calibration) -> str:
    """Return the JSON of an index file's metadata."""
    values = {
        "k": calibration.k,
        "num_queries": calibration.num_queries,
        "recalls": calibration.recalls,
    }
    return json.dumps(values, separators=(",", ":"))


def from_values(values: Mapping[str, Any], num_lists: int) -> Calibration:
    """Check what was in a file.

    Raises:
        HeaderError: a rule of FORMAT.md does not hold.
    """
    if set(values) != {"k", "num_queries", "recalls"} or num_lists < 1:
        raise HeaderError("calibration: not k, num_queries and recalls of an index of lists")
    k, num_queries, recalls = values["k"], values["num_queries"], values["recalls"]
    if any(type(count) is not int or not 1 <= count < 2**31 for count in (k, num_queries)):
        raise HeaderError("calibration: k and num_queries are not from 1 to 2^31 - 1")
    steps = probe_steps(num_lists)
    if not isinstance(recalls, list) or len(recalls) != len(steps):
        raise HeaderError(f"calibration: wanted {len(steps)} recalls")
    if any(type(recall) not in (int, float) or not 0 <= recall <= 1 for recall in recalls):
        raise HeaderError("calibration: a recall is not from 0 to 1")
    if recalls != sorted(recalls) or recalls[-1] != 1:
        raise HeaderError("calibration: recalls fall, or do not end with 1")
    return Calibration(k, num_queries, steps, tuple(float(recall) for recall in recalls))
