"""Finds the item of an index that a user means, and names items as the user does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from poeem.errors import IdError, IndexFileError
from poeem.index import Index
from poeem.index.own_ids import SEPARATOR, Named, has_own_ids, name
from poeem.live import LiveIndex, pending_changes

AnyIndex = Index | LiveIndex
"""What can be searched: a file alone, or with the changes beside it."""

_MAX_LISTED = 5


def index_file(path: Path) -> Path:
    """Return the index file that a path means: in the folder of a run, the run's own."""
    return path / "items.poeem" if path.is_dir() else path


def open_index(path: Path, *, verify: bool = True) -> AnyIndex:
    """Open an index file to search it, with the changes beside it where there are some.

    Raises:
        IndexFileError: the file, or what is beside it, cannot be used.
    """
    if pending_changes(path).series is None:
        return Index.open(path, verify=verify)
    return LiveIndex.open(path, read_only=True, verify=verify)


@dataclass(frozen=True)
class Replaced:
    """What stood where an index file is written: its items, and changes not yet folded into it."""

    num_items: int
    num_changes: int

    def __str__(self) -> str:
        changes = f" with {self.num_changes:,} changes pending" if self.num_changes else ""
        return f"; it replaced an index of {self.num_items:,} items{changes}"


def standing_at(path: Path) -> Replaced | None:
    """Return what will be replaced; None = nothing, or no index that can be read."""
    try:
        pending = pending_changes(path)
        index = open_index(path, verify=False)
    except IndexFileError:
        return None
    found = Replaced(index.num_items, pending.num_changes)
    if isinstance(index, LiveIndex):
        index.close()
    return found


def find_item(index: AnyIndex, text: str) -> int:
    """Return the number in the index of the item named by its own id or its title.

    The exact id comes first, then the id or the whole title in any case. A part of a title will do
    if no other title has it; not a number, which is meant as an id.

    Raises:
        IdError: no item, or more than one.
    """
    exact = _exact_id(index, text)
    if exact is not None:
        return exact
    items = all_names(index)
    folded = text.casefold()
    found: list[int] = []
    for fits in (
        lambda one: str(one.item) == text,
        lambda one: folded in (str(one.item).casefold(), _title(one)),
        lambda one: not _is_number(text) and folded in _title(one),
    ):
        found = _numbers(items, fits)
        if found:
            break
    if len(found) == 1:
        return found[0]
    if not found:
        raise IdError(f"{text!r}: no item has this id or title")
    names = "; ".join(repr(str(one)) for one in names_of(index, found[:_MAX_LISTED]))
    raise IdError(f"{text!r}: {len(found)} items have this in their title, such as {names}")


def _exact_id(index: AnyIndex, text: str) -> int | None:
    """Return the number of the one item of this very id: with a look at each, not its name."""
    ids = index.ids
    if has_own_ids(index.lineage):
        if not index.has_titles:
            return None
        start = text + SEPARATOR
        titles = index.titles(ids)
        found = [i for i, title in enumerate(titles) if title == text or title.startswith(start)]
        return int(ids[found[0]]) if len(found) == 1 else None
    if not _is_number(text) or str(int(text)) != text:
        return None
    return int(text) if bool((ids == int(text)).any()) else None


def names_of(index: AnyIndex, ids: Sequence[int]) -> list[Named]:
    """Return items' own ids and titles."""
    titles: Sequence[str | None] = [None] * len(ids)
    if index.has_titles:
        titles = index.titles(list(ids))
    lineage = index.lineage
    return [name(lineage, item, title) for item, title in zip(ids, titles, strict=True)]


def all_names(index: AnyIndex) -> list[tuple[int, Named]]:
    """Return all items' numbers in the index, with own ids and titles."""
    ids = index.ids.tolist()
    return list(zip(ids, names_of(index, ids), strict=True))


def _numbers(items: list[tuple[int, Named]], fits: Callable[[Named], bool]) -> list[int]:
    return [number for number, one in items if fits(one)]


def _title(one: Named) -> str:
    return "" if one.title is None else one.title.casefold()


def _is_number(text: str) -> bool:
    return text.strip().removeprefix("-").isdecimal()
