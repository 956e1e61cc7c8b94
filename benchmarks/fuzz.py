"""Runs the fuzzers for as long as told and adds what they tried to results/fuzz.json.

    scripts/fuzz native --runs 5000000 --jobs 2
    scripts/fuzz python --seconds 600

native: native/fuzz/engine.cpp, libFuzzer with the address and undefined-behaviour sanitizers.
python: tests/fuzz/index_file.py, atheris over `Index.open` and what an opened index can be asked.
Both begin with the corpus of tests/fuzz_corpus; --keep-corpus replaces it by what was found. An
input that fails is left in build/fuzz/failures, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, circumstances, write_result

ROOT = Path(__file__).parents[1]
FAILURES = ROOT / "build" / "fuzz" / "failures"
CORPUS = ROOT / "tests" / "fuzz_corpus"
COMMANDS = {
    "native": [str(ROOT / "build" / "fuzz" / "fuzz_engine")],
    "python": [sys.executable, "-m", "tests.fuzz.index_file"],
}
ENTRIES = {
    "native": "search, segments, norms, ids, changes, nearest, residual encoding; kernels of a "
    "search against the scalar one",
    "python": "Index.open, search, reconstruct, titles and info of damaged and crafted files",
}
SANITIZERS = {"native": ["address", "undefined"], "python": []}
MAX_INPUT_BYTES = {"native": 2048, "python": 4096}


def main() -> None:
    """Fuzz one part and add its figures to the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=list(COMMANDS))
    parser.add_argument("--runs", type=int, default=0, help="inputs in all; 0 = no limit")
    parser.add_argument("--seconds", type=int, default=0, help="for so long; 0 = no limit")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--keep-corpus", action="store_true")
    arguments = parser.parse_args()
    if not arguments.runs and not arguments.seconds:
        parser.error("wanted --runs or --seconds")
    FAILURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        corpora = [unpack(arguments.part, Path(folder) / str(j)) for j in range(arguments.jobs)]
        figures = run(arguments, corpora)
        if arguments.keep_corpus and not figures["crashes"]:
            keep(arguments.part, corpora, Path(folder) / "merged")
    add_result(arguments.part, figures)
    sys.exit(1 if figures["crashes"] else 0)


def run(arguments: argparse.Namespace, corpora: list[Path]) -> dict[str, Any]:
    """Run the jobs side by side and return what they say of themselves."""
    runs = -(-arguments.runs // arguments.jobs) if arguments.runs else -1
    started = time.monotonic()
    jobs = [
        start(arguments.part, [f"-runs={runs}", f"-max_total_time={arguments.seconds}"], corpus)
        for corpus in corpora
    ]
    said = [job.communicate()[0] for job in jobs]
    for job, text in zip(jobs, said, strict=True):
        if job.returncode:
            sys.stderr.write(text[-5000:])
    return {
        "entries": ENTRIES[arguments.part],
        "inputs": sum(last_number(r"stat::number_of_executed_units:\s+(\d+)", one) for one in said),
        "crashes": sum(job.returncode != 0 for job in jobs),
        "seconds": round(time.monotonic() - started),
        "jobs": arguments.jobs,
        "sanitizers": SANITIZERS[arguments.part],
        "edges_covered": max(last_number(r"cov: (\d+)", one) for one in said),
    }


def start(part: str, options: list[str], *corpora: Path) -> subprocess.Popen[str]:
    """Start a fuzzer; its words go to a pipe."""
    return subprocess.Popen(
        [
            *COMMANDS[part],
            *options,
            f"-max_len={MAX_INPUT_BYTES[part]}",
            f"-artifact_prefix={FAILURES}/{part}-",
            "-print_final_stats=1",
            "-reload=0",
            "-len_control=0",
            "-timeout=120",
            *map(str, corpora),
        ],
        cwd=ROOT,
        env={**os.environ, "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def last_number(pattern: str, text: str) -> int:
    """Return the last number that a fuzzer printed in this place; 0 = none."""
    return int((re.findall(pattern, text) or ["0"])[-1])


def unpack(part: str, folder: Path) -> Path:
    """Return a folder with the kept inputs, a file each."""
    folder.mkdir()
    if (CORPUS / f"{part}.zip").exists():
        with zipfile.ZipFile(CORPUS / f"{part}.zip") as packed:
            packed.extractall(folder)
    return folder


def keep(part: str, corpora: list[Path], merged: Path) -> None:
    """Replace the kept corpus by inputs that reach all that was reached."""
    merged.mkdir()
    if part == "native":
        start(part, ["-merge=1"], merged, *corpora).communicate()
    else:  # a merge starts the program anew, which atheris cannot; these are few
        for path in (path for folder in corpora for path in folder.iterdir()):
            (merged / path.name).write_bytes(path.read_bytes())
    CORPUS.mkdir(exist_ok=True)
    with zipfile.ZipFile(CORPUS / f"{part}.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(merged.iterdir()):
            # A fixed time, so that the same inputs make the same file.
            entry = zipfile.ZipInfo(path.name, (1980, 1, 1, 0, 0, 0))
            packed.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def add_result(part: str, figures: dict[str, Any]) -> None:
    """Append this run to those of the file; each says which commit it tried."""
    path = RESULTS / "fuzz.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else []
    now = circumstances()
    runs.append({"part": part, "when": now["when"], "commit": now["commit"], **figures})
    totals = {
        one: {
            name: sum(run[name] for run in runs if run["part"] == one)
            for name in ("inputs", "crashes", "seconds")
        }
        for one in COMMANDS
    }
    write_result("fuzz", {"totals": totals, "runs": runs})


if __name__ == "__main__":
    main()
