"""Later segments, scanned block by block where many lists are probed, answer as one fresh index."""

from __future__ import annotations

import numpy as np
import pytest

from poeem import LiveIndex, _native
from tests.index.helpers import Shape, random_queries
from tests.index.test_search import METRICS, assert_same
from tests.live.helpers import Model

NUM_LISTS = 12
KERNELS = [str(one["name"]) for one in _native.kernels() if one["supported"]]


def changed(path, shape):
    """Return a live index with a large and a small later segment, dead items in each of them."""
    model = Model(shape, seed=5)
    live = LiveIndex.open(model.save(path))
    for count in (600, 500, 90):  # the first ones are joined, the last one is a segment by itself
        model.update(live, count)
        model.remove(live, 200)
    counts = [segment.contents.num_items for segment in live.view().segments]
    assert len(counts) == 3
    assert counts[1] > 1000 > 256 > counts[2]
    assert all(segment.num_alive < segment.contents.num_items for segment in live.view().segments)
    return live, model


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("num_codewords", [16, 256, 300])
@pytest.mark.parametrize("family", ["product", "residual"])
def test_blocks_of_later_segments(tmp_path, monkeypatch, metric, num_codewords, family):
    sub_dim = 6 if family == "residual" else 2
    shape = Shape(metric, 4000, 4, num_codewords, sub_dim, NUM_LISTS, ids="int64", family=family)
    live, model = changed(tmp_path / "i.poeem", shape)
    fresh, queries = model.fresh(), random_queries(6, shape.dim)
    some = np.array(list(model.items))[::3]
    with live:
        for kernel in KERNELS:
            monkeypatch.setenv(_native.KERNEL_VARIABLE, kernel)
            for probes in (None, NUM_LISTS - 1, 7, 1):
                for k in (5, 200, 6000):
                    got = live.search(queries, k, num_probes=probes)
                    assert_same(got, fresh.search(queries, k, num_probes=probes))
                options = {"num_probes": probes, "allowed": some}
                assert_same(
                    live.search(queries, 50, **options), fresh.search(queries, 50, **options)
                )


def test_equal_scores_in_several_segments(tmp_path):
    shape = Shape("ip", 4000, 2, 256, 2, NUM_LISTS, ids="uint32", few_codes=True)
    live, model = changed(tmp_path / "i.poeem", shape)
    fresh, queries = model.fresh(), random_queries(6, 3, shape.dim)
    with live:
        for probes in (None, 7):
            for threads in (1, 8):
                options = {"num_probes": probes, "num_threads": threads}
                got = live.search(queries, 300, **options)
                assert_same(got, fresh.search(queries, 300, **options))
