"""Arrows point down only; searching needs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import poeem

ROOT = Path(poeem.__file__).parent
# What each part may import from its own package, besides itself and the ground floor.
GROUND = {"errors", "types", "config", "config_file", "files", "checks", "quads"}
ALLOWED = {
    "quantize": {"_native"},
    "index": {"_native"},
    "live": {"_native", "index"},
    "data": set(),
    "models": {"quantize"},
    "interchange": {"index"},
    "evaluation": {"quantize", "models", "data", "index", "interchange"},
    "training": {"quantize", "models", "data", "evaluation", "index", "live"},
    "cli": {"quantize", "models", "data", "evaluation", "index", "interchange", "live", "training"},
}
# Third-party packages that live in one place only.
CONFINED = {
    "faiss": {"interchange/faiss_module.py"},
    "pyarrow": {"data/arrow.py", "interchange/parquet.py"},
    "scann": {"evaluation/scann_rival.py"},
    "annoy": {"evaluation/annoy_rival.py"},
    "typer": {"cli"},
    "matplotlib": {"evaluation/comparison_plot.py", "evaluation/comparison.py"},
}
TORCH_FREE = ("index", "interchange", "live", "data", *(f"{name}.py" for name in sorted(GROUND)))


def imports_of(path):
    """Return every imported module of a file, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            pytest.fail(
                f"{path}: line {node.lineno}: wanted absolute imports, whose layer is plain"
            )
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(p for p in ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_down(path):
    relative = path.relative_to(ROOT)
    part = relative.parts[0]
    if len(relative.parts) == 1:
        if part != "__init__.py":
            own = {n.split(".")[1] for n in imports_of(path) if n.startswith("poeem.")}
            assert own <= (GROUND if part != "__main__.py" else {"cli"})
        return
    own = {n.split(".")[1] for n in imports_of(path) if n.startswith("poeem.")}
    own -= {"__version__", part}
    assert own <= GROUND | ALLOWED[part], f"{relative} imports {sorted(own)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_packages_stay_in_their_place(path):
    relative = path.relative_to(ROOT).as_posix()
    roots = {name.split(".")[0] for name in imports_of(path)}
    for package, places in CONFINED.items():
        if package in roots:
            assert any(relative == p or relative.startswith(p + "/") for p in places), package
    if relative.startswith(TORCH_FREE):
        assert "torch" not in roots


def test_search_without_torch(tmp_path):
    """Build, save, open and search in a process where importing torch fails."""
    program = f"""
import sys
sys.modules["torch"] = None  # any import of it is now an ImportError
import numpy as np
import poeem
rng = np.random.default_rng(0)
codebooks = rng.standard_normal((4, 16, 2), dtype=np.float32)
codes = rng.integers(16, size=(50, 4)).astype(np.uint8)
index = poeem.build_index_from_codes(codes=codes, codebooks=codebooks)
index.save({str(tmp_path / "i.poeem")!r})
index = poeem.Index.open({str(tmp_path / "i.poeem")!r})
ids, scores = index.search(rng.standard_normal((3, 8), dtype=np.float32), k=5)
assert ids.shape == (3, 5) and (ids >= 0).all()
try:
    poeem.IndexLayer
except poeem.MissingDependencyError as error:
    assert "pip install -c constraints.txt '.[train]'" in str(error)
else:
    raise SystemExit("torch was found")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_import_poeem_does_not_import_torch():
    program = "import sys, poeem, poeem.cli.main; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
