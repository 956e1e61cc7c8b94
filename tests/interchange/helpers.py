"""What "the same answers, up to ties" means."""

from __future__ import annotations

import numpy as np

TOLERANCE = 1e-5


def assert_same_answers(ours, ids, scores, tolerance=TOLERANCE):
    """Equal scores at every place, and an equal set of ids above the last score of each row.

    Scores are compared up to `tolerance` of the largest, because two programs round differently; so
    items of scores within it may change places, and only they.
    """
    ids, scores = np.asarray(ids), np.asarray(scores)
    assert ids.shape == ours.ids.shape
    for row in range(len(ids)):
        there = ours.ids[row] != -1
        assert np.array_equal(there, ids[row] != -1)
        mine, theirs = ours.scores[row][there], scores[row][there]
        near = tolerance * max(1.0, float(np.abs(mine).max(initial=0)))
        np.testing.assert_allclose(theirs, mine, rtol=0, atol=near)
        last = mine.min(initial=np.inf) + 2 * near
        my_scores = dict(zip(ours.ids[row][there].tolist(), mine.tolist(), strict=True))
        their_scores = dict(zip(ids[row][there].tolist(), theirs.tolist(), strict=True))
        for item, score in my_scores.items():
            if score > last:
                assert abs(their_scores[item] - score) <= near, item
        assert {i for i, s in their_scores.items() if s > last} <= set(my_scores)
        # The order is the same but within groups of equal scores.
        assert (
            np.diff([my_scores[i] for i in ids[row][there] if i in my_scores]) <= 2 * near
        ).all()
