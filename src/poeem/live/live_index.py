"""The live index a user holds: searched by many threads and processes, changed by one writer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Unpack

from poeem import _native
from poeem.config import SearchConfig
from poeem.errors import ChangesError, ConfigError, DtypeError
from poeem.index.calibration import Calibration
from poeem.index.index import Index
from poeem.live.places import Places
from poeem.live.view import LiveView, SearchOptions
from poeem.live.writer import Reader, Writer
from poeem.types import FloatArray, IntArray, Metric, SearchResult


def swap_index(path: str | os.PathLike[str], index: Index) -> None:
    """Save an index, in the place of the one that is there and of the changes made to that.

    What `Index.save` does, but where changes of a `LiveIndex` are beside the file they go with the
    index that they belong to, and readers pick up the new one by themselves. How a nightly rebuild
    is put in its place; a process that has the index open to change it calls `LiveIndex.replace`.

    Args:
        path: of the index file; may be missing.
        index: of any quantizer and metric.

    Raises:
        DtypeError: path or index are something else.
        IndexFileError: the file, or what is beside it, cannot be used, or a writer has it open.
        SaveError: the system refused; the file is as it was.
    """
    places = Places.of(path)
    if not isinstance(index, Index):
        raise DtypeError(f"index: got {type(index).__name__}, wanted a poeem.Index")
    if not os.path.exists(places.changes):
        index.save(path)
        return
    if not os.path.exists(places.snapshot):
        raise ChangesError(
            f"{places.changes}: changes of an index that is not there; bring it back, or remove "
            "this file and the one that ends in .writer to lose them"
        )
    with LiveIndex.open(path) as live:
        live.replace(index)


class LiveIndex:
    """An index file that changes while it is searched.

    `add`, `update` and `remove` are durable when they return: in a SQLite database beside the file,
    a transaction for each call. A search sees each of them wholly or not at all, and returns what a
    fresh index of the same items would, to the last bit. `compact` folds changes into the file.

    One process may change an index, any number may read it; a reader's search sees every change
    that was acknowledged before it began. Any number of threads may search, and change.
    """

    def __init__(self, path: Path, source: Writer | Reader) -> None:
        """Use `LiveIndex.open`."""
        self._path = path
        self._source = source

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, read_only: bool = False, verify: bool = True
    ) -> LiveIndex:
        """Open an index file and the changes beside it.

        Args:
            path: a file written by `Index.save`, `poeem build`, or `compact`.
            read_only: do not change it; any number of processes may. A reader picks up changes and
                new snapshots by itself.
            verify: read all of a snapshot once and compare every checksum. Changes always are.

        Raises:
            IndexLockedError: another writer has it open.
            ChangesError: the changes are damaged, or belong to another index file.
            NotAnIndexError, TruncatedIndexError, CorruptIndexError, IndexVersionError: see errors.
            SaveError: the files beside it cannot be made.
            DtypeError: path is no path.
        """
        places = Places.of(path)
        if read_only:
            return cls(places.snapshot, Reader(places, verify=verify))
        return cls(places.snapshot, Writer(places, verify=verify))

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process open it to read; a writer cannot be in two processes."""
        if not isinstance(self._source, Reader):
            raise ConfigError(
                "pickle, copy: got the writer of an index, of which there is one; wanted one "
                "opened read_only"
            )
        return _open_to_read, (str(self._path),)

    def search(
        self, queries: Any, k: int = SearchConfig().k, **options: Unpack[SearchOptions]
    ) -> SearchResult:
        """Return the k items of the highest score for each query, ties to the smaller id.

        Args:
            queries, k: as in `Index.search`.
            options: num_probes, target_recall, num_threads, allowed, excluded, as in
                `LiveView.search`; flags for `allowed` need a `view`, whose `ids` do not change.

        Raises:
            ShapeError, DtypeError, NonFiniteError, ConfigError, IdError: as in `Index.search`.
            IndexFileError: a reader could not read what is new.
        """
        return self.view().search(queries, k, **options)

    def view(self) -> LiveView:
        """Return the index as it is now, for searches that must agree with each other.

        Raises:
            IndexFileError: a reader could not read what is new.
        """
        return self._source.catch_up() if isinstance(self._source, Reader) else self._source.view

    def add(
        self,
        ids: Any,
        vectors: Any = None,
        *,
        codes: Any = None,
        lists: Any = None,
        titles: Iterable[str] | None = None,
    ) -> None:
        """Add items that are not there yet; durable, and seen by every search, when this returns.

        Args:
            ids: integers [n], all different, none -1.
            vectors: float32 or float16 [n, dim], encoded with the index's own parts; or
            codes: integers [n, num_subspaces], ready made, and then
            lists: integers [n], where the index has lists.
            titles: n names, where the index has titles; None = empty ones.

        Raises:
            IdError: an id is there already, or twice; nothing changed.
            ShapeError, DtypeError, NonFiniteError, InputError: of the other arguments.
            ConfigError: the index is read only, or closed; or arguments that do not go together.
            SaveError: the system refused, e.g. a full disk; nothing changed.
            ChangesError: another file was put in the place of the index; nothing changed.
        """
        with _native.Changing():
            self._writer().put(ids, vectors, codes, lists, titles, only_new=True)

    def update(
        self,
        ids: Any,
        vectors: Any = None,
        *,
        codes: Any = None,
        lists: Any = None,
        titles: Iterable[str] | None = None,
    ) -> None:
        """Add items, or replace those that are there, titles and all; else as `add`."""
        with _native.Changing():
            self._writer().put(ids, vectors, codes, lists, titles, only_new=False)

    def remove(self, ids: Any, *, ignore_missing: bool = False) -> None:
        """Remove items; durable, and seen by every search, when this returns.

        Args:
            ids: integers [n], all different.
            ignore_missing: let ids pass that are not there.

        Raises:
            IdError: an id is not there, or twice; nothing changed.
            ConfigError, SaveError, ChangesError: as in `add`.
        """
        with _native.Changing():
            self._writer().remove(ids, ignore_missing=ignore_missing)

    def compact(self) -> bool:
        """Fold all changes into a new snapshot; searches and changes go on meanwhile.

        Returns:
            Whether there is a new snapshot: not where there was nothing to fold, or no item is left
            (an index file has at least one), which leaves the changes where they are.

        Raises:
            ConfigError: the index is read only, or closed.
            SaveError: the system refused; everything is as it was.
            ChangesError: another file was put in the place of the index; everything is as it was.
        """
        return self._writer().compact()

    def replace(self, index: Index) -> None:
        """Put another index in the place of all items, e.g. one of a model trained anew.

        Changes made before count as part of it. Readers pick it up like any new snapshot.

        Args:
            index: of any quantizer and metric.

        Raises:
            ConfigError, SaveError, ChangesError: as in `compact`. DtypeError: index is none.
        """
        self._writer().replace(index)

    def close(self) -> None:
        """Let another writer in, or follow no longer; searches go on with what there is."""
        self._source.close()

    def _writer(self) -> Writer:
        if isinstance(self._source, Reader):
            raise ConfigError("index: opened with read_only, wanted it opened to change it")
        return self._source

    def reconstruct(self, ids: Any) -> FloatArray:
        """Return T(x) of items, float32 [n, dim]: see `Index.reconstruct`."""
        return self.view().reconstruct(ids)

    def titles(self, ids: Any) -> list[Any]:
        """Return the names of items, "" for id -1: see `Index.titles`."""
        return self.view().titles(ids)

    @property
    def ids(self) -> IntArray:
        """Ids of this moment, int64 [num_items], in no promised order; a copy."""
        return self.view().ids

    @property
    def num_items(self) -> int:
        """Items in the index at this moment."""
        return self.view().num_items

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.view().dim

    @property
    def num_lists(self) -> int:
        """Inverted lists; 0 = none."""
        return self.view().num_lists

    @property
    def metric(self) -> Metric:
        """How queries and items are compared."""
        return self.view().metric

    @property
    def calibration(self) -> Calibration | None:
        """Recall by lists visited, as it was measured on the items of then."""
        return self.view().calibration

    @property
    def has_titles(self) -> bool:
        """Whether `titles` can answer."""
        return self.view().has_titles

    @property
    def lineage(self) -> dict[str, Any]:
        """What made the snapshot, as given to the builder."""
        return self.view().lineage

    @property
    def path(self) -> Path:
        """The file of the snapshot."""
        return self._path

    def __len__(self) -> int:
        return self.num_items

    def __enter__(self) -> LiveIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()

    def __repr__(self) -> str:
        mode = "read only" if isinstance(self._source, Reader) else "writer"
        return f"LiveIndex({str(self._path)!r}, {mode})"


def _open_to_read(path: str) -> LiveIndex:
    return LiveIndex.open(path, read_only=True)
