"""Health figures against literal values."""

import math

import pytest
import torch

from poeem.quantize.health import code_health, health_of_counts


def test_even_use_is_perfect():
    health = code_health(torch.arange(8).repeat(2, 1).T, 8)
    assert health.used_codewords == 1
    assert health.codeword_kl == pytest.approx(0)
    assert health.codeword_tv == pytest.approx(0)
    assert math.isnan(health.distortion)


def test_one_codeword_for_all_is_as_bad_as_it_gets():
    health = code_health(torch.zeros(10, 1, dtype=torch.int64), 4)
    assert health.used_codewords == 0.25
    assert health.codeword_kl == pytest.approx(math.log(4))
    assert health.codeword_tv == pytest.approx(0.75)


def test_lists():
    health = health_of_counts(torch.ones(1, 2).long(), torch.tensor([3, 1, 0, 0]), 0.5)
    assert health.used_lists == 0.5
    assert health.list_imbalance == pytest.approx(4 * (9 + 1) / 16)
    assert health.list_tv == pytest.approx(0.5)
    assert health.distortion == 0.5


def test_log_writes_each_figure_as_a_scalar():
    written = {}

    class Writer:
        def add_scalar(self, tag, scalar_value, global_step):
            written[tag] = (scalar_value, global_step)

    health = code_health(torch.zeros(4, 2, dtype=torch.int64), 2)
    health.log(Writer(), step=7)
    assert set(written) == {f"index/{name}" for name in health.to_dict()}
    assert written["index/used_codewords"] == (0.5, 7)


def test_tensorboard_reads_them_back(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        code_health(torch.zeros(4, 2, dtype=torch.int64), 2).log(writer, step=3)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Scalars("index/used_codewords")[0].value == 0.5
