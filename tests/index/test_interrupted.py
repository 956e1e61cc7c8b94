"""Ctrl-C ends a search that takes long."""

import signal
import threading
import time

import numpy as np
import pytest

import poeem
from tests.index.helpers import Shape, random_index, random_queries


class Stopped(Exception):
    """Raised by the handler."""


@pytest.fixture
def alarm():
    def stop(number, frame):
        raise Stopped

    before = signal.signal(signal.SIGALRM, stop)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("options", [{}, {"allowed": np.arange(40_000) % 2 == 0}], ids=str)
@pytest.mark.parametrize("live", [False, True])
def test_a_handler_that_raises_ends_a_search(
    alarm, monkeypatch, tmp_path, num_threads, options, live
):
    monkeypatch.setenv("POEEM_KERNEL", "scalar")
    index = random_index(Shape("ip", 40_000, 8, 256, 2, 0))
    if live:
        index.save(tmp_path / "items.poeem")
        index = poeem.LiveIndex.open(tmp_path / "items.poeem")
    few = random_queries(200, 16)
    start = time.perf_counter()
    wanted = index.search(few, 5, num_threads=num_threads, **options)
    each = (time.perf_counter() - start) / len(few)
    many = np.tile(few, (max(1, int(10 / each) // len(few)), 1))  # ten seconds' worth
    alarm(0.3)
    start = time.perf_counter()
    with pytest.raises(Stopped):
        index.search(many, 5, num_threads=num_threads, **options)
    assert time.perf_counter() - start < 5
    assert threading.active_count() == 1
    again = index.search(few, 5, num_threads=num_threads, **options)
    assert np.array_equal(again.ids, wanted.ids)


def test_in_another_thread_nothing_is_asked(monkeypatch):
    monkeypatch.setenv("POEEM_KERNEL", "scalar")
    index, queries = random_index(Shape("ip", 4000, 8, 256, 2, 0)), random_queries(20_000, 16)
    wanted, found = index.search(queries, 3), []
    thread = threading.Thread(target=lambda: found.append(index.search(queries, 3)))
    thread.start()
    thread.join()
    assert np.array_equal(found[0].ids, wanted.ids)
