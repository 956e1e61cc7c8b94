"""Codes fixed afterwards: codebooks and query tower learn on them, and nothing else moves."""

from types import SimpleNamespace

import pytest
import torch

from poeem.evaluation.faiss_rival import OpqParts
from poeem.quantize import product
from poeem.quantize.kmeans import kmeans
from poeem.training.fixed_codes import FixedCodesSettings, train_on_fixed_codes
from poeem.training.loop import train
from poeem.training.losses import catalogue_softmax
from tests.quantize.test_givens import random_rotation

from .test_loop import NUM_ITEMS, config, new_state, taste  # noqa: F401 - the fixture


def parts_of(vectors):
    """Return product codes of vectors behind a rotation, as a rival would make them."""
    rotation = random_rotation(vectors.shape[1], 3)
    split = product.split(vectors @ rotation.T, 4).contiguous()
    generator = torch.Generator().manual_seed(0)
    codebooks = kmeans(split, 8, num_iterations=5, generator=generator)
    codes = product.assign(vectors @ rotation.T, codebooks)
    return OpqParts(rotation.numpy(), codebooks.numpy(), codes.numpy().astype("uint8"))


@torch.no_grad()
def loss_over_the_catalogue(state, pairs, parts, codebooks):
    """Return the loss of all pairs against all items, as the index scores them."""
    users, items = pairs.users, pairs.items
    vectors = product.decode(torch.from_numpy(parts.codes).long(), torch.from_numpy(codebooks))
    vectors = vectors @ torch.from_numpy(parts.rotation)
    queries = state.model.encode_queries(pairs.histories.of(users, without=items))
    return catalogue_softmax(
        queries,
        vectors[items],
        vectors,
        temperature=state.config.model.temperature,
        known=pairs.histories.places(users, torch.arange(NUM_ITEMS)),
        num_items=NUM_ITEMS,
    )


@pytest.mark.parametrize("query_tower", ["id", "history"])
@pytest.mark.parametrize("num_negatives", [20, 4096])
def test_codebooks_and_query_tower_learn(taste, query_tower, num_negatives):  # noqa: F811
    pairs = taste[0]
    state = new_state(config(query_tower, epochs=2, warm_start_epoch=0), joint=False)
    train(state, pairs)
    state.model.eval()
    items = state.model.all_items().clone()
    parts = parts_of(items)
    before = loss_over_the_catalogue(state, pairs, parts, parts.codebooks)
    queries = [p.detach().clone() for p in state.model.query_tower.parameters()]
    kept = parts.codebooks.copy()
    settings = FixedCodesSettings(epochs=3, learning_rate=0.01, num_negatives=num_negatives)
    prepared = SimpleNamespace(pairs=pairs)

    codebooks = train_on_fixed_codes(state, parts, prepared, settings)

    assert loss_over_the_catalogue(state, pairs, parts, codebooks) < 0.9 * before
    assert loss_over_the_catalogue(state, pairs, parts, kept) < before  # the query tower alone
    assert not state.model.training
    assert (parts.codebooks == kept).all()
    assert torch.equal(state.model.all_items(), items)
    moved = [p.detach() for p in state.model.query_tower.parameters()]
    assert all(not torch.equal(*pair) for pair in zip(queries, moved, strict=True))
