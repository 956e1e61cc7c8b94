"""Metrics and exact search against the slow way."""

import numpy as np
import pytest
import torch

from poeem.errors import ShapeError
from poeem.evaluation import exact
from poeem.evaluation.exact import exact_search
from poeem.evaluation.metrics import Grouped, hits, ranking_metrics
from poeem.evaluation.protocol import EvaluationSet, drop_excluded, search_excluding
from poeem.types import SearchResult


def grouped(rows):
    return Grouped.by_row(
        np.repeat(np.arange(len(rows)), [len(r) for r in rows]),
        np.array([i for r in rows for i in r], dtype=np.int64),
        len(rows),
    )


def test_literal_recall_and_precision():
    ranked = np.array([[3, 1, 2, -1], [9, 8, 7, 6], [0, 1, 2, 3]])
    figures = ranking_metrics(ranked, grouped([[1, 5], [9], []]), cutoffs=(1, 2))
    assert figures == {  # the third row has nothing relevant and does not count
        "recall@1": 0.5,
        "precision@1": 0.5,
        "recall@2": 0.75,
        "precision@2": 0.5,
    }


def test_padding_is_never_a_hit():
    assert not hits(np.array([[-1, -1]]), grouped([[0]])).any()


def test_no_relevant_items_at_all():
    assert ranking_metrics(np.zeros((2, 3), np.int64), grouped([[], []]), (3,)) == {
        "recall@3": 0.0,
        "precision@3": 0.0,
    }


def test_rows_must_agree():
    with pytest.raises(ShapeError, match=r"wanted \[2, k\]"):
        hits(np.zeros((3, 1), np.int64), grouped([[1], [2]]))


def test_select():
    chosen = grouped([[1, 2], [], [3]]).select(np.array([2, 0, 0]))
    assert chosen.items.tolist() == [3, 1, 2, 1, 2]
    assert chosen.offsets.tolist() == [0, 1, 3, 5]


def slow_search(queries, items, k, exclude):
    scores = (queries @ items.T).numpy()
    found = []
    for row, banned in zip(scores, exclude, strict=True):
        order = [i for i in np.argsort(-row, kind="stable") if i not in banned][:k]
        found.append(order + [-1] * (k - len(order)))
    return found


@pytest.mark.parametrize("block", [1, 40, 2**25])
def test_exact_search_equals_the_slow_way(block, monkeypatch):
    monkeypatch.setattr(exact, "_BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    queries, items = torch.randn(9, 4, generator=generator), torch.randn(6, 4, generator=generator)
    banned = [[i % 6, (i * i) % 6] if i % 2 else [] for i in range(9)]
    found = exact_search(queries, items, 8, grouped([sorted(set(b)) for b in banned]))
    assert found.tolist() == slow_search(queries, items, 8, banned)


def test_search_excluding_asks_for_enough():
    rng = np.random.default_rng(0)
    order = np.stack([rng.permutation(50) for _ in range(40)])
    train = [sorted(rng.permutation(50)[: n % 45].tolist()) for n in range(40)]
    evaluation = EvaluationSet(np.arange(40), grouped([[0]] * 40), grouped(train))

    def search(rows, k):
        ids = order[rows][:, :k]
        return SearchResult(ids, np.zeros(ids.shape, np.float32))

    found = search_excluding(search, evaluation, 10)
    for row in range(40):
        kept = [i for i in order[row] if i not in train[row]][:10]
        assert found[row].tolist() == kept + [-1] * (10 - len(kept))


def test_drop_excluded_pads():
    ranked = np.array([[4, 3, -1]])
    assert drop_excluded(ranked, grouped([[4]]), 4).tolist() == [[3, -1, -1, -1]]


def test_evaluation_set():
    evaluation = EvaluationSet.from_pairs(
        (np.array([2, 0, 2]), np.array([5, 6, 7])), (np.array([0, 1]), np.array([1, 2])), 3
    )
    assert evaluation.users.tolist() == [0, 2]
    assert evaluation.relevant.items.tolist() == [6, 5, 7]
    assert evaluation.exclude.items.tolist() == [1]
    assert len(evaluation.sample(1, seed=0).users) == 1
    assert evaluation.sample(5, seed=0) is evaluation
