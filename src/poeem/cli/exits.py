"""From errors to exit codes and one clear line. No traceback, except for what is a bug of ours."""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from poeem.errors import (
    CheckpointError,
    ConfigError,
    IndexFileError,
    InputError,
    MissingDependencyError,
    NotWarmError,
    PoeemError,
    SaveError,
    TrainingInterrupted,
    install_hint,
)

UNEXPECTED = 1
INTERRUPTED = 130

EXITS: tuple[tuple[int, str, tuple[type[PoeemError], ...]], ...] = (
    (2, "usage, a setting, or a package that is not installed", (ConfigError,)),
    (2, "", (MissingDependencyError,)),
    (3, "data or another input cannot be used", (InputError,)),
    (4, "an index file cannot be used", (IndexFileError,)),
    (5, "a checkpoint cannot be used", (CheckpointError, NotWarmError)),
    (6, "saving failed, e.g. a full disk", (SaveError,)),
    (INTERRUPTED, "stopped by Ctrl-C", (TrainingInterrupted,)),
)
"""Code, meaning, errors; the first line that fits counts: the special before the general."""

# Package -> the extra of ours that brings it.
_EXTRAS = {
    "torch": "train",
    "pyarrow": "train",
    "typer": "cli",
    "rich": "cli",
    "faiss": "faiss",
    "scann": "compare",
    "annoy": "compare",
    "matplotlib": "plot",
    "tensorboard": "tensorboard",
}


def describe_exits() -> str:
    """Return the exit codes for the help."""
    meanings = [f"{code} {meaning}" for code, meaning, _ in EXITS if meaning]
    return "; ".join(["0 done", f"{UNEXPECTED} anything unexpected", *meanings])


def exit_code(error: PoeemError) -> int:
    """Return the code for an error of ours."""
    return next((code for code, _, kinds in EXITS if isinstance(error, kinds)), UNEXPECTED)


def reported(function: Callable[..., None]) -> Callable[..., None]:
    """Wrap a function so that errors of ours end the process with a line and a code."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except PoeemError as error:
            _end(error)
        except ModuleNotFoundError as error:
            _end(_missing(error))
        except OSError as error:
            if error.filename is not None:
                _end(InputError(f"{error.filename}: {error.strerror}"))
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _forget_output()
            _end(SaveError(f"output, or a file beside it, cannot be written: {error.strerror}"))
        except KeyboardInterrupt:
            sys.stderr.write("error: stopped by you\n")
            raise SystemExit(INTERRUPTED) from None

    return wrapper


def _forget_output() -> None:
    """Let what is left of the output go nowhere, or Python would fail to write it once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _end(error: PoeemError) -> None:
    line = " ".join(str(error).split())
    sys.stderr.write(f"error: {line}\n")
    raise SystemExit(exit_code(error)) from error


def _missing(error: ModuleNotFoundError) -> MissingDependencyError:
    """Return which package of which extra is missing; other modules are a bug and re-raised."""
    package = (error.name or "").split(".")[0]
    if package not in _EXTRAS:
        raise error
    extra = _EXTRAS[package]
    return MissingDependencyError(
        f"this needs {package}, which is not installed; {install_hint(extra)}"
    )
