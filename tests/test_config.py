"""Settings: defaults, ranges, dictionaries."""

import dataclasses

import pytest

from poeem.config import Config, LayerConfig, ModelConfig, TrainConfig, build, flat_arguments
from poeem.errors import ConfigError


def test_round_trip():
    config = Config(layer=LayerConfig(num_lists=8), model=ModelConfig(hidden_dims=(4, 2)))
    assert Config.from_dict(config.to_dict()) == config


def test_every_setting_has_a_help_text():
    for section in dataclasses.fields(Config):
        for field in dataclasses.fields(section.default):
            assert field.metadata["help"], f"{section.name}.{field.name}"


def test_ints_become_floats_and_lists_tuples():
    assert type(TrainConfig(learning_rate=1).learning_rate) is float
    assert ModelConfig(hidden_dims=[3]).hidden_dims == (3,)
    assert LayerConfig(pass_through_steps="none").pass_through_steps is None


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (LayerConfig, {"num_codewords": 65_537}, "wanted 2 to 65536"),
        (LayerConfig, {"num_subspaces": 0}, "wanted 1 to 4096"),
        (LayerConfig, {"num_subspaces": True}, "wanted int"),
        (LayerConfig, {"num_subspaces": 2.5}, "wanted int"),
        (LayerConfig, {"distortion_weight": float("nan")}, "wanted a finite number"),
        (TrainConfig, {"learning_rate": float("inf")}, "wanted a finite number"),
        (LayerConfig, {"gradient": "up"}, "one of both, vectors"),
        (LayerConfig, {"lists": 3}, "unknown setting lists; known are family, num_subspaces"),
        (ModelConfig, {"hidden_dims": [0]}, "list of positive integers"),
        (TrainConfig, {"epochs": "many"}, "wanted int"),
    ],
)
def test_bad_settings(cls, settings, message):
    with pytest.raises(ConfigError, match=message):
        build(cls, settings)


def test_bad_sections():
    with pytest.raises(ConfigError, match=r"section \[tower\]: unknown, wanted one of data"):
        Config.from_dict({"tower": {}})
    with pytest.raises(ConfigError, match="wanted a table of settings"):
        Config.from_dict({"model": 3})


def test_flat_arguments_lists_each_field_once():
    assert LayerConfig(**flat_arguments(LayerConfig(num_lists=3))) == LayerConfig(num_lists=3)
