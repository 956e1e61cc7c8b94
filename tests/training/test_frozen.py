"""The last phase: codes and item tower stay, codewords and query tower learn."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import poeem
from poeem.errors import ConfigError, NotWarmError
from poeem.training.frozen import FrozenQuantizer, ItemCodes
from poeem.training.loop import evaluate_state, train
from poeem.training.objective import batch_losses, drawn_items

from .test_loop import config, new_state, taste  # noqa: F401 - the fixture


class Snapshots:
    """Keeps the parts as they were when the codes were frozen."""

    def __init__(self, state):
        self.state = state
        freeze = state.freeze

        def kept(beam=None):
            freeze(beam)
            self.items = state.model.all_items().clone()
            self.queries = state.model.query_tower.embedding.weight.detach().clone()
            self.codebooks = state.layer.codebooks.detach().clone()

        state.freeze = kept


@pytest.fixture(params=["product", "residual"])
def trained(request, taste):  # noqa: F811
    settings = config(num_lists=4)
    layer = poeem.config.LayerConfig(
        family=request.param, num_subspaces=4, num_codewords=16, num_lists=4
    )
    state = new_state(poeem.config.Config(settings.data, settings.model, layer, settings.train))
    snapshots = Snapshots(state)
    train(state, taste[0])
    return state, snapshots


def test_what_stays_and_what_learns(trained):
    state, before = trained
    assert torch.equal(state.model.all_items(), before.items)
    assert not torch.equal(state.model.query_tower.embedding.weight, before.queries)
    assert not torch.equal(state.layer.codebooks, before.codebooks)


@pytest.mark.parametrize(
    ("tower", "family", "bits", "learning"),
    [
        ("id", "residual", 8, 2),
        ("id", "residual", 9, 3),
        ("id", "residual", 0, 4),
        ("id", "residual", 16, 4),
        ("id", "residual", None, 4),  # codes are short
        ("history", "residual", 8, 2),
        ("id", "product", 8, 4),
    ],
)
def test_later_codewords_stay(taste, tower, family, bits, learning):  # noqa: F811
    settings = config(tower)
    layer = poeem.config.LayerConfig(family=family, num_subspaces=4, num_codewords=16)
    learns = dataclasses.replace(settings.train, frozen_bits=bits)
    state = new_state(poeem.config.Config(settings.data, settings.model, layer, learns))
    before = codebooks_at_freezing(state)
    train(state, taste[0])
    moved = (state.layer.codebooks != before.codebooks).flatten(1).any(1)
    assert moved.tolist() == [m < learning for m in range(4)]


@pytest.mark.parametrize(("tower", "learning"), [("id", 11), ("history", 24)])
def test_of_ids_and_long_codes_the_codewords_of_64_bits_learn(taste, tower, learning):  # noqa: F811
    settings = config(tower)
    layer = poeem.config.LayerConfig(num_subspaces=24, num_codewords=64)  # 6 bits each
    state = new_state(poeem.config.Config(settings.data, settings.model, layer, settings.train))
    before = codebooks_at_freezing(state)
    train(state, taste[0])
    moved = (state.layer.codebooks != before.codebooks).flatten(1).any(1)
    assert moved.tolist() == [m < learning for m in range(24)]


def codebooks_at_freezing(state):
    """Return what will have `codebooks` as they are then."""
    found, freeze = SimpleNamespace(), state.freeze

    def kept(beam=None):
        freeze(beam)
        found.codebooks = state.layer.codebooks.detach().clone()

    state.freeze = kept
    return found


def test_no_codeword_is_without_an_item(taste):  # noqa: F811
    settings = config(num_lists=4)
    # So many that some of them go unused, and left so, as nothing revives them.
    layer = poeem.config.LayerConfig(num_subspaces=4, num_codewords=48, revive_window=0)
    state = new_state(poeem.config.Config(settings.data, settings.model, layer, settings.train))
    found = {}
    freeze = state.freeze

    def watched(beam=None):
        codes, _ = state.layer.encode(state.model.all_items(), beam=beam)
        found["used"] = [len(column.unique()) for column in codes.T]
        freeze(beam)

    state.freeze = watched
    train(state, taste[0])
    assert min(found["used"]) < 48
    assert [len(column.unique()) for column in state.frozen.codes.T] == [48] * 4


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_the_index_has_the_codes_that_were_trained(trained, metric):
    state, _ = trained
    vectors = state.model.all_items()
    index = poeem.build_index(state.quantizer(), None, vectors, metric=metric)
    decoded = state.layer.decode(state.frozen.codes, state.frozen.lists)
    query = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    found = index.search(query, k=len(vectors))
    products = torch.from_numpy(query) @ decoded.T
    if metric == "l2":
        products = -torch.cdist(torch.from_numpy(query), decoded).square()
    wanted = products.gather(1, torch.from_numpy(found.ids)).detach().numpy()
    np.testing.assert_allclose(found.scores, wanted, atol=1e-4)


def test_vectors_of_no_item_get_their_nearest_codewords(trained):
    state, _ = trained
    other = torch.randn(5, 16, generator=torch.Generator().manual_seed(0)).numpy()
    mixed = np.concatenate([other, state.model.all_items().numpy()[7:9]])
    codes, lists = state.quantizer().encode_numpy(mixed)
    nearest, near = state.layer.encode_numpy(other, beam=state.frozen.beam)
    assert np.array_equal(codes[:5], nearest)
    assert np.array_equal(lists[:5], near)
    assert np.array_equal(codes[5:], state.frozen.codes[7:9].numpy())
    assert np.array_equal(lists[5:], state.frozen.lists[7:9].numpy())


def test_codes_go_by_the_vector_and_not_by_its_place(trained):
    layer = trained[0].layer
    vectors = torch.randn(50, 16, generator=torch.Generator().manual_seed(1)).numpy()
    codes = torch.randint(16, (50, 4), generator=torch.Generator().manual_seed(2))
    frozen = FrozenQuantizer(layer, vectors, ItemCodes(codes, None))
    order = np.random.default_rng(0).permutation(50)
    assert np.array_equal(frozen.encode_numpy(vectors[order])[0], codes.numpy()[order])


def test_items_of_equal_vectors_keep_their_own_lists(trained):
    """Lists by demand have room for so many: equal documents may stand in several."""
    layer = trained[0].layer
    vectors = torch.randn(60, 16, generator=torch.Generator().manual_seed(1)).numpy()
    vectors[10:50] = vectors[3]
    codes, lists = layer.encode_numpy(vectors)
    lists = np.random.default_rng(0).integers(0, 4, 60).astype(np.int32)
    frozen = ItemCodes(torch.from_numpy(codes.astype(np.int64)), torch.from_numpy(lists))
    quantizer = FrozenQuantizer(layer, vectors, frozen)
    for _ in range(2):  # once more, from the first on
        parts = [quantizer.encode_numpy(vectors[i : i + 7]) for i in range(0, 60, 7)]
        assert np.array_equal(np.concatenate([one for one, _ in parts]), codes)
        assert np.array_equal(np.concatenate([one for _, one in parts]), lists)
    index = poeem.build_index(quantizer, None, vectors, batch_size=9)
    assert np.array_equal(index.lists[np.argsort(index.ids)], lists)


def test_a_float_twin_has_no_codes(taste):  # noqa: F811
    twin = new_state(config(), joint=False)
    train(twin, taste[0])
    assert twin.frozen is None
    for ask in (twin.item_codes, twin.quantizer):
        with pytest.raises(NotWarmError, match="float twin"):
            ask()


@pytest.fixture(params=["product", "residual"])
def short(request, taste):  # noqa: F811
    """Two states at the freeze, after few steps: as trained, and fitted once more."""
    states = []
    for below in (0, 1000):
        settings = config()
        changes = {"refit_below": below, "frozen_rate": 0.0, "frozen_epochs": 1}
        train_settings = dataclasses.replace(settings.train, **changes)
        layer = poeem.config.LayerConfig(
            family=request.param, num_subspaces=4, num_codewords=16, query_power=0.0
        )
        parts = (settings.data, settings.model, layer, train_settings)
        states.append(train(new_state(poeem.config.Config(*parts)), taste[0]))
    return states


def distortion(state):
    decoded = state.layer.decode(state.frozen.codes, state.frozen.lists)
    return float((state.model.all_items() - decoded).square().sum(1).mean())


def test_after_few_steps_codes_are_fitted_once_more(short):
    trained, fitted = short
    assert torch.equal(trained.model.all_items(), fitted.model.all_items())
    assert distortion(fitted) < 0.98 * distortion(trained)


def test_other_vectors_are_encoded_by_the_same_beam(short):
    fitted = short[1]
    assert fitted.frozen.beam == fitted.config.train.refit_beam
    again = new_state(fitted.config)
    again.load_tensors(fitted.tensors())
    assert again.frozen.beam == fitted.frozen.beam
    other = torch.randn(200, 16, generator=torch.Generator().manual_seed(0)).numpy()
    codes, _ = again.quantizer().encode_numpy(other)
    assert np.array_equal(codes, fitted.layer.encode_numpy(other, beam=8)[0])
    if fitted.config.layer.family == "residual":
        assert not np.array_equal(codes, fitted.layer.encode_numpy(other)[0])


def test_no_refit_before_the_warm_start():
    layer = poeem.IndexLayer(16, num_subspaces=4, num_codewords=16)
    before = layer.codebooks.detach().clone()
    with pytest.raises(NotWarmError):
        layer.refit(torch.randn(64, 16))
    assert torch.equal(layer.codebooks, before)


@pytest.mark.parametrize("family", ["product", "residual"])
@pytest.mark.parametrize("beam", [0, -1, 257, 2.0, True])
def test_a_beam_that_cannot_be_leaves_the_layer_as_it_was(family, beam):
    layer = poeem.IndexLayer(16, family=family, num_subspaces=4, num_codewords=16)
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    layer.warm_start(x)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    with pytest.raises(ConfigError, match="beam: got"):
        layer.refit(x, x * torch.linspace(0.1, 2, 16), beam=beam)
    with pytest.raises(ConfigError, match="beam: got"):
        layer.encode(x, beam=beam)
    after = layer.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("count", [5, 10**6])
def test_frozen_codes_learn_against_items_of_the_catalogue(trained, taste, count):  # noqa: F811
    state, _ = trained
    pairs = taste[0]
    settings = dataclasses.replace(state.config.train, frozen_negatives=count, coarse_weight=0.0)
    state.config = dataclasses.replace(state.config, train=settings)
    drawn = drawn_items(state)
    num_items = state.model.num_items
    assert torch.equal(drawn, drawn.unique())
    assert 1 <= len(drawn) <= 5 if count == 5 else torch.equal(drawn, torch.arange(num_items))
    users, items = pairs.users[:20], pairs.items[:20]
    loss, extra = batch_losses(state, pairs, users, items, torch.zeros(num_items))
    with torch.no_grad():
        queries = state.model.encode_queries(pairs.histories.of(users, without=items))
        vectors = state.layer.decode(state.frozen.codes, state.frozen.lists)
        scores = queries @ vectors.T / state.config.model.temperature
    wanted = 0.0
    for row, (user, item) in enumerate(zip(users, items, strict=True)):
        had = pairs.items[pairs.users == user]
        others = [i for i in drawn.tolist() if i not in had]
        logits = scores[row][[int(item), *others]]
        logits[1:] += math.log(num_items / len(drawn))
        wanted -= float(logits.log_softmax(0)[0]) / 20
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-4)
    assert extra == 0
    loss.backward()
    assert float(state.layer.codebooks.grad.abs().sum()) > 0


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_distillation_looks_at_the_float_vectors_of_the_items_drawn(trained, taste, share):  # noqa: F811
    state, pairs = trained[0], taste[0]
    users, items = pairs.users[:20], pairs.items[:20]

    def loss_at(share):
        settings = dataclasses.replace(state.config.train, distillation_share=share)
        state.config = dataclasses.replace(state.config, train=settings)
        loss, _ = batch_losses(state, pairs, users, items, torch.zeros(state.model.num_items))
        return loss

    by_pairs, loss = float(loss_at(0.0).detach()), loss_at(share)
    drawn = drawn_items(state)
    with torch.no_grad():
        queries = state.model.encode_queries(pairs.histories.of(users, without=items))
        quantized = state.layer.decode(state.frozen.codes, state.frozen.lists)[drawn]
        scores, wanted = queries @ quantized.T, queries @ state.model.all_items()[drawn].T
    far = 0.0
    for row, user in enumerate(users):
        new = ~torch.isin(drawn, pairs.items[pairs.users == user])
        p, q = (
            (of[row, new] / state.config.model.temperature).softmax(0) for of in (wanted, scores)
        )
        far += float((p * (p / q).log()).sum()) / 20
    assert far > 0
    expected = (1 - share) * by_pairs + share * far
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    loss.backward()
    assert float(state.layer.codebooks.grad.abs().sum()) > 0


@pytest.mark.parametrize("missing", ["frozen_epochs", "frozen_negatives"])
def test_distillation_without_what_it_needs_is_refused(missing):
    made = config()
    settings = dataclasses.replace(made.train, distillation_share=0.5, **{missing: 0})
    with pytest.raises(ConfigError, match=f"distillation_share: got 0.5 with .*{missing} 0"):
        new_state(dataclasses.replace(made, train=settings))


def test_drawn_items_depend_on_the_step_alone(trained):
    state, _ = trained
    settings = dataclasses.replace(state.config.train, frozen_negatives=5)
    state.config = dataclasses.replace(state.config, train=settings)
    first = drawn_items(state)
    assert torch.equal(drawn_items(state), first)
    state.step += 1
    assert not torch.equal(drawn_items(state), first)


def test_codeword_use_is_that_of_the_codes_in_the_index(trained, taste):  # noqa: F811
    state, _ = trained
    few = torch.zeros_like(state.frozen.codes)
    state.frozen = state.frozen._replace(codes=few)
    figures = evaluate_state(state, taste[1], taste[0])
    assert figures["used_codewords"] == 1 / 16
    decoded = state.layer.decode(few, state.frozen.lists)
    wanted = float((state.model.all_items() - decoded).square().sum(1).mean())
    assert figures["distortion"] == pytest.approx(wanted, rel=1e-5)
