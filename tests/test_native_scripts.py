"""The native tests, with sanitizers and for another processor, where the tools are there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MISSING = 77


def test_an_environment_whose_making_was_cut_is_made_again(tmp_path):
    """`activate` comes last; without it the script would fail for good."""
    environment = tmp_path / "env"
    (environment / "bin").mkdir(parents=True)
    python = environment / "bin" / "python"
    python.write_text('#!/bin/sh\necho called "$@"\n')
    maker = tmp_path / "python3"
    maker.write_text(
        f'#!/bin/sh\necho made "$@"\necho "PATH={python.parent}:$PATH" > "$3/bin/activate"\n'
    )
    for program in (python, maker):
        program.chmod(0o755)
    shell = ["bash", "-euc", "source scripts/environment dev"]
    variables = {**os.environ, "POEEM_VENV": str(environment), "PYTHON": str(maker)}
    for makes in (True, False):
        done = subprocess.run(shell, cwd=ROOT, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert (f"made -m venv {environment}" in done.stdout) == makes
        assert "called -m pip install" in done.stdout


# 13 shares no factor with the loops of the test, so every size and kind is met.
@pytest.mark.parametrize(
    ("script", "build", "every", "found"),
    [
        ("sanitize", "POEEM_SANITIZE_BUILD", "13", "nothing found"),
        ("neon", "POEEM_NEON_BUILD", "67", "chosen: neon"),
        ("older", "POEEM_OLDER_BUILD", "401", "chosen: avx2"),
    ],
)
def test_all_kernels_agree(script, build, every, found, tmp_path):
    environment = os.environ | {build: str(tmp_path), "POEEM_EVERY": every}
    environment.setdefault("POEEM_INSTALL", "0")  # installing is for who asks for it
    done = subprocess.run(
        [str(ROOT / "scripts" / script)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == MISSING:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all kernels agree" in done.stdout
    assert found in done.stdout
