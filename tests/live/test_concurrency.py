"""Searches and changes at once: no half of a change is ever seen, and compaction stops nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from poeem import LiveIndex, build_index_from_codes

NUM_GROUPS, GROUP = 40, 25
SECONDS = 2.0


def grouped_index(num_lists: int):
    """Return an index, and what code each group has its direction from."""
    codebooks = np.zeros((1, 256, 2), np.float32)
    angles = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    codebooks[0] = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    parts = {}
    if num_lists:
        parts["centroids"] = np.zeros((num_lists, 2), np.float32)
        parts["lists"] = np.zeros(GROUP, np.int64)
    index = build_index_from_codes(
        codes=np.full((GROUP, 1), 255), codebooks=codebooks, ids=np.arange(GROUP) + 10**6, **parts
    )
    return index, codebooks[0]


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("num_lists", [0, 3])
def test_no_half_of_a_change_is_seen(tmp_path, read_only, num_lists):
    """A writer adds, moves and removes whole groups; searches find a group wholly or not."""
    path = tmp_path / "i.poeem"
    index, directions = grouped_index(num_lists)
    index.save(path)
    writer = LiveIndex.open(path)
    searched = LiveIndex.open(path, read_only=True) if read_only else writer
    stop, failures, counts = threading.Event(), [], {"searches": 0, "changes": 0, "compactions": 0}

    def guarded(work: Callable[[np.random.Generator], None], seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            while not stop.is_set():
                work(rng)
        except BaseException as error:
            failures.append(error)
            stop.set()

    there: dict[int, int] = {}

    def change(rng: np.random.Generator) -> None:
        group = int(rng.integers(NUM_GROUPS))
        ids = group * GROUP + np.arange(GROUP)
        if group in there and rng.random() < 0.4:
            del there[group]
            writer.remove(ids)
        else:
            code = there[group] = int(rng.integers(100)) if group in there else group
            lists = rng.integers(num_lists, size=GROUP) if num_lists else None
            writer.update(ids, codes=np.full((GROUP, 1), code), lists=lists)
        counts["changes"] += 1

    def search(rng: np.random.Generator) -> None:
        queries = directions[rng.integers(100, size=3)]
        found = searched.search(queries, 3 * GROUP, num_threads=int(rng.integers(1, 3)))
        for ids, scores in zip(found.ids, found.scores, strict=True):
            ids = ids[scores > scores[-1]]  # the last ones may be cut off by k
            groups, sizes = np.unique(ids[ids < 10**6] // GROUP, return_counts=True)
            assert (sizes == GROUP).all(), (groups, sizes)
            for group in groups:  # moved as a whole: all of it has one score
                assert len(set(scores[: len(ids)][ids // GROUP == group].tolist())) == 1
        counts["searches"] += 1

    def compact(rng: np.random.Generator) -> None:
        counts["compactions"] += writer.compact()
        time.sleep(0.02 * rng.random())

    threads = [
        threading.Thread(target=guarded, args=(work, seed))
        for seed, work in enumerate([change, search, search, compact])
    ]
    for thread in threads:
        thread.start()
    stop.wait(SECONDS)
    stop.set()
    for thread in threads:
        thread.join()
    if searched is not writer:
        searched.close()
    writer.close()
    assert not failures, failures[0]
    assert all(counts.values()), counts


def test_a_search_after_a_change_sees_it(tmp_path):
    """In every thread and in a reader, from the moment the call returned."""
    path = tmp_path / "i.poeem"
    index, directions = grouped_index(0)
    index.save(path)
    with LiveIndex.open(path) as writer, LiveIndex.open(path, read_only=True) as reader:
        for item in range(50):
            writer.add([item], codes=[[item]])
            for live in (writer, reader):
                assert live.search(directions[item], 1).ids.tolist() == [[item]]


def test_changes_go_on_while_a_snapshot_is_written(tmp_path, monkeypatch):
    from poeem.live import writer as module

    path = tmp_path / "i.poeem"
    index, directions = grouped_index(0)
    index.save(path)
    live = LiveIndex.open(path)
    live.add([1], codes=[[1]])
    write_index = module.write_index

    def write_and_change(*arguments):
        live.add([2], codes=[[2]])
        live.remove([1])
        write_index(*arguments)
        live.update([3, 2], codes=[[3], [4]])

    monkeypatch.setattr(module, "write_index", write_and_change)
    assert live.compact()
    monkeypatch.undo()
    for again in (live, LiveIndex.open(path, read_only=True)):
        assert sorted(again.ids[again.ids < 10**6].tolist()) == [2, 3]
        assert again.search(directions[4], 1).ids.tolist() == [[2]]
        again.close()
