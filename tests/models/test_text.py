"""The text tower, its table of texts, and two towers that read texts."""

import numpy as np
import pytest
import torch

from poeem.config import ModelConfig
from poeem.errors import ConfigError
from poeem.models.text import TextTables, TextTower, TokenBags, TokenTable, check_towers
from poeem.models.towers import Users
from poeem.models.two_tower import TwoTower


def table(texts):
    calls = []

    def make():
        calls.append(1)
        lengths = [0, *map(len, texts)]
        return np.cumsum(lengths), np.array([t for text in texts for t in text], dtype=np.int32)

    result = TokenTable(make)
    result.calls = calls
    return result


def test_texts_are_looked_up_by_number():
    texts = table([[1, 2], [3], [4, 5, 6]])
    assert not texts.calls
    bags = texts.of(torch.tensor([2, 0, 2]))
    assert bags.tokens.tolist() == [4, 5, 6, 1, 2, 4, 5, 6]
    assert bags.offsets.tolist() == [0, 3, 5, 8]
    assert texts.of(torch.tensor([], dtype=torch.int64)).offsets.tolist() == [0]
    assert len(texts.calls) == 1


def test_the_tower_is_a_mean():
    tower = TextTower(5, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        tower.embedding.weight.copy_(torch.arange(10.0).view(5, 2))
    out = tower(TokenBags(torch.tensor([0, 2, 2, 4]), torch.tensor([0, 3, 4])))
    torch.testing.assert_close(out, torch.tensor([[8 / 3, 11 / 3], [8.0, 9.0]]))


def two_towers(**settings):
    texts = TextTables(table([[0, 1], [2], [1, 1]]), table([[3], [0, 1]]))
    towers = {"query_tower": "text", "item_tower": "text"} | settings
    return TwoTower(3, 2, ModelConfig(dim=4, text_buckets=6, **towers), 0, texts)


@pytest.mark.parametrize("text_table", ["shared", "separate"])
@pytest.mark.parametrize("hidden_dims", [(), (8,)])
def test_two_towers_that_read(text_table, hidden_dims):
    model = two_towers(text_table=text_table, hidden_dims=hidden_dims)
    numbers = torch.tensor([0, 2])
    users = Users(numbers, torch.tensor([], dtype=torch.int64), torch.zeros(3, dtype=torch.int64))
    queries = model.encode_queries(users)
    assert queries.shape == (2, 4)
    torch.testing.assert_close(queries.norm(dim=1), torch.ones(2))
    free = TokenBags(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 2, 4]))
    assert torch.equal(model.encode_texts(free), queries)
    items = model.all_items()
    assert items.shape == (2, 4)
    # The same text on both sides: the same vector only where all is shared.
    same = torch.allclose(items[1], queries[0].detach())
    assert same == (text_table == "shared" and not hidden_dims)
    (queries.sum() + model.encode_items(torch.tensor([1])).sum()).backward()
    assert all(p.grad is not None for p in model.parameters())
    names = list(model.state_dict())
    assert len({t.data_ptr() for t in model.state_dict().values()}) == len(names)
    assert ("item_tower.embedding.weight" in names) == (text_table == "separate")


def test_documents_with_vectors_of_their_own():
    model = two_towers(item_tower="id")
    assert model.item_tower.embedding.weight.shape == (2, 4)
    assert model.all_items().shape == (2, 4)


def test_towers_must_fit_the_data():
    check_towers(ModelConfig(), has_texts=True)
    check_towers(ModelConfig(), has_texts=False)
    for tower in ("id", "history"):
        with pytest.raises(ConfigError, match=r"ModelConfig.query_tower: got .* wanted text"):
            check_towers(ModelConfig(query_tower=tower), has_texts=True)
    for name in ("query_tower", "item_tower"):
        with pytest.raises(ConfigError, match=rf"ModelConfig.{name}: got 'text'"):
            check_towers(ModelConfig(**{name: "text"}), has_texts=False)
    with pytest.raises(ConfigError, match="users, not texts"):
        TwoTower(3, 2, ModelConfig(dim=4), 0).encode_texts(TokenBags(*[torch.zeros(1)] * 2))
    with pytest.raises(ConfigError, match="was given none"):
        TwoTower(3, 2, ModelConfig(dim=4, item_tower="text", text_buckets=6), 0).all_items()
