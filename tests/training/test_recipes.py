"""Recipes by name: what the paper's is, whatever the defaults are."""

import dataclasses

import pytest

from poeem.config import Config, LayerConfig, ModelConfig, TrainConfig
from poeem.errors import ConfigError
from poeem.training.loop import schedule
from poeem.training.recipes import OURS, RECIPES, recipe_config, resolved
from poeem.training.twin import LeftOpen, left_open, settings_mark

# Settings that the paper's recipe leaves as they are: sizes, the twin's schedule, the starting
# point, and what product codes without lists do not use.
LEFT = {
    *("num_subspaces", "num_codewords", "num_lists", "pass_through_steps", "num_samples"),
    *("kmeans_iterations", "rotation_iterations", "revive_window", "seed", "distortion_weight"),
    *("beam", "query_power", "refit_rounds", "quantizer_dropout", "tail_dropout"),
    *("epochs", "warm_start_epoch", "batch_size", "learning_rate", "rotation_learning_rate"),
    *("decay_epochs", "coarse_weight", "logq_correction", "eval_every", "eval_users"),
    *("checkpoint_every", "num_threads", "device", "refit_below", "refit_beam"),
    *(
        "frozen_rate",
        "frozen_negatives",
        "frozen_bits",
        "list_choice",
        "list_capacity",
        "list_rounds",
    ),
}


def test_the_papers_recipe_sets_all_that_is_not_left():
    """A new setting of ours must be decided upon here, or it would flow into the paper's recipe."""
    layer = LayerConfig(family="residual", rotation=False, gradient="both", commitment_weight=3.0)
    layer = dataclasses.replace(layer, parallel_weight=2.0)
    train = TrainConfig(quantized_share=0.5, frozen_epochs=2, codebook_learning_rate=0.5)
    train = dataclasses.replace(train, distillation_share=0.5)
    paper = recipe_config("paper", Config(layer=layer, train=train), 4, 7)
    for was, now in ((layer, paper.layer), (train, paper.train)):
        names = {field.name for field in dataclasses.fields(was)}
        moved = {name for name in names if getattr(was, name) != getattr(now, name)}
        assert names - LEFT <= moved, f"decide on {names - LEFT - moved}"
    assert (paper.layer.family, paper.layer.rotation) == ("product", True)
    by_demand = dataclasses.replace(train, list_choice="demand")
    paper_lists = recipe_config("paper", Config(layer=layer, train=by_demand), 4, 7)
    assert paper_lists.train.list_choice == "nearest"  # codes never freeze
    assert (paper.layer.num_subspaces, paper.layer.seed, paper.train.seed) == (4, 7, 7)
    assert paper.train.frozen_epochs == 0
    assert paper.train.codebook_learning_rate == train.learning_rate


@pytest.mark.parametrize("family", ["product", "residual"])
def test_ours_is_the_family_of_the_settings(family):
    config = Config(layer=LayerConfig(family=family))
    name = resolved(OURS, config)
    assert name in RECIPES
    wanted = dataclasses.replace(config.layer, num_subspaces=16)
    assert recipe_config(name, config, 16, 0).layer == wanted
    assert resolved("paper", config) == "paper"


@pytest.mark.parametrize(
    ("num_bytes", "num_codewords", "codes"), [(8, 256, 8), (8, 16, 16), (8, 512, 4), (1, 16, 2)]
)
def test_codes_fill_the_bytes(num_bytes, num_codewords, codes):
    config = Config(layer=LayerConfig(num_codewords=num_codewords))
    assert recipe_config("ours-residual", config, num_bytes, 0).layer.num_subspaces == codes


def test_bytes_without_room_for_a_code():
    with pytest.raises(ConfigError, match="bytes: got 1, wanted at least 2, one code of 512"):
        recipe_config("paper", Config(layer=LayerConfig(num_codewords=512)), 1, 0)


def test_an_unknown_recipe():
    with pytest.raises(ConfigError, match="wanted one of paper, ours-product"):
        recipe_config("nothing", Config(), 8, 0)


def test_a_mark_changes_with_what_counts():
    config = Config()

    def marks(**train):
        changed = dataclasses.replace(config, train=dataclasses.replace(config.train, **train))
        return settings_mark(changed, joint=True), settings_mark(changed, joint=False)

    joint, twin = marks()
    assert marks(num_threads=3) == (joint, twin)
    assert marks(frozen_epochs=3)[0] != joint
    assert marks(frozen_epochs=1) == (joint, twin)  # what results say of the time before "none"
    assert marks(frozen_epochs=3)[1] == twin
    assert marks(frozen_rate=0.9)[0] != joint
    assert marks(distillation_share=0.5)[0] != joint
    assert marks(distillation_share=0.5)[1] == twin
    assert marks(frozen_epochs=0, frozen_rate=0.9) == marks(frozen_epochs=0)
    assert marks(learning_rate=1.0)[0] != joint
    assert marks(learning_rate=1.0)[1] != twin
    other = dataclasses.replace(config, layer=LayerConfig(num_subspaces=4))
    assert settings_mark(other, joint=True) != joint
    assert settings_mark(other, joint=False) == twin
    costly = dataclasses.replace(config, layer=LayerConfig(parallel_weight=2.0))
    assert settings_mark(costly, joint=True) != joint
    assert settings_mark(costly, joint=False) == twin


class Steps:
    """Data of which only the steps of an epoch are known, and whether they are texts."""

    def __init__(self, texts, steps_of_an_epoch):
        self.texts = texts
        self.pairs = self
        self.steps = steps_of_an_epoch
        self.num_users = 1

    def __len__(self):
        return 20  # pairs

    def num_batches(self, batch_size):
        return self.steps


def test_a_mark_says_where_few_steps_are_others():
    """Results of texts from before 1,000 steps were few count where it makes no difference."""
    config = Config()

    def few(texts, steps_of_an_epoch):
        return left_open(Steps(texts, steps_of_an_epoch), config).refit_below

    assert [few(None, n) for n in (1, 50, 500)] == [100, 100, 100]
    assert [few(("q", "d"), n) for n in (19, 20, 199, 200)] == [100, 1000, 1000, 100]
    config = Config(model=ModelConfig(query_tower="history"))
    assert [few(None, n) for n in (19, 20, 199, 200)] == [100, 1000, 1000, 100]
    more = LeftOpen(1000)
    assert settings_mark(config, joint=True) != settings_mark(config, joint=True, left=more)
    assert settings_mark(config, joint=False) == settings_mark(config, joint=False, left=more)
    never = dataclasses.replace(config, train=TrainConfig(frozen_epochs=0))
    assert settings_mark(never, joint=True) == settings_mark(never, joint=True, left=more)


@pytest.mark.parametrize(
    ("texts", "query_tower", "ids"),
    [
        (None, "auto", True),
        (None, "id", True),
        (None, "history", False),
        (("q", "d"), "auto", False),
        (("q", "d"), "text", False),
        (("q", "d"), "id", True),
    ],
)
def test_whose_users_are_ids(texts, query_tower, ids):
    config = Config(model=ModelConfig(query_tower=query_tower))
    for steps_of_an_epoch in (1, 60, 400):
        assert left_open(Steps(texts, steps_of_an_epoch), config).users_are_ids == ids


def test_a_mark_knows_which_codewords_learn_in_the_end():
    """Results of codes in which all of them do stay what they were."""
    yes, no = LeftOpen(users_are_ids=True), LeftOpen()

    def mark(left, told=None, epochs=1, **layer):
        train = TrainConfig(frozen_bits=told, frozen_epochs=epochs)
        return settings_mark(Config(layer=LayerConfig(**layer), train=train), joint=True, left=left)

    long = {"num_subspaces": 32}
    assert mark(yes, **long) != mark(no, **long)
    assert mark(yes, **long) == mark(no, 64, **long)
    assert mark(no, **long) == mark(yes, 0, **long) == mark(yes, 256, **long)
    assert mark(yes, 128, **long) not in (mark(yes, **long), mark(no, **long))
    assert (
        mark(yes, num_subspaces=16) == mark(no, num_subspaces=16) != mark(no, 64, num_subspaces=16)
    )
    product = {"num_subspaces": 32, "family": "product"}
    assert mark(yes, **product) == mark(no, **product)
    assert mark(yes, epochs=0, **long) == mark(no, epochs=0, **long)


def test_a_mark_knows_whether_later_codewords_are_left_out():
    """Results of shorter codes, of product codes and of other data stay what they were."""
    yes, no = LeftOpen(tail_dropout=1.0), LeftOpen()

    def mark(left, **layer):
        return settings_mark(Config(layer=LayerConfig(**layer)), joint=True, left=left)

    long = {"num_subspaces": 32}
    assert mark(yes, **long) != mark(no, **long)
    assert mark(yes, **long) == mark(no, **long, tail_dropout=1.0)
    assert mark(no, **long) == mark(yes, **long, tail_dropout=0.0)
    assert mark(yes, **long, tail_dropout=0.5) not in (mark(yes, **long), mark(no, **long))
    ids = LeftOpen(tail_dropout=1.0, users_are_ids=True)
    assert mark(ids, num_subspaces=16) == mark(no, num_subspaces=16, tail_dropout=1.0)
    assert mark(ids, num_subspaces=8) == mark(no, num_subspaces=8)
    for same in (
        {"num_subspaces": 16},
        {"num_subspaces": 32, "num_codewords": 16},
        {"num_subspaces": 32, "family": "product"},
        {"num_subspaces": 32, "quantizer_dropout": 1.0},
    ):
        assert mark(yes, **same) == mark(no, **same), same


@pytest.mark.parametrize("item_tower", ["auto", "id"])
@pytest.mark.parametrize("query_tower", ["auto", "history"])
@pytest.mark.parametrize("texts", [None, ("q", "d")])
@pytest.mark.parametrize("steps_of_an_epoch", [1, 25, 60, 400])
def test_marks_are_equal_where_and_only_where_the_last_phase_is(
    texts, query_tower, item_tower, steps_of_an_epoch
):
    data, found = Steps(texts, steps_of_an_epoch), {}
    made_of = {"texts": texts is not None and item_tower != "id"}
    made_of["histories"] = query_tower == "history"
    for frozen in (None, 0, 1, 2, 3):
        for few in (None, 100, 1000):
            train = TrainConfig(epochs=12, warm_start_epoch=6)
            train = dataclasses.replace(train, frozen_epochs=frozen, refit_below=few)
            model = ModelConfig(query_tower=query_tower, item_tower=item_tower)
            config = Config(train=train, model=model)
            mark = settings_mark(config, joint=True, left=left_open(data, config))
            told = schedule(train, steps_of_an_epoch, **made_of)
            after = (12 - 6 - told.frozen_epochs) * steps_of_an_epoch
            fits = told.frozen_epochs > 0 and after < told.refit_below
            found.setdefault(mark, set()).add((told.frozen_epochs, fits))
    assert all(len(phases) == 1 for phases in found.values()), found
