"""Settings as TOML: written with their meaning as comments, read back strictly."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from pathlib import Path
from typing import Any

from poeem.config import Config
from poeem.errors import ConfigError
from poeem.files import atomic_write


def read_toml(path: Path) -> dict[str, dict[str, Any]]:
    """Return the sections of a TOML file, for `Config.from_dict` to check.

    Raises:
        ConfigError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"config: {path} cannot be read: {error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"config: {path} is not TOML: {error}") from error


def write_config(config: Config, path: Path) -> None:
    """Write every setting, atomically.

    Raises:
        SaveError: the system refused; what was there before is whole.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(config_toml(config), encoding="utf-8")


def config_toml(config: Config) -> str:
    """Return all settings as TOML, each with its help, and its default where it differs."""
    lines: list[str] = []
    for section in dataclasses.fields(config):
        lines.append(f"[{section.name}]")
        values = getattr(config, section.name)
        for field in dataclasses.fields(values):
            value = getattr(values, field.name)
            comment = field.metadata["help"] + range_text(field)
            if value != field.default:
                comment += f"; default {_toml_value(field.default)}"
            lines += [f"# {comment}", f"{field.name} = {_toml_value(value)}"]
        lines.append("")
    return "\n".join(lines)


def range_text(field: dataclasses.Field[Any]) -> str:
    """Return a field's range or choices for people, "" where it has none."""
    low, high, choices = (field.metadata.get(key) for key in ("low", "high", "choices"))
    if choices is not None:
        return f" ({', '.join(choices)})"
    if low is not None and high is not None:
        return f" ({low} to {high})"
    if low is not None:
        return f" (at least {low})"
    return "" if high is None else f" (at most {high})"


def _toml_value(value: Any) -> str:
    if value is None:
        return '"none"'  # TOML has no null; the settings that may be none take this word
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # TOML has inf, -inf and nan, JSON has not
    # JSON writes strings, booleans and finite numbers as TOML wants them, except for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
