"""The layer under DistributedDataParallel: two processes, one index."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from poeem import IndexLayer
from poeem.quantize import ranks

PROGRAM = """
import sys
import torch
from torch import distributed, nn
import poeem

torch.set_num_threads(1)
rank, place, family, num_lists = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
distributed.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tower = nn.Linear(8, 8)
        self.index = poeem.IndexLayer(
            8, family=family, num_subspaces=2, num_codewords=16, num_lists=num_lists,
            pass_through_steps=3, num_samples=64, revive_window=4,
        )

    def forward(self, x):
        found = self.tower(x)
        return found, self.index(found)


model = nn.parallel.DistributedDataParallel(Model(), find_unused_parameters=True)
layer = model.module.index
steps = [torch.optim.Adam([*model.module.tower.parameters(), *layer.euclidean_parameters()], 0.01)]
if layer.rotation_parameters():
    steps.append(poeem.GivensDescent(layer.rotation_parameters(), lr=0.01))
noise = torch.Generator().manual_seed(rank)  # each rank has data of its own
kept, counted, spread = [], [], 0.0
for step in range(70):
    if step == 20:
        with torch.no_grad():
            layer.codebooks[:, :4] = 100.0 + rank  # nothing chooses these: they die
    x = torch.randn(40, 8, generator=noise) + 20 * rank
    found, out = model(x)
    if not spread and layer.phase.name == "JOINT":
        items = found.detach()
        spread = float((items - layer.decode(*layer.encode(items))).square().sum(1).mean())
        spread /= float(items.square().sum(1).mean())
    for one in steps:
        one.zero_grad()
    (out.loss + (out.vectors - 1).square().mean()).backward()
    for one in steps:
        one.step()
    kept.append(layer.phase.name)
    counted.append(layer.codeword_counts.clone())
alone = poeem.IndexLayer(  # outside of the wrapper nobody is asked: on this rank only
    8, num_subspaces=2, num_codewords=16, pass_through_steps=0, num_samples=64
)
if rank == 1:
    alone(torch.randn(64, 8))
    alone(torch.randn(64, 8))
state = {"kept": kept, "counted": counted, "spread": spread, "alone": alone.phase.name}
state |= model.module.state_dict()
torch.save(state, f"{place}/{rank}.pt")
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
@pytest.mark.parametrize(("family", "num_lists"), [("product", 3), ("residual", 0)])
def test_two_ranks_have_one_index(family, num_lists, tmp_path):
    command = [sys.executable, "-c", PROGRAM]
    running = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path), family, str(num_lists)], stderr=subprocess.PIPE
        )
        for rank in range(2)
    ]
    for each in running:
        _, errors = each.communicate(timeout=240)
        assert each.returncode == 0, errors.decode()
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert one["kept"] == other["kept"]
    assert one["kept"].index("JOINT") == 4  # 3 of waiting, then 40 + 24 vectors of each rank
    for name, value in one.items():
        if name.startswith("index."):
            assert torch.equal(value, other[name]), name
    # What both chose counts on both: 2 codes of 80 vectors a step.
    for step in range(3):
        counts = one["counted"][4 + step]
        assert torch.equal(counts, other["counted"][4 + step])
        assert int(counts.sum()) == 2 * 80 * (step + 1)
    # The warm start saw the vectors of both, which lie far apart.
    assert max(one["spread"], other["spread"]) < 0.5
    assert (one["alone"], other["alone"]) == ("PASS_THROUGH", "JOINT")
    assert float(one["index.codebooks"].abs().max()) < 50  # those that died came back, on both
    assert torch.equal(one["tower.weight"], other["tower.weight"])


LOADED_BY_ONE = """
import sys
import torch
from torch import distributed, nn
import poeem

torch.set_num_threads(1)
rank, place = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2)


def made():
    return poeem.IndexLayer(
        8, family="product", num_subspaces=2, num_codewords=16, pass_through_steps=100,
        num_samples=64, revive_window=4,
    )


layer = made()
if rank == 0:
    warm = made()
    warm.warm_start(torch.randn(200, 8, generator=torch.Generator().manual_seed(0)))
    warm(torch.randn(10, 8, generator=torch.Generator().manual_seed(1)))
    layer.load_state_dict(warm.state_dict())
model = nn.parallel.DistributedDataParallel(layer, find_unused_parameters=True)
noise = torch.Generator().manual_seed(rank)
for step in range(40):
    out = model(torch.randn(40, 8, generator=noise))
    out.loss.backward()
    model.zero_grad()
state = {"phase": layer.phase.name, "steps": layer.num_steps, "window": layer._num_windowed}
torch.save(state | layer.state_dict(), f"{place}/{rank}.pt")
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_a_checkpoint_that_rank_0_alone_has_loaded_counts_for_all(tmp_path):
    command = [sys.executable, "-c", LOADED_BY_ONE]
    running = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for each in running:
        _, errors = each.communicate(timeout=240)
        assert each.returncode == 0, errors.decode()
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert (one["phase"], one["steps"]) == ("JOINT", 41)
    for name, value in one.items():
        same = torch.equal(value, other[name]) if torch.is_tensor(value) else value == other[name]
        assert same, name


def test_alone_there_is_nobody_to_ask():
    rows = torch.arange(6.0).view(3, 2)
    assert ranks.num_ranks() == 1
    assert ranks.smallest(7, rows) == 7
    assert ranks.pool(rows, 0) is rows
    ranks.add_up([rows])
    ranks.take_from_first([rows])
    assert rows.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]


def test_before_the_warm_start_parameters_stay_out_of_the_graph():
    layer = IndexLayer(4, num_subspaces=2, num_codewords=2, num_samples=8)
    assert not layer(torch.randn(3, 4)).loss.requires_grad
