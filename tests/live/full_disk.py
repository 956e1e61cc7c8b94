"""Fills a real disk while an index on it is changed, folded and saved; run by test_full_disk.py.

python -m tests.live.full_disk FOLDER: an empty folder on a small disk that may be filled.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from poeem import Index, LiveIndex, SaveError
from tests.index.helpers import Shape
from tests.live.helpers import Model, assert_holds

SHAPE = Shape("l2", 3000, 6, 256, 4, 5, titles=True)


def fill(path: Path, leave: int) -> None:
    """Fill the disk but for so many bytes."""
    status = os.statvfs(path.parent)
    with path.open("wb") as file:
        file.write(b"x" * max(0, status.f_bavail * status.f_frsize - leave))


def refused(call) -> str:
    """Return what was said when it failed for want of room."""
    try:
        call()
    except SaveError as error:
        return str(error)
    raise AssertionError("written on a full disk")


def update_until_full(live: LiveIndex, model: Model) -> str:
    """Change until it is refused; the model holds what was acknowledged."""
    for _ in range(10_000):
        held = dict(model.items)
        try:
            model.update(live, 20)
        except SaveError as error:
            model.items = held
            return str(error)
    raise AssertionError("the disk was never full")


def main(folder: Path) -> None:
    """Update, compact and save on a full disk, and again when there is room."""
    model = Model(SHAPE)
    path = model.save(folder / "i.poeem")
    live = LiveIndex.open(path)
    model.update(live, 50)
    fill(folder / "filler", 300_000)
    assert "what was acknowledged before is whole" in update_until_full(live, model)
    assert_holds(live, model)
    with LiveIndex.open(path, read_only=True) as reader:
        assert_holds(reader, model)
    before = path.read_bytes()
    assert "No space left" in refused(live.compact)
    assert "No space left" in refused(lambda: Index.open(path).save(folder / "copy.poeem"))
    assert "No space left" in refused(lambda: model.fresh().save(folder / "other.poeem"))
    assert path.read_bytes() == before
    names = {file.name for file in folder.iterdir()}
    assert not any("tmp" in name or name.endswith(".next") for name in names), names
    assert not {"copy.poeem", "other.poeem"} & names
    assert_holds(live, model)
    (folder / "filler").unlink()  # there is room again
    model.update(live, 20)
    assert live.compact()
    model.remove(live, 5)
    model.fresh().save(folder / "other.poeem")
    assert_holds(live, model)
    live.close()
    fill(folder / "filler", 0)  # a full disk is read, if nothing else
    with LiveIndex.open(path, read_only=True) as reader:
        assert_holds(reader, model)
    (folder / "filler").unlink()
    with LiveIndex.open(path) as again:
        assert_holds(again, model)
    sys.stdout.write("held\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
