"""Indexes of Faiss, and rows as table, JSON and picture."""

import io
import json
import sys

import numpy as np
import pytest
from rich.console import Console

from poeem.errors import ConfigError, MissingDependencyError
from poeem.evaluation import comparison, faiss_rival
from poeem.evaluation.comparison import AFTERWARDS, FLOAT, JOINT, Row

FIGURES = {"recall@20": 0.1, "recall@100": 0.25, "precision@20": 0.5, "precision@100": 0.05}
ROWS = [
    Row.of("exact", FLOAT, 256, FIGURES, None),
    Row.of("built afterwards", AFTERWARDS, 8, FIGURES, 12.34),
    Row.of("learned", JOINT, 8, FIGURES, 0.051),
]


def test_table():
    console = Console(file=io.StringIO(), width=80)
    console.print(comparison.comparison_table(ROWS, "Title"))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["exact", "256", "0.1000", "0.2500", "0.0500", "-"] in lines
    assert ["built", "afterwards", "8", "0.1000", "0.2500", "0.0500", "12.3", "s"] in lines
    assert ["learned", "8", "0.1000", "0.2500", "0.0500", "0.05", "s"] in lines


def test_json(tmp_path):
    comparison.save_json(ROWS, {"data": "toys"}, tmp_path / "c.json")
    read = json.loads((tmp_path / "c.json").read_text())
    assert read["data"] == "toys"
    assert [Row(**row) for row in read["rows"]] == ROWS


def test_picture(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    comparison.save_picture(ROWS, "Title", tmp_path / "c.png")
    pixels = image.imread(tmp_path / "c.png")[..., :3]
    assert pixels.shape[1] == 1650
    orange = np.array([0xD9, 0x62, 0x2B]) / 255
    assert (np.abs(pixels - orange) < 0.01).all(-1).mean() > 0.01  # the bar of ours is there


def test_a_picture_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r".\[plot\]"):
        comparison.save_picture(ROWS, "Title", tmp_path / "c.png")


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).standard_normal((400, 8), dtype=np.float32)


@pytest.mark.parametrize("name", list(faiss_rival.RIVALS))
def test_rivals_search_by_inner_product(name, vectors, capfd):
    pytest.importorskip("faiss")
    rival = faiss_rival.build_rival(name, vectors, 2, num_threads=1)
    assert rival.bytes_per_item == 2
    assert rival.build_seconds == rival.train_seconds + rival.add_seconds > 0
    assert capfd.readouterr().err == ""  # no warning about few vectors
    ids, scores = rival.search(vectors[:5], 20)
    exact = vectors[:5] @ rival.reconstruct().T
    if "OPQ" in name:  # reconstructed vectors are rotated back; so are the scores but for rounding
        assert np.allclose(scores, np.take_along_axis(exact, ids, axis=1), atol=1e-3)
    assert np.allclose(scores, -np.sort(-exact, axis=1)[:, :20], atol=1e-3)
    error = ((vectors - rival.reconstruct()) ** 2).sum(1).mean()
    assert error < 0.5 * (vectors**2).sum(1).mean()


def test_what_faiss_cannot_build(vectors, monkeypatch):
    pytest.importorskip("faiss")
    with pytest.raises(ConfigError, match="wanted one of Faiss PQ"):
        faiss_rival.build_rival("ScaNN", vectors, 2)
    with pytest.raises(ConfigError, match="wanted a divisor of dim"):
        faiss_rival.build_rival("Faiss PQ", vectors, 3)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r".\[faiss\]"):
        faiss_rival.build_rival("Faiss PQ", vectors, 2)
