"""From the files of a live index to a view: the snapshot, then the changes it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from poeem.errors import ChangesError
from poeem.index.index import Index
from poeem.live.batch import Batch, fold
from poeem.live.changes import Changes, Series
from poeem.live.places import Places
from poeem.live.rows import with_norms
from poeem.live.view import LiveView
from poeem.live.writer_lock import Acknowledged, stamp_of

_ATTEMPTS = 20


class Known(NamedTuple):
    """A view to go on from, and the stamp of the snapshot that it began with."""

    view: LiveView
    stamp: object


def load(
    places: Places,
    changes: Changes | None,
    record: bytes,
    *,
    verify: bool,
    known: Known | None = None,
) -> tuple[LiveView, Series | None]:
    """Return the snapshot with the changes after it, and which changes those are.

    Args:
        places: the files.
        changes: the open database; None = there is none.
        record: of the last acknowledged change, read before this.
        verify: as in `Index.open`.
        known: what to go on from, as far as the snapshot is still the same.

    Raises:
        IndexFileError: one of the files cannot be used; see errors.
    """
    view, series, batches = read(places, changes, verify=verify, known=known)
    view = apply(view, batches)
    _check_acknowledged(places, series, view, record)
    return view, series


def read(
    places: Places, changes: Changes | None, *, verify: bool, known: Known | None = None
) -> tuple[LiveView, Series | None, list[Batch]]:
    """Return a view, which changes are beside it, and those it lacks; as `load`.

    A writer may put a later snapshot in the place of the one just read and delete its changes, or
    add some that only the later one can read. So what was read counts if it is still there.
    """
    for _ in range(_ATTEMPTS):
        if known is None:
            stamp = stamp_of(places.snapshot)
            index = Index.open(places.snapshot, verify=verify)
            known = Known(LiveView.of_index(index, 0), stamp)
        error: ChangesError | None = None
        try:
            found = _lacking(known.view, changes)
        except ChangesError as caught:
            error = caught
        if known.stamp == stamp_of(places.snapshot):
            if error is not None:
                raise error
            return found
        known = None
    raise ChangesError(f"{places.snapshot}: replaced again and again while it was read")


def _lacking(
    known: LiveView, changes: Changes | None
) -> tuple[LiveView, Series | None, list[Batch]]:
    if changes is None:
        return known, None, []
    series, number, batches = changes.read(known.contents, known.number)
    return known.numbered(number), series, batches


def apply(view: LiveView, batches: Sequence[Batch]) -> LiveView:
    """Return a view after changes."""
    if not batches:
        return view
    batch = fold(batches)
    put = batch.put
    if view.contents.norms is not None:
        put = with_norms(put.in_storage_order(), view.contents, view.snapshot.arrays)
    return view.changed(put, batch.removed, batch.number)


def _check_acknowledged(
    places: Places, series: Series | None, view: LiveView, record: bytes
) -> None:
    """Compare what is there with what a writer said was durable.

    Raises:
        ChangesError: changes are missing at the end.
    """
    acknowledged = Acknowledged.of_record(record)
    if acknowledged is None:
        return
    live = view.contents.live
    have = 0
    if series is not None:
        if acknowledged.series != series.series:
            return  # of the series before this one
        have = view.number
    elif live is not None and live.series == acknowledged.series:
        have = live.folded
    if have < acknowledged.number:
        raise ChangesError(
            f"{places.changes}: changes up to {acknowledged.number} were acknowledged, those after "
            f"{have} are missing; to go on without them, remove {places.writer}"
        )
