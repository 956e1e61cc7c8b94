"""Where the files of a live index are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poeem.checks import as_path
from poeem.index.contents import CHANGES_SUFFIX


@dataclass(frozen=True)
class Places:
    """The snapshot and what is beside it."""

    snapshot: Path

    @classmethod
    def of(cls, path: Any) -> Places:
        """Follow links: what is beside an index is beside the file itself.

        Raises:
            DtypeError: path is no path. InputError: it is empty, or holds a NUL character.
        """
        return cls(as_path(path).resolve())

    @property
    def changes(self) -> Path:
        """The database of changes."""
        return self.snapshot.with_name(self.snapshot.name + CHANGES_SUFFIX)

    @property
    def writer(self) -> Path:
        """The file that the one writer holds."""
        return self._beside("writer")

    @property
    def next(self) -> Path:
        """A snapshot in the making."""
        return self._beside("next")

    def remove_leftovers(self) -> None:
        """Remove what a writer that was killed left half made; only the writer may."""
        for path in [self.next, *self.next.parent.glob(f".{self.next.name}.*.tmp")]:
            path.unlink(missing_ok=True)

    def _beside(self, suffix: str) -> Path:
        return self.snapshot.with_name(f"{self.snapshot.name}.{suffix}")
