"""What a search host pays: no torch, and hardly more memory than the file."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.index.helpers import Shape, random_index

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it now fails
import numpy as np
import poeem
index = poeem.Index.open(sys.argv[1])
ids, scores = index.search(np.ones(index.dim, np.float32), 5)
assert ids.shape == (1, 5)
index.save(sys.argv[1])
assert not [name for name in sys.modules if name.startswith("torch.")]
"""

PEAK = """
import sys
import numpy as np
import poeem

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024

# A small index first: what the interpreter, NumPy and the engine take is not the catalogue's.
query = np.ones((4, 64), np.float32)
poeem.Index.open(sys.argv[1]).search(query, 100, num_threads=2)
before = peak()
index = poeem.Index.open(sys.argv[2])
index.search(query, 100, num_threads=2)
print((peak() - before) / index.info()["total_bytes"])
"""


NO_THREAD_LEFT = """
import os, sys
import numpy as np
import poeem

def threads():
    return len(os.listdir("/proc/self/task"))

index = poeem.Index.open(sys.argv[1])
queries = np.ones((300, index.dim), np.float32)
before = threads()
for num_threads in (2, 5, 0):
    index.search(queries, 10, num_threads=num_threads)
    index.search(queries[:1], 10, num_threads=num_threads)
    index.search(queries[:1], 10, num_threads=num_threads, allowed=np.arange(7))
print(before, threads())
"""

# A thread keeps the interpreter until it waits for something, so the main one only goes on while
# the other searches if the search lets go of the interpreter.
LETS_GO = """
import sys, threading
import numpy as np
import poeem

sys.setswitchinterval(1e6)
index = poeem.Index.open(sys.argv[1])
queries = np.random.default_rng(0).standard_normal((2000, index.dim), np.float32)
begun, ended = threading.Event(), []

def search():
    begun.set()
    index.search(queries, 100)
    ended.append(True)

thread = threading.Thread(target=search)
thread.start()
begun.wait()
print("before the end" if not ended else "after it")
thread.join()
"""


def run(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_search_works_where_torch_does_not(tmp_path):
    random_index(Shape(num_lists=3)).save(tmp_path / "x")
    run(WITHOUT_TORCH, tmp_path / "x")
    random_index(Shape("l2", family="residual")).save(tmp_path / "x")
    run(WITHOUT_TORCH, tmp_path / "x")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("num_lists", "family"), [(0, "product"), (32, "product"), (32, "residual")]
)
def test_peak_memory_is_the_index_and_a_tenth(num_lists, family, tmp_path):
    sub_dim = 64 if family == "residual" else 8
    for name, num_items in (("small", 1000), ("x", 2_000_000)):
        shape = Shape("ip", num_items, 8, 256, sub_dim, num_lists, ids="uint32", family=family)
        random_index(shape).save(tmp_path / name)
    assert float(run(PEAK, tmp_path / "small", tmp_path / "x")) < 1.1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("num_lists", [0, 50])
def test_no_thread_stays(num_lists, tmp_path):
    # Enough codes that one query is worth several threads.
    random_index(Shape("ip", 3_000_000, 8, 256, 2, num_lists)).save(tmp_path / "x")
    before, after = run(NO_THREAD_LEFT, tmp_path / "x").split()
    assert before == after


def test_a_search_lets_go_of_the_interpreter(tmp_path):
    random_index(Shape("ip", 1_000_000, 8, 256, 2)).save(tmp_path / "x")
    assert run(LETS_GO, tmp_path / "x").strip() == "before the end"


@pytest.mark.parametrize(
    ("num_lists", "ids", "id_bytes"),
    [(0, "positions", 0), (0, "uint32", 4), (64, "uint32", 4), (64, "positions", 4)],
)
@pytest.mark.parametrize("num_subspaces", [4, 8, 16])
def test_product_codes_take_their_bytes_and_a_hundredth(
    num_subspaces, num_lists, ids, id_bytes, tmp_path
):
    # With lists items stand by list, so the order itself takes the 4 bytes.
    shape = Shape("ip", 500_000, num_subspaces, 256, 4, num_lists, ids=ids)
    index = random_index(shape)
    index.save(tmp_path / "x")
    wanted = shape.num_items * (num_subspaces + id_bytes)
    for size in (index.info()["total_bytes"], (tmp_path / "x").stat().st_size):
        assert wanted <= size <= 1.01 * wanted
