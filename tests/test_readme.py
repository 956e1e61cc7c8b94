"""The README's first example runs as written, and its figures are those of the result files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def test_first_example_runs(tmp_path):
    program = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)[0]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "items.poeem").exists()


def test_foreign_loop_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "foreign_loop.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "phase JOINT" in done.stdout


def test_result_files_say_where_they_come_from():
    results = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    assert results
    for path in results:
        found = json.loads(path.read_text())
        assert {"benchmark", "when", "command", "commit", "machine", "versions"} <= set(found), path


@pytest.mark.parametrize("document", ["README.md", "DESIGN.md", "FORMAT.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_figures_are_those_of_the_result_files():
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "readme.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
