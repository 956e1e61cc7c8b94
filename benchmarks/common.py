"""What every benchmark writes beside its figures: machine, versions, seeds, command, commit."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from poeem.files import atomic_write

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("torch-poeem", "torch", "numpy", "faiss-cpu", "scann", "hnswlib")


def circumstances() -> dict[str, Any]:
    """Return where and with what the figures were measured."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "when": _STARTED,
        "command": "python " + " ".join([os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        "commit": _COMMIT,
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        "versions": versions,
    }


def write_result(name: str, figures: dict[str, Any]) -> Path:
    """Write figures with their circumstances to `results/<name>.json` and show them."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    text = json.dumps({"benchmark": name, **circumstances(), **figures}, indent=1)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n")
    print(json.dumps(figures, indent=1))
    print(f"written to {os.path.relpath(path)}")
    return path


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        ).stdout.strip()

    # Results that are being written are no change of the code that writes them.
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "..", ":!results")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


# Of the moment the run began: a long one may end when the tree has moved on.
_STARTED = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
_COMMIT = _commit()
