"""What is pending beside an index: for people who operate one."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from poeem.live.changes import Changes
from poeem.live.loading import read
from poeem.live.places import Places


@dataclass(frozen=True)
class PendingChanges:
    """Changes that are not in the snapshot yet.

    num_changes: calls of add, update or remove. num_put, num_removed: items they put and removed,
    an item that was changed twice counted twice. changes_bytes: of the database on disk.
    generation: snapshots written since the first. age_seconds: of the oldest of the changes, 0 if
    there are none. series: names the row of changes, None where nothing was ever changed.
    """

    num_changes: int
    num_put: int
    num_removed: int
    changes_bytes: int
    generation: int
    age_seconds: float
    series: str | None


def pending_changes(path: Any) -> PendingChanges:
    """Return what is pending beside an index file; looks only, and needs no lock.

    Raises:
        IndexFileError: the index, or the changes beside it, cannot be used.
    """
    places = Places.of(path)
    changes = Changes(places.changes, writable=False) if os.path.exists(places.changes) else None
    try:
        view, series, batches = read(places, changes, verify=False)
    finally:
        if changes is not None:
            changes.close()
    live = view.contents.live
    beside = [places.changes, places.changes.with_name(places.changes.name + "-wal")]
    return PendingChanges(
        num_changes=len(batches),
        num_put=sum(len(batch.put) for batch in batches),
        num_removed=sum(len(batch.removed) for batch in batches),
        changes_bytes=sum(file.stat().st_size for file in beside if os.path.exists(file)),
        generation=0 if live is None else live.generation,
        age_seconds=max(0.0, time.time() - batches[0].made) if batches else 0.0,
        series=None if series is None else series.series,
    )
