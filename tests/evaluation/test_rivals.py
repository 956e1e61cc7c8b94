"""Indexes built afterwards: what they answer, what they weigh, and where there is none."""

import numpy as np
import pytest

from poeem.errors import ConfigError
from poeem.evaluation import rival_process
from poeem.evaluation.metrics import Grouped
from poeem.evaluation.protocol import EvaluationSet
from poeem.evaluation.rivals import ANY_SIZE, COMPARED, build_afterwards

NUM_ITEMS, NUM_QUERIES, DIM = 300, 12, 16
PACKAGES = {"faiss_rival": "faiss", "scann_rival": "scann", "annoy_rival": "annoy"}


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    found = rng.standard_normal((NUM_ITEMS, DIM), dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def queries(vectors):
    """Near the first items, whose numbers are so the right answers."""
    noise = np.random.default_rng(1).standard_normal((NUM_QUERIES, DIM), dtype=np.float32)
    return vectors[:NUM_QUERIES] + 0.02 * noise


@pytest.fixture
def folder(vectors, queries, tmp_path):
    rows = np.arange(NUM_QUERIES)
    relevant = Grouped.by_row(rows, rows, NUM_QUERIES)
    exclude = Grouped.by_row(rows, rows + 100, NUM_QUERIES)
    evaluation = EvaluationSet(rows, relevant, exclude)
    rival_process.save_inputs(tmp_path, vectors, queries, evaluation)
    return tmp_path


@pytest.mark.parametrize("name", COMPARED)
def test_a_rival_finds_what_is_near(name, vectors, queries):
    pytest.importorskip(PACKAGES[COMPARED[name].module])
    sizes = {"annoy": ANY_SIZE, "rabitq": 10, "lsh": 16}
    num_bytes = sizes.get(name, 4)
    built = build_afterwards(name, vectors, num_bytes, 1)
    found = built.search(queries, 5)
    assert found.shape == (NUM_QUERIES, 5)
    assert found.dtype == np.int64
    assert found.max() < NUM_ITEMS
    assert np.mean(found[:, 0] == np.arange(NUM_QUERIES)) >= 0.75
    assert built.build_seconds > 0


@pytest.mark.parametrize(
    ("name", "num_bytes", "weight"),
    [
        ("pq", 8, 8),
        ("opq", 8, 8),
        ("ivf-opq", 8, 16),  # an id of 8 bytes stands beside each code
        ("rq", 4, 4),
        ("lsh", 4, 4),
        ("rabitq", 10, 10),  # 16 bits and two factors
        ("scann", 4, 4),
        ("scann-8bit", 4, 4),
    ],
)
def test_what_an_item_weighs(name, num_bytes, weight, vectors):
    pytest.importorskip(PACKAGES[COMPARED[name].module])
    assert build_afterwards(name, vectors, num_bytes, 1).bytes_per_item == weight


def test_annoy_weighs_its_vectors_and_trees(vectors):
    pytest.importorskip("annoy")
    assert build_afterwards("annoy", vectors, ANY_SIZE, 1).bytes_per_item > 4 * DIM


@pytest.mark.parametrize(
    ("name", "num_bytes", "reason"),
    [
        ("rabitq", 8, "one bit for each and its factors are 10 bytes"),
        ("pq", 3, "3 subspaces do not divide 16 dimensions"),
        ("scann", 16, "32 blocks of 4 bits, which do not divide 16 dimensions"),
        ("no-such", 8, "wanted one of pq, opq"),
    ],
)
def test_a_budget_that_a_rival_cannot_keep(name, num_bytes, reason, vectors):
    if name in COMPARED:
        pytest.importorskip(PACKAGES[COMPARED[name].module])
    with pytest.raises(ConfigError, match=reason):
        build_afterwards(name, vectors, num_bytes, 1)


def test_a_process_of_its_own_says_the_same(folder):
    pytest.importorskip("faiss")
    here = rival_process.measure_here("pq", folder, 8, 1)
    there = rival_process.measure_rival("pq", folder, 8, 1)
    for name in ("build_seconds", "build_cpu_seconds"):
        assert here.pop(name) > 0
        assert there.pop(name) > 0
    assert here == there
    assert here["recall@20"] >= 0.75
    assert here["how"] == "PQ8x8np"


def test_excluded_items_are_not_counted(folder, vectors, queries):
    pytest.importorskip("faiss")
    rows = np.arange(NUM_QUERIES)
    own = Grouped.by_row(rows, rows, NUM_QUERIES)
    everything = EvaluationSet(rows, own, own)  # what is relevant is excluded too
    rival_process.save_inputs(folder, vectors, queries, everything)
    assert rival_process.measure_here("pq", folder, 8, 1)["recall@100"] == 0


def test_a_rival_that_cannot_and_one_that_is_not_installed(folder, tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    said = rival_process.measure_rival("rabitq", folder, 4, 1)
    assert list(said) == ["cannot"]
    absent = tmp_path / "absent"
    absent.mkdir()
    for name in ("scann", "annoy"):
        text = f"raise ModuleNotFoundError('No module named {name}', name={name!r})\n"
        (absent / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(absent))
    for name in ("scann", "annoy"):
        said = rival_process.measure_rival(name, folder, 8, 1)
        assert list(said) == ["missing"]
        assert "pip install -c constraints.txt '.[compare]'" in said["missing"]


def test_a_rival_that_crashes_is_told_from_one_that_cannot(folder):
    (folder / "vectors.npy").write_bytes(b"nonsense")
    said = rival_process.measure_rival("pq", folder, 8, 1)
    assert list(said) == ["failed"]
    assert "process ended with 1" in said["failed"]
