"""Lists made by demand, against slow and obvious ways."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import poeem
from poeem.errors import ConfigError, DtypeError, InputError, NonFiniteError, ShapeError
from poeem.training import demand
from poeem.training.checkpoint import load_checkpoint, read_model, save_checkpoint
from poeem.training.demand import assign_within, demand_lists, fit_routes
from poeem.training.loop import train
from poeem.training.losses import route_softmax
from poeem.training.objective import quantized_share, quantizer_dropout, tail_dropout
from poeem.training.state import TrainingState, has_demand_lists

from .test_loop import NUM_ITEMS, NUM_USERS, config, new_state, taste  # noqa: F401 - the fixture

TEMPERATURE = 0.1


def unit(count, dim, seed):
    drawn = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=1)


@pytest.mark.parametrize("block", [7, 2**22])
@pytest.mark.parametrize("at_once", [24, 2**27])
def test_shares_and_choices_equal_the_slow_way(block, at_once, monkeypatch):
    monkeypatch.setattr(demand, "_BLOCK", block)
    monkeypatch.setattr(demand, "_DEMAND", at_once)
    queries, items, routes = unit(30, 8, 0), unit(50, 8, 1), unit(4, 8, 2)
    lists = torch.arange(50) % 4
    first = torch.arange(30) % 3  # nobody goes to list 3
    for least in (0.0, 0.2):
        p = torch.softmax(queries @ items.T / TEMPERATURE, 1)
        p = p.where(p >= least, 0.0)
        wanted = demand._Wanted(queries, items, TEMPERATURE, least)
        slow = torch.stack([p[:, lists == number].sum(1) for number in range(4)], 1)
        torch.testing.assert_close(wanted.shares(lists, 4), slow)
        values, choices = wanted.choices(first, items, routes)
        slow = torch.stack([p[first == number].sum(0) for number in range(4)])
        by_vector = demand._BY_VECTOR * torch.softmax(routes @ items.T, 0)
        torch.testing.assert_close(values, (slow + by_vector).sort(0, descending=True).values)
        torch.testing.assert_close((slow + by_vector).gather(0, choices), values)
    assert (p.sum(0) == 0).any()  # some item is wanted by nobody, and goes by its vector alone


def test_no_list_has_more_than_its_room_and_nobody_would_rather_swap():
    generator = torch.Generator().manual_seed(0)
    wants = torch.rand(6, 100, generator=generator) ** 4
    values, choices = wants.topk(6, dim=0)
    room = 19
    lists = assign_within(values, choices, 6, room)
    counts = torch.bincount(lists, minlength=6)
    assert counts.max() <= room
    assert counts.sum() == 100
    least = torch.tensor([wants[number, lists == number].min() for number in range(6)])
    for item in range(100):
        better = wants[:, item] > wants[lists[item], item]
        # Every list that wants it more is full, and of items it wants still more.
        assert (counts[better] == room).all()
        assert (least[better] > wants[better, item]).all()


def test_who_is_left_over_fills_the_lists_with_room():
    values, choices = torch.ones(1, 10), torch.zeros(1, 10, dtype=torch.int64)
    assert torch.bincount(assign_within(values, choices, 5, 2)).tolist() == [2] * 5


def test_room_for_more_than_all_is_room_for_all():
    """And costs no more memory than that."""
    queries, items = unit(200, 8, 0), unit(90, 8, 1)
    found = []
    for capacity in (6.0, 1e9, math.inf):
        generator = torch.Generator().manual_seed(0)
        found.append(
            demand_lists(
                queries, items, 6, temperature=TEMPERATURE, capacity=capacity, generator=generator
            )
        )
    for each in found[1:]:
        assert torch.equal(each.lists, found[0].lists)
        assert torch.equal(each.routes, found[0].routes)
    values, choices = torch.zeros(2, 10**5), torch.zeros(2, 10**5, dtype=torch.int64)
    assert (assign_within(values, choices, 10**4, 10**5) == 0).all()


def test_routes_come_near_the_shares():
    queries, wanted = unit(200, 8, 0), unit(5, 8, 1)
    shares = torch.softmax(queries @ wanted.T / TEMPERATURE, 1)
    begin = unit(5, 8, 2)
    routes = fit_routes(queries, shares, begin, TEMPERATURE, torch.Generator().manual_seed(0))
    losses = [
        -(shares * torch.log_softmax(queries @ r.T / TEMPERATURE, 1)).sum(1).mean()
        for r in (wanted, routes, begin)
    ]
    assert losses[1] < losses[0] + 0.05 * (losses[2] - losses[0])
    assert torch.equal(begin, unit(5, 8, 2))


def share_of_the_first(queries, items, found):
    p = torch.softmax(queries @ items.T / TEMPERATURE, 1)
    first = (queries @ found.routes.T).argmax(1)
    return float((p * (found.lists == first.unsqueeze(1))).sum(1).mean())


def test_the_first_list_holds_more_of_what_is_wanted_than_one_of_nearest_vectors():
    queries, items = unit(400, 8, 0), unit(1000, 8, 1)
    found = {
        rounds: demand_lists(
            queries,
            items,
            10,
            temperature=TEMPERATURE,
            rounds=rounds,
            generator=torch.Generator().manual_seed(2),
        )
        for rounds in (0, 3)
    }
    by_nearest, by_demand = (share_of_the_first(queries, items, f) for f in found.values())
    assert by_demand > 1.05 * by_nearest
    assert torch.bincount(found[3].lists).max() <= 125


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"num_lists": 100}, ShapeError, "got 50 rows, wanted at least 100"),
        ({"num_lists": 0}, ConfigError, "num_lists, capacity"),
        ({"capacity": 0.5}, ConfigError, "num_lists, capacity"),
        ({"capacity": math.nan}, ConfigError, "num_lists, capacity"),
        ({"temperature": 0.0}, ConfigError, "temperature"),
        ({"queries": torch.full((30, 8), math.nan)}, NonFiniteError, "queries"),
        ({"items": torch.full((50, 8), math.inf)}, NonFiniteError, "items"),
        ({"queries": torch.zeros(0, 8)}, ShapeError, "queries"),
        ({"queries": torch.zeros(30, 5)}, ShapeError, "queries"),
        ({"items": [1.0]}, DtypeError, "items"),
    ],
)
def test_bad_input_is_refused_by_name(changed, error, message):
    good = {"queries": unit(30, 8, 0), "items": unit(50, 8, 1), "num_lists": 4}
    good |= {"temperature": TEMPERATURE, "generator": torch.Generator()}
    with pytest.raises(error, match=message):
        demand_lists(**(good | changed))


def test_the_loss_on_routes_is_the_cross_entropy_over_all_lists():
    queries, routes = unit(20, 8, 0), unit(6, 8, 1)
    lists = torch.arange(20) % 6
    loss = route_softmax(queries, routes, lists, temperature=TEMPERATURE)
    p = torch.softmax(queries @ routes.T / TEMPERATURE, 1)
    torch.testing.assert_close(loss, -p[torch.arange(20), lists].log().mean())
    floats = torch.zeros(20)
    for wrong, error in ((lists[:5], ShapeError), (lists + 1, InputError), (floats, DtypeError)):
        with pytest.raises(error):
            route_softmax(queries, routes, wrong, temperature=TEMPERATURE)
    with pytest.raises(ConfigError, match="temperature"):
        route_softmax(queries, routes, lists, temperature=0.0)


@pytest.fixture(params=["product", "residual"])
def settings(request):
    made = config(num_lists=4, list_choice="demand")
    return dataclasses.replace(made, layer=dataclasses.replace(made.layer, family=request.param))


def test_lists_come_when_codes_freeze_and_go_into_the_index(taste, settings):  # noqa: F811
    state = new_state(settings)
    assert state.layer.num_lists == 0
    train(state, taste[0])
    assert state.layer.num_lists == 4
    assert torch.bincount(state.frozen.lists).max() <= 1.25 * NUM_ITEMS / 4
    vectors = state.model.all_items()
    index = poeem.build_index(state.quantizer(), None, vectors, metric="ip")
    assert index.num_lists == 4
    with torch.no_grad():
        queries = state.model.encode_queries(taste[0].histories.of(torch.arange(5)))
        decoded = state.layer.decode(state.frozen.codes, state.frozen.lists)
    found = index.search(queries.numpy(), k=len(vectors))
    wanted = (queries @ decoded.T).gather(1, torch.from_numpy(found.ids))
    np.testing.assert_allclose(found.scores, wanted.numpy(), atol=1e-5)
    # With one list visited, the items are those of the list that the loss was about.
    first = (queries @ state.layer.list_vectors().T).argmax(1)
    one = index.search(queries.numpy(), k=len(vectors), num_probes=1).ids
    for row, number in zip(one, first, strict=True):
        got = set(row[row >= 0].tolist())
        assert got == set((state.frozen.lists == number).nonzero()[:, 0].tolist())


def test_centroids_are_short_beside_vectors_and_learn(taste, settings):  # noqa: F811
    state = new_state(settings)
    begun = {}
    add_lists = state.add_lists

    def kept(found):
        add_lists(found)
        begun["centroids"] = state.layer.centroids.detach().clone()

    state.add_lists = kept
    train(state, taste[0])
    moved = (state.layer.centroids - begun["centroids"]).norm() / begun["centroids"].norm()
    assert 0.001 < moved < 2
    assert state.layer.centroids.norm(dim=1).mean() < 0.03


def test_a_checkpoint_holds_lists_and_routes(taste, settings, tmp_path):  # noqa: F811
    state = train(new_state(settings), taste[0])
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(state, path)
    again = new_state(settings)
    load_checkpoint(again, path)
    for other in (again, read_model(path)):
        assert torch.equal(other.layer.centroids, state.layer.centroids)
        assert torch.equal(other.frozen.lists, state.frozen.lists)
        assert other.frozen.route_scale == state.frozen.route_scale
    assert again.tensors().keys() == state.tensors().keys()
    assert len(again.adam.param_groups) == len(state.adam.param_groups)
    load_checkpoint(again, path)  # once more: there is room already
    assert torch.equal(again.layer.centroids, state.layer.centroids)


@pytest.mark.parametrize(
    ("family", "choice", "frozen", "wanted"),
    [
        ("residual", "auto", 1, True),
        ("product", "auto", 1, False),
        ("residual", "auto", 0, False),
        ("residual", "nearest", 1, False),
        ("product", "demand", 1, True),
    ],
)
def test_who_gets_lists_by_demand(family, choice, frozen, wanted):
    made = config(num_lists=4, list_choice=choice, frozen_epochs=frozen)
    layer = dataclasses.replace(made.layer, family=family)
    assert has_demand_lists(dataclasses.replace(made, layer=layer)) == wanted
    none = dataclasses.replace(layer, num_lists=0)
    assert not has_demand_lists(dataclasses.replace(made, layer=none))


def test_demand_without_frozen_epochs_is_refused():
    with pytest.raises(ConfigError, match="frozen_epochs 0, wanted at least 1"):
        new_state(config(num_lists=4, list_choice="demand", frozen_epochs=0))


def test_dropout_of_later_codewords_is_for_long_codes(taste):  # noqa: F811
    pairs = taste[0]

    def share(tower="id", times=1, num_subspaces=20, **layer):
        made = config(tower)
        long = {"family": "residual", "num_subspaces": num_subspaces, "num_codewords": 256}
        long |= layer
        made = dataclasses.replace(made, layer=dataclasses.replace(made.layer, **long))
        more = {"users": pairs.users.repeat(times), "items": pairs.items.repeat(times)}
        state = new_state(made)
        found = tail_dropout(state, dataclasses.replace(pairs, **more))
        return found, quantized_share(state.config, found)

    each = len(pairs) / NUM_USERS
    some, many = math.ceil(16 / each), math.ceil(48 / each)
    assert share() == (0.0, 0.5)  # so few pairs have the other kind
    assert share(times=some) == (1.0, 1.0)
    assert share(times=many) == (0.0, 0.5)
    assert share(times=some, num_subspaces=9) == share(times=some, num_subspaces=16) == (1.0, 1.0)
    assert share(times=some, num_subspaces=8) == (0.0, 1.0)
    assert share("history") == share("history", times=many) == (1.0, 1.0)
    assert share("history", num_subspaces=16) == (0.0, 1.0)
    product = {"family": "product", "num_subspaces": 16, "num_codewords": 1024}
    assert share("history", **product, num_samples=1024) == (0.0, 0.5)
    assert share(times=many, tail_dropout=0.3) == (0.3, 1.0)
    assert share("history", tail_dropout=0.0) == (0.0, 0.5)


def test_dropout_is_for_ids_with_few_pairs(taste):  # noqa: F811
    pairs = taste[0]
    assert len(pairs) < 16 * NUM_USERS
    assert quantizer_dropout(new_state(config()), pairs) == 1
    assert quantizer_dropout(new_state(config("history")), pairs) == 0
    many = dataclasses.replace(pairs, users=pairs.users.repeat(16), items=pairs.items.repeat(16))
    assert quantizer_dropout(new_state(config()), many) == 0
    made = config()
    told = dataclasses.replace(made, layer=dataclasses.replace(made.layer, quantizer_dropout=0.2))
    product = dataclasses.replace(told.layer, family="product")  # has no later codewords
    assert quantizer_dropout(new_state(dataclasses.replace(made, layer=product)), pairs) == 0
    state: TrainingState = new_state(told)
    assert quantizer_dropout(state, pairs) == 0.2
    train(state, pairs)
    assert state.layer.quantizer_dropout == 0.2
