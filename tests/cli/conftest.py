"""A small table, a run trained on it once per worker, and a way to call the command line."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from poeem.cli.app import app

# A model small enough to train in a second, on tables of `write_table`.
SMALL = (
    *("--dim", "16", "--num-subspaces", "4", "--num-codewords", "16", "--batch-size", "64"),
    *("--epochs", "3", "--warm-start-epoch", "1", "--kmeans-iterations", "3"),
    *("--rotation-iterations", "3", "--query-tower", "history", "--num-threads", "1"),
)
MAIN = "from poeem.cli.main import main; main()"


class Call:
    """A finished call of the command line, in this process."""

    def __init__(self, *arguments):
        result = CliRunner().invoke(app, [str(a) for a in arguments], prog_name="poeem")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr

    @property
    def json(self):
        assert self.code == 0, self.err
        return json.loads(self.out)


def subprocess_call(*arguments, before="", **options):
    """Start the command line in a process of its own; `before` is Python to run first."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", f"{before}\n{MAIN}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def write_table(path, num_users=60, num_items=40, pairs_per_user=12, seed=0):
    """Write a .csv of users who like items near their own number; ids of items are text."""
    rng = np.random.default_rng(seed)
    lines = ["user,item,title,timestamp"]
    for user in range(num_users):
        near = user * num_items // num_users + rng.permutation(2 * pairs_per_user)[:pairs_per_user]
        for item in near % num_items:
            time = rng.integers(1000)
            lines.append(f"{user + 100},A{item},THING NUMBER {item},{time}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("table") / "table.csv")


@pytest.fixture(scope="session")
def run(table, tmp_path_factory):
    """The folder of a finished run; read it only."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    call = Call("train", table, "--out", folder, *SMALL)
    assert call.code == 0, call.err
    return folder
