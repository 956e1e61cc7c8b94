"""On the disk: damage is found and named, a full disk loses nothing, one writer at a time."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from poeem import (
    ChangesError,
    ConfigError,
    IdError,
    Index,
    IndexFileError,
    IndexLockedError,
    LiveIndex,
    NotAnIndexError,
    SaveError,
    pending_changes,
)
from tests.index.helpers import Shape, random_index, random_queries
from tests.index.test_search import assert_same
from tests.live.helpers import Model, assert_holds

ROOT = Path(__file__).parents[2]
SHAPE = Shape("l2", 40, 4, 20, 2, 3, titles=True)


def changed(folder: Path, num_changes: int = 6) -> tuple[Path, Model]:
    """Leave an index with pending changes as a killed writer does: in the write-ahead log."""
    model = Model(SHAPE)
    path = model.save(folder / "i.poeem")
    live = LiveIndex.open(path)
    for _ in range(num_changes):
        model.update(live, 5)
        model.remove(live, 2)
    killed = folder / "killed"
    killed.mkdir()
    for file in folder.iterdir():
        if file.is_file() and not file.name.endswith("-shm"):
            shutil.copyfile(file, killed / file.name)
    live.close()
    return killed / "i.poeem", model


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << place % 8
    path.write_bytes(data)


def damage_is_named(path: Path, model: Model, damaged: str, read_only: bool) -> bool:
    """Return whether opening fails, by an error that names the file; else all must be right."""
    try:
        live = LiveIndex.open(path, read_only=read_only)
    except IndexFileError as error:
        if damaged.removesuffix("-wal") not in str(error):
            pytest.fail(f"{damaged} is not named: {error}")
        return True
    with live:
        assert_holds(live, model)
    return False


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("read_only", [True, False])
def test_flipped_bytes_are_found_or_mean_nothing(tmp_path, killed, read_only):
    """Whatever byte of whatever file: an error of ours that names the file, or the same answers."""
    path, model = changed(tmp_path)
    if not killed:  # all changes are in the database itself then
        LiveIndex.open(path).close()
    files = [path, *path.parent.glob("*.changes*")]
    found = dict.fromkeys((file.name for file in files), 0)
    chance = random.Random(0)
    for file in files:
        whole = file.read_bytes()
        for _ in range(40):
            copy = tmp_path / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(path.parent, copy)
            flip(copy / file.name, chance.randrange(len(whole)))
            found[file.name] += damage_is_named(copy / "i.poeem", model, file.name, read_only)
    assert found["i.poeem"] > 20
    assert found["i.poeem.changes-wal" if killed else "i.poeem.changes"] > 5


def test_a_damaged_change_is_named(tmp_path):
    path, _ = changed(tmp_path)
    with sqlite3.connect(path.with_name("i.poeem.changes")) as connection:
        connection.execute("UPDATE changes SET codes = zeroblob(length(codes)) WHERE number = 7")
    connection.close()
    with pytest.raises(ChangesError, match=r"i.poeem.changes: change 7 is damaged, its checksum"):
        LiveIndex.open(path)


def test_a_missing_change_is_named(tmp_path):
    path, _ = changed(tmp_path)
    with sqlite3.connect(path.with_name("i.poeem.changes")) as connection:
        connection.execute("DELETE FROM changes WHERE number = 4")
    connection.close()
    with pytest.raises(ChangesError, match="change 4 is missing"):
        LiveIndex.open(path, read_only=True)


@pytest.mark.parametrize("what", ["last rows", "database"])
def test_lost_changes_at_the_end_are_named(tmp_path, what):
    path, _ = changed(tmp_path)
    if what == "database":
        for file in path.parent.glob("*.changes*"):
            file.unlink()
    else:
        with sqlite3.connect(path.with_name("i.poeem.changes")) as connection:
            connection.execute("DELETE FROM changes WHERE number > 9")
        connection.close()
    for read_only in (True, False):
        with pytest.raises(ChangesError, match=r"up to 12 were acknowledged, those after (9|0)"):
            LiveIndex.open(path, read_only=read_only)


def test_changes_of_another_snapshot_are_refused(tmp_path):
    path, _ = changed(tmp_path)
    random_index(SHAPE, seed=9).save(tmp_path / "other.poeem")
    os.replace(tmp_path / "other.poeem", path)  # as who copies files to a server does
    for read_only in (True, False):
        with pytest.raises(ChangesError, match="changes of another snapshot"):
            LiveIndex.open(path, read_only=read_only)
    with pytest.raises(ChangesError, match="to lose them: 12 changes"):
        pending_changes(path)


def test_a_snapshot_older_than_the_changes_is_refused(tmp_path):
    model = Model(SHAPE)
    path = model.save(tmp_path / "i.poeem")
    with LiveIndex.open(path) as live:
        model.add(live, 3)
        live.compact()
        old = path.read_bytes()
        model.add(live, 3)
        live.compact()
        model.add(live, 3)
    path.write_bytes(old)
    with pytest.raises(ChangesError, match="older"):
        LiveIndex.open(path)


def test_a_second_writer_is_refused(tmp_path):
    path = Model(SHAPE).save(tmp_path / "i.poeem")
    with LiveIndex.open(path):
        with pytest.raises(IndexLockedError, match=f"held by process {os.getpid()}"):
            LiveIndex.open(path)
        program = f"import poeem; poeem.LiveIndex.open({str(path)!r})"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
        assert "IndexLockedError" in done.stderr
    LiveIndex.open(path).close()


def test_a_reader_follows_another_process(tmp_path):
    model = Model(SHAPE)
    path = model.save(tmp_path / "i.poeem")
    reader = LiveIndex.open(path, read_only=True)
    assert_holds(reader, model)
    before = reader.view()
    program = (
        "import sys, poeem, numpy as np\n"
        f"live = poeem.LiveIndex.open({str(path)!r})\n"
        "for line in sys.stdin:\n"
        "    exec(line)\n"
        "    print('done', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:

        def tell(line: str) -> None:
            writer.stdin.write(line + "\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "done\n"

        for turn in range(3):
            ids = model.unknown(5)
            model.new(ids)
            arguments = {k: np.asarray(v).tolist() for k, v in model.arguments(ids).items()}
            tell(f"live.add({ids}, **{arguments})")
            assert_holds(reader, model)
            if turn == 1:
                tell("live.compact()")
                assert_holds(reader, model)
        tell("live.close()")
        assert_holds(reader, model)
        writer.stdin.close()
    assert before.num_items == SHAPE.num_items
    queries = random_queries(2, SHAPE.dim)
    assert_same(before.search(queries, 9), random_model_index().search(queries, 9))
    reader.close()


def random_model_index() -> Index:
    return Model(SHAPE).fresh()


def test_readers_need_not_write(tmp_path):
    """In a folder of a user who may only read, with a log left by a killed writer or without."""
    path, model = changed(tmp_path)
    with LiveIndex.open(path, read_only=True) as live:
        assert_holds(live, model)
    LiveIndex.open(path).close()

    place = Path(tempfile.mkdtemp())  # nobody may look into pytest's own folder
    shutil.copytree(path.parent, place / "index")
    place.chmod(0o755)
    (place / "index").chmod(0o555)

    def read() -> None:
        with LiveIndex.open(place / "index" / path.name, read_only=True) as live:
            assert_holds(live, model)
            with pytest.raises(ConfigError, match="read_only"):
                live.remove([0])

    try:
        if os.geteuid() == 0:  # root may write anywhere: be somebody else
            status = status_as_nobody(read)
            if status == 77 << 8:
                pytest.skip("this root may not become somebody else")
            assert status == 0
        else:
            read()
    finally:
        (place / "index").chmod(0o755)
        shutil.rmtree(place)


def status_as_nobody(act: Callable[[], None]) -> int:
    """Act in a child of a user without rights; return its exit status."""
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
        except OSError:
            os._exit(77)
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def test_a_full_disk_loses_nothing(tmp_path):
    """A limit on the size of files stands for the disk: writes beyond it fail."""
    model = Model(SHAPE)
    path = model.save(tmp_path / "i.poeem")
    live = LiveIndex.open(path)
    model.add(live, 5)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = path.with_name("i.poeem.changes-wal").stat().st_size
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30_000, old[1]))
        before = list(model.items)
        error = None
        while error is None:
            held = dict(model.items)
            try:
                model.add(live, 5)
            except SaveError as caught:
                error, model.items = caught, held
        assert "what was acknowledged before is whole" in str(error)
        assert len(model.items) > len(before)
        assert_holds(live, model)
        with LiveIndex.open(path, read_only=True) as reader:
            assert_holds(reader, model)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, old[1]))
        with pytest.raises(SaveError):
            live.compact()
        assert_holds(live, model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    model.add(live, 5)  # there is room again
    live.compact()
    model.remove(live, 5)
    assert_holds(live, model)
    live.close()
    with LiveIndex.open(path) as live:
        assert_holds(live, model)


def test_a_writer_killed_while_it_compacts_leaves_nothing_behind(tmp_path):
    path, model = changed(tmp_path)
    for name in ("i.poeem.next", ".i.poeem.next.abc.tmp"):
        path.with_name(name).write_bytes(b"half a snapsh")
    with LiveIndex.open(path) as live:
        assert_holds(live, model)
        assert not list(path.parent.glob("*next*"))


def test_a_snapshot_swapped_in_before_its_changes_were_deleted(tmp_path):
    """The moment between the two halves of a compaction."""
    path, model = changed(tmp_path)
    beside = tmp_path / "beside"
    shutil.copytree(path.parent, beside)
    with LiveIndex.open(beside / "i.poeem") as live:
        live.compact()
    shutil.copyfile(beside / "i.poeem", path)
    with LiveIndex.open(path, read_only=True) as live:
        assert_holds(live, model)
    with LiveIndex.open(path) as live:
        assert_holds(live, model)
        model.add(live, 4)
        assert_holds(live, model)


def test_random_kills_lose_nothing():
    """Ten kills; `benchmarks/kills.py` does hundreds."""
    command = [sys.executable, "benchmarks/kills.py", "--kills", "10", "--only-check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'kills': 10" in done.stdout


def test_arguments_that_cannot_be(tmp_path):
    model = Model(SHAPE)
    path = model.save(tmp_path / "i.poeem")
    with LiveIndex.open(path) as live:
        vectors = random_queries(2, SHAPE.dim)
        wrong = [
            (lambda: live.add([0, 500], vectors), IdError, r"already in the index: 0"),
            (lambda: live.add([500, 500], vectors), IdError, r"twice 500"),
            (lambda: live.update([-1, 500], vectors), IdError, "-1"),
            (lambda: live.remove([3, 500]), IdError, r"not in the index: 500"),
            (lambda: live.remove([3, 3]), IdError, r"twice 3"),
            (lambda: live.add([500], vectors), ValueError, r"got 1 for 2 vectors"),
            (lambda: live.add([500]), ConfigError, "wanted one of them"),
            (lambda: live.add([500], vectors, lists=[1]), ConfigError, "lists"),
            (lambda: live.add([500], codes=[[0, 0, 0, 20]], lists=[0]), ValueError, "got 20"),
            (lambda: live.add([500], codes=[[0, 0, 0, 1]]), ValueError, "lists"),
            (lambda: live.add([500, 501], vectors * np.nan), ValueError, "NaN"),
            (lambda: live.add([500, 501], vectors, titles=["a"]), ValueError, "titles: got 1"),
        ]
        for call, kind, text in wrong:
            with pytest.raises(kind, match=text):
                call()
        assert_holds(live, model)
        assert pending_changes(path).num_changes == 0
    with pytest.raises(ConfigError, match="closed"):
        live.remove([0])
    with pytest.raises(NotAnIndexError):
        LiveIndex.open(tmp_path / "nothing.poeem")
    assert not list(tmp_path.glob("nothing*"))


def test_a_child_process_does_not_write(tmp_path):
    path = Model(SHAPE).save(tmp_path / "i.poeem")
    with LiveIndex.open(path) as live:
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                try:
                    live.remove([0])
                except ConfigError:
                    os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        live.remove([0])
