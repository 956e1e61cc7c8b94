"""The protocol: who is asked, what counts as right, and what must not be returned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from poeem.evaluation.metrics import Grouped, ranking_metrics
from poeem.types import IntArray, SearchResult

CUTOFFS = (20, 100)


@dataclass(frozen=True)
class EvaluationSet:
    """Held-out pairs, by user.

    users: int64 [n], user numbers asked for.
    relevant: held-out items of each, distinct.
    exclude: training items of each, which are not to be returned.
    """

    users: IntArray
    relevant: Grouped
    exclude: Grouped

    @classmethod
    def from_pairs(
        cls,
        test: tuple[IntArray, IntArray],
        train: tuple[IntArray, IntArray],
        num_users: int,
    ) -> EvaluationSet:
        """Build from (users, items) of the held-out pairs and of the training pairs."""
        relevant = Grouped.by_row(test[0], test[1], num_users)
        exclude = Grouped.by_row(train[0], train[1], num_users)
        users = np.flatnonzero(relevant.lengths()).astype(np.int64)
        return cls(users, relevant.select(users), exclude.select(users))

    def sample(self, count: int, seed: int) -> EvaluationSet:
        """Return at most `count` of the users, drawn by `seed`."""
        if count >= len(self.users):
            return self
        drawn = np.random.default_rng(seed).permutation(len(self.users))[:count]
        chosen = np.sort(drawn)
        return EvaluationSet(
            self.users[chosen], self.relevant.select(chosen), self.exclude.select(chosen)
        )

    def score(self, ranked: IntArray) -> dict[str, float]:
        """Return recall and precision of item numbers int64 [n, k], best first."""
        return ranking_metrics(ranked, self.relevant, CUTOFFS)


def search_excluding(
    search: Callable[[IntArray, int], SearchResult],
    evaluation: EvaluationSet,
    k: int,
    advance: Callable[[int], None] | None = None,
) -> IntArray:
    """Search an index that cannot exclude items: ask for more, then drop the excluded.

    Args:
        search: takes rows int64 [m] of the evaluation set and a k; returns ids that are item
            numbers.
        evaluation: whose rows to search.
        k: answers wanted per row.
        advance: called with how many more rows were answered, as it goes on.

    Returns:
        int64 [n, k], best first, -1 where nothing is left.
    """
    lengths = evaluation.exclude.lengths()
    found = np.full((len(lengths), k), -1, dtype=np.int64)
    # Rows with histories of like length together: nobody pays for somebody else's long one.
    for rows in np.array_split(np.argsort(lengths, kind="stable"), 16):
        if not len(rows):
            continue
        ids = search(rows, k + int(lengths[rows].max())).ids
        found[rows] = drop_excluded(ids, evaluation.exclude.select(rows), k)
        if advance is not None:
            advance(len(rows))
    return found


def drop_excluded(ranked: IntArray, exclude: Grouped, k: int) -> IntArray:
    """Return the first k of int64 [n, m] that are not excluded, -1 where there are fewer."""
    width = int(max(ranked.max(initial=0), exclude.items.max(initial=0))) + 1
    banned = exclude.rows() * width + exclude.items
    keys = np.arange(len(ranked), dtype=np.int64)[:, None] * width + ranked
    kept = (ranked >= 0) & ~np.isin(keys, banned)
    order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(ranked, order, axis=1)
    best[~np.take_along_axis(kept, order, axis=1)] = -1
    result = np.full((len(ranked), k), -1, dtype=np.int64)
    result[:, : best.shape[1]] = best
    return result
