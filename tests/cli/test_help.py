"""Every verb explains itself, ends with an example, and lists every setting once."""

import dataclasses
import importlib
import shlex
import tomllib

import pytest

from poeem.config import Config
from tests.cli.conftest import Call

VERBS = (
    "train",
    "build",
    "search",
    "evaluate",
    "inspect",
    "export",
    "import",
    "refresh",
    "demo",
    "compare",
)
MODULES = {"import": "import_"}  # the word is taken in Python


@pytest.mark.parametrize("verb", VERBS)
def test_help_ends_with_an_example(verb):
    call = Call(verb, "--help")
    assert call.code == 0
    example = call.out.split("Example:")[1]
    assert f"poeem {verb}" in example


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("width", [80, 200])
def test_names_and_examples_are_whole_at_any_width(verb, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    text = Call(verb, "--help").out
    assert "…" not in text
    options, examples = text.split("Example:")
    wanted = importlib.import_module(f"poeem.cli.{MODULES.get(verb, verb)}").EXAMPLES
    wanted = wanted.strip().splitlines()
    assert [line.strip() for line in examples.strip().splitlines()] == wanted
    assert max(map(len, options.splitlines())) <= width
    named = {word for line in options.splitlines() for word in line.split() if word[:2] == "--"}
    for example in wanted:
        used = [word for word in shlex.split(example) if word.startswith("--")]
        assert set(used) <= named, example


def test_top_help_names_every_verb_and_the_exit_codes():
    text = " ".join(Call("--help").out.split())
    assert all(verb in text for verb in VERBS)
    assert "Exit codes: 0 done; 1 anything unexpected; 2 usage" in text
    assert "130 stopped by Ctrl-C" in text


def test_no_verb_shows_the_help():
    assert "Usage" in Call().out + Call().err


def test_version():
    assert Call("--version").out.startswith("torch-poeem ")


def test_every_setting_has_an_option_with_its_default(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = " ".join(Call("train", "--help").out.split())
    for section in ("model", "layer", "train"):
        for field in dataclasses.fields(getattr(Config(), section)):
            if field.name != "pass_through_steps":
                assert f"-{field.name.replace('_', '-')} " in text, field.name
    assert "inverted lists; 0 = no coarse quantizer (0 to 16777216) [default: 0]" in text
    assert " --rotation " in text
    assert " --no-rotation " in text


def test_show_config_is_the_whole_configuration():
    text = Call("train", "--show-config", "--num-lists", "8").out
    config = Config.from_dict(tomllib.loads(text))
    assert config.layer.num_lists == 8
    assert config.to_dict() == Config.from_dict({"layer": {"num_lists": 8}}).to_dict()
    assert "# inverted lists; 0 = no coarse quantizer (0 to 16777216); default 0\n" in text
