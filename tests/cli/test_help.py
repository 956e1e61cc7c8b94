"""Every verb explains itself, ends with an example, and lists every setting once."""

import dataclasses
import importlib
import shlex
import subprocess
import sys
import tomllib

import pytest

from poeem.cli import change, import_
from poeem.cli.app import app
from poeem.config import Config
from tests.cli.conftest import Call

MODULES = {"import": import_, "update": change, "remove": change, "compact": change}
VERBS = tuple(command.name for command in app.registered_commands)


def examples_of(verb):
    """Return the examples that stand in the module of a verb."""
    module = MODULES.get(verb) or importlib.import_module(f"poeem.cli.{verb}")
    name = f"{verb.upper()}_EXAMPLES" if module is change else "EXAMPLES"
    return getattr(module, name)


def test_every_verb_is_here():
    assert len(VERBS) == 14


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
    wanted = examples_of(verb).strip().splitlines()
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


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "poeem"]
    ran = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == Call("--version").out
    ran = subprocess.run([*command, "verify", "no.poeem"], capture_output=True, text=True)
    assert ran.returncode == 4
    assert "no.poeem" in ran.stdout


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
