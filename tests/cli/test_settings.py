"""Where a setting comes from: default, file, option; and what is refused."""

import dataclasses
import tomllib

import pytest

from poeem.config import Config, TrainConfig
from poeem.config_file import config_toml
from tests.cli.conftest import Call


def shown(*arguments):
    call = Call("train", "--show-config", *arguments)
    assert call.code == 0, call.err
    return Config.from_dict(tomllib.loads(call.out))


def test_options_override_the_file_and_the_file_the_defaults(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("[layer]\nnum_lists = 4\nnum_codewords = 16\n[train]\nseed = 3\n")
    config = shown("--config", file, "--num-codewords", "32", "--layer-seed", "5")
    assert config.layer.num_lists == 4
    assert config.layer.num_codewords == 32
    assert (config.train.seed, config.layer.seed, config.data.seed) == (3, 5, 0)
    assert config.train.epochs == Config().train.epochs


def test_a_shown_configuration_reads_back(tmp_path):
    file = tmp_path / "settings.toml"
    title = 'a "quoted" \\ title\x7f €😀'
    given = ("--title-column", title, "--hidden-dims", "32,16", "--min-rating", "3.5")
    file.write_text(Call("train", "--show-config", *given).out, encoding="utf-8")
    config = shown("--config", file)
    assert config.data.title_column == title
    assert config.model.hidden_dims == (32, 16)
    assert config.data.min_rating == 3.5


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 1e300, 1e-7, -0.0])
def test_any_number_is_written_as_toml(value):
    train = dataclasses.replace(TrainConfig())
    object.__setattr__(train, "coarse_weight", value)  # past the check, which refuses some
    text = config_toml(dataclasses.replace(Config(), train=train))
    assert repr(tomllib.loads(text)["train"]["coarse_weight"]) == repr(value)


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_a_number_that_is_not_finite_is_refused(tmp_path, value):
    file = tmp_path / "settings.toml"
    file.write_text(f"[train]\nlearning_rate = {value}\n")
    for given in (("--config", file), (f"--learning-rate={value}",)):
        call = Call("train", "--show-config", *given)
        assert call.code == 2
        assert "--learning-rate: got" in call.err


@pytest.mark.parametrize(
    ("arguments", "where", "value"),
    [
        (("--no-rotation",), ("layer", "rotation"), False),
        (("--hidden-dims", "none"), ("model", "hidden_dims"), ()),
        (("--timestamp-column", "none"), ("data", "timestamp_column"), None),
        (("--build-batch-size", "7"), ("build", "batch_size"), 7),
        (("--batch-size", "7"), ("train", "batch_size"), 7),
        (("--temperature", "1"), ("model", "temperature"), 1.0),
    ],
)
def test_kinds_of_options(arguments, where, value):
    config = shown(*arguments)
    assert getattr(getattr(config, where[0]), where[1]) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[layers]\nnum_lists = 4", "section [layers]: unknown"),
        ("[layer]\nnum_list = 4", "unknown setting num_list"),
        ("[layer]\nnum_lists = -4", "got -4, wanted 0 to"),
        ("[layer\n", "is not TOML"),
        ("layer = 3", "wanted a table of settings"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, text, message):
    file = tmp_path / "settings.toml"
    file.write_text(text)
    call = Call("train", "--show-config", "--config", file)
    assert call.code == 2
    assert message in call.err
    assert call.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--num-codewords", "1"), "--num-codewords: got 1, wanted 2 to 65536"),
        (("--build-batch-size", "0"), "--build-batch-size: got 0, wanted at least 1"),
        (("--gradient", "none"), "wanted one of both, vectors"),
        (("--hidden-dims", "3,x"), "--hidden-dims: got 'x', wanted a number"),
        (("--min-rating", "high"), "--min-rating: got 'high', wanted a number"),
        (("--config", "missing.toml"), "missing.toml cannot be read"),
    ],
)
def test_an_option_out_of_its_range(arguments, message):
    call = Call("train", "--show-config", *arguments)
    assert call.code == 2
    assert message in call.err


@pytest.mark.parametrize(
    ("given", "warm", "decay", "frozen"),
    [
        ((), 4, 3, None),
        (("--epochs", "5"), 2, 2, None),
        (("--epochs", "1"), 0, 1, None),
        (("--epochs", "24"), 10, 3, None),
        (("--epochs", "24", "--warm-start-epoch", "18"), 18, 3, None),
        (("--epochs", "5", "--warm-start-epoch", "4"), 4, 1, None),
        (("--epochs", "5", "--decay-epochs", "4"), 2, 4, None),
        (("--warm-start-epoch", "9"), 9, 1, None),
        (("--warm-start-epoch", "7", "--frozen-epochs", "2"), 7, 1, 2),
    ],
)
def test_the_warm_start_fits_the_epochs(given, warm, decay, frozen):
    train = shown(*given).train
    assert (train.warm_start_epoch, train.decay_epochs, train.frozen_epochs) == (
        warm,
        decay,
        frozen,
    )


def test_a_scaled_warm_start_is_said(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("[train]\nepochs = 5\n")
    call = Call("train", "--show-config", "--config", file)
    assert "--warm-start-epoch 2: scaled to 5 epochs (the default is 4 of 10)" in call.err
    assert tomllib.loads(call.out)["train"]["warm_start_epoch"] == 2
    file.write_text("[train]\nepochs = 5\nwarm_start_epoch = 1\n")
    assert Call("train", "--show-config", "--config", file).err == ""


def test_an_unknown_option():
    call = Call("train", "--no-such-thing")
    assert call.code == 2
    assert "--no-such-thing" in call.err
