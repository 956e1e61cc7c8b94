"""Ids that an index cannot hold, such as text: the index numbers the items, ids lead the titles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from poeem.errors import IdError

OWN_IDS_LINEAGE = {"item_ids": "titles"}
"""What the lineage of such an index says."""

SEPARATOR = "\t"
"""Between an own id and a title that says more."""


class Named(NamedTuple):
    """An item for people: its own id, and its title, None where it has none."""

    item: int | str
    title: str | None

    def __str__(self) -> str:
        return str(self.item) if self.title in (None, self.item) else f"{self.item} {self.title}"


def check_own_ids(keys: Iterable[str]) -> None:
    """Refuse ids with a tab, after which their title would be taken to begin.

    Raises:
        IdError: names the first.
    """
    for key in keys:
        if SEPARATOR in key:
            raise IdError(f"ids: got {key!r}, wanted none with a tab")


def lead_titles(keys: Sequence[str], titles: Sequence[str] | None) -> list[str]:
    """Return the titles for an index: each own id, then a tab and the title if it says more.

    Raises:
        IdError: as `check_own_ids`.
    """
    check_own_ids(keys)
    if titles is None:
        return list(keys)
    pairs = zip(keys, titles, strict=True)
    return [key if title in ("", key) else f"{key}{SEPARATOR}{title}" for key, title in pairs]


def name(lineage: Mapping[str, Any], number: int, title: str | None) -> Named:
    """Return an item's own id and title from what an index of such a lineage holds."""
    if title is None or not has_own_ids(lineage):
        return Named(number, title)
    key, separator, rest = title.partition(SEPARATOR)
    return Named(key, rest if separator else None)


def has_own_ids(lineage: Mapping[str, Any]) -> bool:
    """Return whether the ids of an index of such a lineage are numbers that nobody gave."""
    return all(lineage.get(key) == value for key, value in OWN_IDS_LINEAGE.items())
