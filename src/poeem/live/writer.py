"""The one writer of a live index: makes changes durable, then visible; folds them."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np

from poeem import _native
from poeem.errors import (
    ChangesError,
    ConfigError,
    DtypeError,
    IdError,
    IndexFileError,
    InputError,
    SaveError,
)
from poeem.files import replace_file
from poeem.index.builder import narrow_ids
from poeem.index.contents import IndexContents, LiveMark
from poeem.index.format import write_index
from poeem.index.index import Index
from poeem.live.arguments import check_distinct_ids, check_put, named
from poeem.live.batch import Batch
from poeem.live.changes import MAX_BATCH_BYTES, Changes, Series, encode
from poeem.live.loading import Known, apply, load
from poeem.live.places import Places
from poeem.live.rows import Rows, contents_of, no_rows
from poeem.live.view import LiveView
from poeem.live.writer_lock import Acknowledged, Watch, WriterLock, stamp_of
from poeem.types import IntArray, __version__


class Writer:
    """Holds the lock of an index. Any number of threads may use it."""

    def __init__(self, places: Places, *, verify: bool) -> None:
        """Take the lock, then read what is there; see `LiveIndex.open` for what it raises."""
        Index.open(places.snapshot, verify=False)  # before anything is made beside it
        self._places = places
        self._process = os.getpid()
        self._changing = threading.Lock()  # held for a change, and for the swap of a snapshot
        self._compacting = threading.Lock()  # taken before the one above
        self._since: list[Batch] | None = None  # changes that came while compacting
        self._num_replaced = 0
        self._usable = False
        self._lock = WriterLock(places.writer)
        try:
            places.remove_leftovers()
            self._changes = Changes(places.changes, writable=True)
            try:
                self._start(verify)
            except BaseException:
                self._changes.close()
                raise
        except BaseException:
            self._lock.release()
            raise
        self._usable = True

    def _start(self, verify: bool) -> None:
        self._stamp = stamp_of(self._places.snapshot)
        record = self._lock.record()
        self.view, found = load(self._places, self._changes, record, verify=verify)
        contents = self.view.contents
        if found is None:
            found = Series(uuid.uuid4().hex, contents.fingerprint, 0)
            self._changes.begin_series(found)
        self._series = found
        self._folded = found.folded_in(contents) or 0
        self._forget_folded()
        self._lock.sign(Acknowledged(found.series, self.view.number))

    def put(
        self,
        ids: Any,
        vectors: Any,
        codes: Any,
        lists: Any,
        titles: Iterable[str] | None,
        *,
        only_new: bool,
    ) -> None:
        """Add items; replace those that are there, or refuse them; see `LiveIndex.add`."""
        while True:
            self._require_usable()
            replaced = self._num_replaced
            rows = check_put(self.view.contents, ids, vectors, codes, lists, titles)
            with self._changing:
                self._require_usable()
                if replaced != self._num_replaced:
                    continue  # by an index of another quantizer, meanwhile
                if only_new and (found := self.view.find(rows.ids)).any():
                    raise IdError(f"ids: already in the index: {named(rows.ids[found])}")
                if len(rows):
                    self._commit(rows, np.zeros(0, dtype=np.int64))
            return

    def remove(self, ids: Any, *, ignore_missing: bool) -> None:
        """Remove items; see `LiveIndex.remove`."""
        wanted = check_distinct_ids(ids)
        with self._changing:
            self._require_usable()
            found = self.view.find(wanted)
            if not ignore_missing and not found.all():
                raise IdError(f"ids: not in the index: {named(wanted[~found])}")
            if found.any():
                self._commit(no_rows(self.view.contents), wanted[found])

    def compact(self) -> bool:
        """Fold all changes into a new snapshot; see `LiveIndex.compact`."""
        with self._compacting:
            with self._changing:
                self._require_usable()
                self._require_snapshot()
                view = self.view
                if view.number == self._folded or not view.num_items:
                    return False
                self._since = []
            try:
                rows = view.rows()
                contents = contents_of(rows, view.contents)
                contents = dataclasses.replace(contents, ids=narrow_ids(rows.ids))
                snapshot = self._write(contents, view.number)
                with self._changing:
                    self._swap(snapshot, view.number)
            finally:
                self._since = None
        return True

    def replace(self, index: Index) -> None:
        """Put another index in the place of all items; see `LiveIndex.replace`."""
        if not isinstance(index, Index):
            raise DtypeError(f"index: got {type(index).__name__}, wanted a poeem.Index")
        with self._compacting, self._changing:
            self._require_usable()
            self._require_snapshot()
            snapshot = self._write(index._contents, self.view.number)
            self._swap(snapshot, self.view.number)
            self._num_replaced += 1

    def close(self) -> None:
        """Let another writer in, after a compaction under way; once more does no harm."""
        if self._process != os.getpid():  # a fork: lock and database are the parent's
            self._usable = False
            return
        with self._compacting, self._changing:
            if self._lock.held:
                self._changes.close()
                self._lock.release()
            self._usable = False

    def _commit(self, put: Rows, removed: IntArray) -> None:
        """Make a change durable, then visible. What else can fail comes before."""
        if (size := put.num_bytes + removed.nbytes) > MAX_BATCH_BYTES:
            raise InputError(
                f"ids: a change of {size} bytes, wanted at most {MAX_BATCH_BYTES}; make several"
            )
        self._require_snapshot()
        _native.let_searches_in()
        batch = Batch(self.view.number + 1, time.time(), put, removed)
        view = apply(self.view, [batch])
        _native.let_searches_in()
        row = encode(batch)
        try:
            self._changes.append(row)
        except SaveError:
            # Nobody may go on who does not know what is on the disk.
            self._usable = False
            with suppress(ChangesError, SaveError):
                self._usable = self._changes.last_number() < batch.number
            raise
        self.view = view
        _native.let_searches_in()
        since = self._since  # the end of a compaction that failed may come in between
        if since is not None:
            since.append(batch)
        self._lock.acknowledge(Acknowledged(self._series.series, batch.number))

    def _write(self, contents: IndexContents, number: int) -> Index:
        """Write a snapshot that holds the changes up to `number` beside the one there is."""
        live, series = self.view.contents.live, self._series.series
        generation = live.generation + 1 if live is not None and live.series == series else 1
        marked = dataclasses.replace(
            contents,
            live=LiveMark(series, generation, number),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            library_version=__version__,
        )
        write_index(marked, self._places.next)
        return Index.open(self._places.next, verify=False)

    def _swap(self, snapshot: Index, number: int) -> None:
        """Put the snapshot in its place, and go on from it. The rename is what folds."""
        view = apply(LiveView.of_index(snapshot, number), self._since or [])
        self._require_snapshot()
        replace_file(self._places.next, self._places.snapshot)
        self._stamp = stamp_of(self._places.snapshot)
        self.view = view
        self._folded = number
        self._since = None
        self._forget_folded()

    def _forget_folded(self) -> None:
        """Delete changes that the snapshot holds. They mean nothing, so it may fail."""
        if self._series.floor >= self._folded:
            return
        with suppress(SaveError):
            series = dataclasses.replace(self._series, floor=self._folded)
            self._changes.forget(series)
            self._series = series

    def _require_snapshot(self) -> None:
        """Neither change nor replace an index that somebody else has put there."""
        stamp = stamp_of(self._places.snapshot)
        if stamp == self._stamp:
            return
        try:
            found = Index.open(self._places.snapshot, verify="none")._contents.fingerprint
        except IndexFileError:
            found = None
        if found == self.view.contents.fingerprint:
            self._stamp = stamp  # touched, or copied over itself
            return
        self._places.next.unlink(missing_ok=True)
        what = "is gone" if stamp is None else "is another file than this writer opened"
        raise ChangesError(
            f"{self._places.snapshot}: {what}; nothing was changed; wanted an index put there by "
            "LiveIndex.replace of this writer"
        )

    def _require_usable(self) -> None:
        if self._process != os.getpid():
            raise ConfigError("index: opened by the parent process, wanted it opened in this one")
        if not self._usable:
            unknown = "it is not known how much of a failed change is on the disk"
            why = unknown if self._lock.held else "closed"
            raise ConfigError(f"index: {why}; wanted it opened again")


class Reader:
    """Follows the writer, wherever it runs. Any number of threads may use it."""

    def __init__(self, places: Places, *, verify: bool) -> None:
        """Read what is there; see `LiveIndex.open` for what it raises."""
        self._places = places
        self._verify = verify
        self._catching_up = threading.Lock()
        self._process = os.getpid()
        self._watch = Watch(places.snapshot, places.writer)
        self._changes: Changes | None = None
        self._seen: tuple[object, bytes] | None = None
        self._view: LiveView
        self._closed = False
        self.catch_up()

    def catch_up(self) -> LiveView:
        """Return the view with every change acknowledged so far: three system calls if it is known.

        Raises:
            IndexFileError: what is new cannot be read.
        """
        if self._is_closed() or self._watch.look() == self._seen:
            return self._view
        with self._catching_up:
            if self._is_closed():  # meanwhile
                return self._view
            seen = self._watch.look()
            if seen != self._seen:
                self._load(seen)
            return self._view

    def _is_closed(self) -> bool:
        return self._closed

    def _load(self, seen: tuple[object, bytes]) -> None:
        if self._process != os.getpid():  # a connection must not be used after a fork
            self._process, self._changes = os.getpid(), None
        known = Known(self._view, seen[0]) if self._seen and self._seen[0] == seen[0] else None
        if self._changes is not None and not self._changes.is_current():
            self._changes.close()  # removed, as after damage: what it added counts no longer
            self._changes = known = None
        if self._changes is None and os.path.exists(self._places.changes):
            self._changes = Changes(self._places.changes, writable=False)
        self._view, _ = load(self._places, self._changes, seen[1], verify=self._verify, known=known)
        self._seen = seen

    def close(self) -> None:
        """Follow no longer; searches go on with what there is."""
        with self._catching_up:
            self._closed = True
            if self._changes is not None and self._process == os.getpid():
                self._changes.close()
            self._watch.close()
