"""Towers and two of them together."""

import pytest
import torch

from poeem.config import ModelConfig
from poeem.models.towers import HistoryTower, IdTower, Mlp, Users
from poeem.models.two_tower import TwoTower


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def users(histories):
    lengths = torch.tensor([0] + [len(h) for h in histories])
    items = torch.tensor([i for h in histories for i in h], dtype=torch.int64)
    return Users(torch.arange(len(histories)), items, lengths.cumsum(0))


def test_history_tower_is_the_mean_with_a_prior():
    tower = HistoryTower(5, 2, seeded())
    with torch.no_grad():
        tower.embedding.weight.copy_(torch.arange(10.0).view(5, 2))
        tower.prior.copy_(torch.tensor([1.0, 1.0]))
    out = tower(users([[0, 2], []]))
    torch.testing.assert_close(out, torch.tensor([[5 / 3, 7 / 3], [1.0, 1.0]]))


@pytest.mark.parametrize("query_tower", ["id", "history"])
@pytest.mark.parametrize("hidden_dims", [(), (32, 16)])
@pytest.mark.parametrize("normalize", [True, False])
def test_two_tower(query_tower, hidden_dims, normalize):
    config = ModelConfig(
        dim=8, query_tower=query_tower, hidden_dims=hidden_dims, normalize=normalize
    )
    model = TwoTower(3, 5, config, seed=0)
    queries = model.encode_queries(users([[0, 1], [], [4]]))
    items = model.encode_items(torch.tensor([0, 4]))
    assert queries.shape == (3, 8)
    assert items.shape == (2, 8)
    torch.testing.assert_close(model.all_items(batch_size=2)[[0, 4]], items.detach())
    if normalize:
        torch.testing.assert_close(queries.norm(dim=1), torch.ones(3))
    (queries.sum() + items.sum()).backward()
    assert all(p.grad is not None for p in model.parameters())
    again = TwoTower(3, 5, config, seed=0)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


def test_mlp_has_its_widths_and_a_skip():
    mlp = Mlp(4, (6,), seeded())
    assert [tuple(layer.weight.shape) for layer in mlp.layers] == [(6, 4), (4, 6)]
    with torch.no_grad():
        mlp.layers[-1].weight.zero_()
    x = torch.randn(3, 4, generator=seeded())
    assert torch.equal(mlp(x), x)


def test_id_tower():
    tower = IdTower(3, 4, seeded())
    assert torch.equal(tower(torch.tensor([2])), tower.embedding.weight[2:])
