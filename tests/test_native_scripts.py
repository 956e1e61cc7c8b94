"""The native tests, with sanitizers and for another processor, where the tools are there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MISSING = 77


# 13 shares no factor with the loops of the test, so every size and kind is met.
@pytest.mark.parametrize(
    ("script", "build", "every", "found"),
    [
        ("sanitize", "POEEM_SANITIZE_BUILD", "13", "nothing found"),
        ("neon", "POEEM_NEON_BUILD", "67", "chosen: neon"),
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
