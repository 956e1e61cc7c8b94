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
