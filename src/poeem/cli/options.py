"""Command line options made from the settings of `poeem.config`; nothing is listed twice.

An option that was not given is None, and the help shows the setting's real default. Settings come
from the defaults, then a run's own where there is one, then `--config FILE`, then options.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import types
import typing
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from poeem.config import Config
from poeem.config_file import range_text, read_toml
from poeem.errors import ConfigError, MissingColumnError, PoeemError

# Where a name stands in several sections, this one keeps the plain option.
_MAIN_SECTION = "train"
_METAVARS: dict[Any, str] = {int: "N", float: "X", str: "TEXT"}
_CONFIG_HELP = "a TOML file of settings; see poeem train --show-config"

Sections = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Given:
    """What the user set: in a file, and by options, both as section -> name -> value."""

    file: Sections
    options: Sections

    def names(self, section: str) -> set[str]:
        """Return the names of the settings of a section that the user set."""
        return {name for given in (self.file, self.options) for name in given.get(section, {})}

    def config(self, base: Config | None = None) -> Config:
        """Return `base` (None = the defaults) with the file and then the options over it.

        Raises:
            ConfigError: an unknown section or setting, or a value out of range.
        """
        merged = (base or Config()).to_dict()
        for sections in (self.file, self.options):
            Config.from_dict(sections)  # names what is unknown before anything is merged
            for section, values in sections.items():
                merged[section] |= values
        return Config.from_dict(merged)


@dataclass(frozen=True)
class _Option:
    """One setting as an option."""

    section: str
    field: dataclasses.Field[Any]
    hint: Any
    flag: str

    @property
    def parameter(self) -> str:
        return f"{self.section}__{self.field.name}"

    def declare(self) -> inspect.Parameter:
        name = f"--{self.flag}"
        kind = self.hint if self.hint in (bool, int, float) else str
        if bool in (self.hint, *typing.get_args(self.hint)):  # not given: the setting's default
            name += f"/--no-{self.flag}"
            kind = bool
        text = f"{self.field.metadata['help']}{range_text(self.field)} "
        option = typer.Option(
            name,
            help=f"{text}[default: {_shown(self.field.default)}]".replace("[", r"\["),
            show_default=False,
            metavar=_METAVARS.get(kind),
            rich_help_panel=f"Settings: {self.section}",
        )
        return inspect.Parameter(
            self.parameter,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, option],
        )

    def parse(self, value: Any) -> Any:
        """Turn text into what the setting wants; the setting checks it."""
        if not isinstance(value, str) or self.hint is str:
            return value
        if typing.get_origin(self.hint) is tuple:
            words = [] if value == "none" else value.split(",")
            return tuple(self._number(int, word) for word in words)
        if value == "none":
            return None
        kind = next(k for k in typing.get_args(self.hint) if k is not types.NoneType)
        return value if kind is str else self._number(kind, value)

    def _number(self, kind: Callable[[str], Any], text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            raise ConfigError(f"--{self.flag}: got {text!r}, wanted a number") from None


def settings(
    *sections: str, skip: tuple[str, ...] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb `--config` and an option for every setting of some sections.

    The verb takes a keyword argument `given: Given` and does not list the options.

    Args:
        sections: of `Config`.
        skip: settings without an option, as "section.name".
    """
    options = _options(sections, skip)

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(verb)
        def wrapper(*args: Any, config: Path | None = None, **kwargs: Any) -> None:
            chosen: dict[str, dict[str, Any]] = {}
            for option in options:
                value = kwargs.pop(option.parameter)
                if value is not None:
                    chosen.setdefault(option.section, {})[option.field.name] = option.parse(value)
            file = {} if config is None else read_toml(config)
            try:
                verb(*args, given=Given(file, chosen), **kwargs)
            except PoeemError as error:
                _name_options(error, options)
                raise

        own = inspect.signature(verb, eval_str=True).parameters
        declared = [p for p in own.values() if p.name != "given"]
        declared.append(_config_file_parameter())
        declared += [option.declare() for option in options]
        wrapper.__signature__ = inspect.Signature(declared)  # type: ignore[attr-defined]
        # typer also looks here, and would find names that are not in the signature.
        wrapper.__annotations__ = {p.name: p.annotation for p in declared}
        del wrapper.__wrapped__
        return wrapper

    return decorate


def _name_options(error: PoeemError, options: list[_Option]) -> None:
    """Let an error name options where it names settings."""
    text = was = str(error)
    for option in options:
        setting = f"{type(getattr(Config(), option.section)).__name__}.{option.field.name}"
        text = re.sub(rf"\b{re.escape(setting)}\b", f"--{option.flag}", text)
        text = re.sub(rf"""\b{option.field.name} = (["'])(\w+)\1""", rf"--{option.flag} \2", text)
    if isinstance(error, MissingColumnError) and text == was:
        text += "; options such as --user-column and --item-column name the columns"
    if text != was:
        error.args = (text, *error.args[1:])


def _config_file_parameter() -> inspect.Parameter:
    return inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            Path | None, typer.Option("--config", metavar="FILE", help=_CONFIG_HELP)
        ],
    )


def _options(sections: tuple[str, ...], skip: tuple[str, ...]) -> list[_Option]:
    types_of: dict[str, Any] = {f.name: type(f.default) for f in dataclasses.fields(Config)}
    fields = [
        (section, field, typing.get_type_hints(types_of[section])[field.name])
        for section in sections
        for field in dataclasses.fields(types_of[section])
    ]
    # Also with those that are skipped, so that an option means the same in every command.
    uses = Counter(field.name for _, field, _ in fields)
    found = []
    for section, field, hint in fields:
        if f"{section}.{field.name}" in skip:
            continue
        flag = field.name.replace("_", "-")
        if uses[field.name] > 1 and section != _MAIN_SECTION:
            flag = f"{section}-{flag}"
        found.append(_Option(section, field, hint, flag))
    return found


def _shown(default: Any) -> str:
    """Return a default as a user would type it."""
    if default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return "yes" if default else "no"
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
