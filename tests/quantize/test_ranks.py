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
rank, place, family = int(sys.argv[1]), sys.argv[2], sys.argv[3]
distributed.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tower = nn.Linear(8, 8)
        self.index = poeem.IndexLayer(
            8, family=family, num_subspaces=2, num_codewords=16, num_lists=3,
            pass_through_steps=3, num_samples=64, revive_window=4,
        )

    def forward(self, x):
        found = self.tower(x)
        return found, self.index(found)


model = nn.parallel.DistributedDataParallel(Model())
layer = model.module.index
steps = [torch.optim.Adam([*model.module.tower.parameters(), *layer.euclidean_parameters()], 0.01)]
if layer.rotation_parameters():
    steps.append(poeem.GivensDescent(layer.rotation_parameters(), lr=0.01))
noise = torch.Generator().manual_seed(rank)  # each rank has data of its own
kept = []
for step in range(70):
    if step == 20:
        with torch.no_grad():
            layer.codebooks[:, :4] = 100.0 + rank  # nothing chooses these: they die
    x = torch.randn(40, 8, generator=noise) + rank
    found, out = model(x)
    for one in steps:
        one.zero_grad()
    (out.loss + (out.vectors - 1).square().mean()).backward()
    for one in steps:
        one.step()
    kept.append(layer.phase.name)
state = {"kept": kept, **{k: v for k, v in model.module.state_dict().items()}}
torch.save(state, f"{place}/{rank}.pt")
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
@pytest.mark.parametrize("family", ["product", "residual"])
def test_two_ranks_have_one_index(family, tmp_path):
    command = [sys.executable, "-c", PROGRAM]
    running = [
        subprocess.Popen([*command, str(rank), str(tmp_path), family], stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for each in running:
        _, errors = each.communicate(timeout=240)
        assert each.returncode == 0, errors.decode()
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert one["kept"] == other["kept"]
    assert one["kept"].index("JOINT") == 4  # 3 of waiting, then 40 + 24 vectors of each rank
    for name, value in one.items():
        if name.startswith("index.") and not name.endswith(("_counts", "progress")):
            assert torch.equal(value, other[name]), name
    assert float(one["index.codebooks"].abs().max()) < 50  # those that died came back, on both
    assert torch.equal(one["tower.weight"], other["tower.weight"])


def test_alone_there_is_nobody_to_ask():
    rows = torch.arange(6.0).view(3, 2)
    assert ranks.num_ranks() == 1
    assert ranks.smallest(7, rows) == 7
    assert ranks.pool(rows, torch.Generator()) is rows
    ranks.add_up([rows])
    ranks.take_from_first([rows])
    assert rows.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]


def test_before_the_warm_start_parameters_stay_out_of_the_graph():
    layer = IndexLayer(4, num_subspaces=2, num_codewords=2, num_samples=8)
    assert not layer(torch.randn(3, 4)).loss.requires_grad
