"""Writes the figures of the documents from the files in results/, so that none is typed by hand.

python benchmarks/readme.py            # rewrite
python benchmarks/readme.py --check    # exit 1 if they and results differ; a test does this
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from readme_compared import compared, comparison, headline
from readme_recipe import ablation, rotations
from readme_rows import table

sys.path.insert(0, str(Path(__file__).parent / "engine"))
import tables as engine_tables

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DESIGN = ROOT / "DESIGN.md"
RECIPE = ROOT / "docs" / "recipe.md"
ENGINE = ROOT / "benchmarks" / "engine" / "README.md"


def rendered(text: str, blocks: dict[str, str]) -> str:
    """Return a README's text with the figures of the result files.

    Raises:
        ValueError: a block has not exactly one place in the text, so its figures would not be seen.
    """
    for name, block in blocks.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        put = (lambda m, b=block: m[1] + b + "\n" + m[2]) if block else (lambda m: m[1] + m[2])
        text, count = re.subn(pattern, put, text, flags=re.S)
        if count != 1:
            raise ValueError(f"{name}: got {count} places in the text, wanted one")
    return text


def main() -> None:
    """Rewrite or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    blocks = {
        README: {"headline": headline(), "comparison": comparison(compared()), "table": table()},
        DESIGN: {"rotation": rotations()},
        RECIPE: {"ablation": ablation()},
        ENGINE: engine_tables.blocks(),
    }
    for path, each in blocks.items():
        text = path.read_text()
        wanted = rendered(text, each)
        if check and text != wanted:
            sys.exit(
                f"{path.name} differs from benchmarks/results: run python benchmarks/readme.py"
            )
        if not check:
            path.write_text(wanted)


if __name__ == "__main__":
    main()
