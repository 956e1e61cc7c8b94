"""A disk that is really full; test_durability.py uses a limit where none may be mounted."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DISK = "mount -t tmpfs -o size=3m tmpfs"


def unshared(command: str) -> subprocess.CompletedProcess[str]:
    """Run where mounts are seen by nobody else and end with the process."""
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c", command]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_disk_that_is_full_loses_nothing(tmp_path):
    folder = shlex.quote(str(tmp_path))
    try:
        may_mount = unshared(f"{DISK} {folder}").returncode == 0
    except FileNotFoundError:
        may_mount = False
    if not may_mount:
        pytest.skip("no disk may be mounted here")
    done = unshared(
        f"{DISK} {folder} && {shlex.quote(sys.executable)} -m tests.live.full_disk {folder}"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "held\n"
