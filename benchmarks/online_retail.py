"""`poeem demo`, kept: its table as a result file and its picture for the README.

python benchmarks/online_retail.py
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import RESULTS, write_result


def main() -> None:
    """Run the demo in a folder of its own and keep what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        started = time.perf_counter()
        command = [sys.executable, "-c", "from poeem.cli.main import main; main()"]
        subprocess.run([*command, "demo", "--out", str(out)], check=True)
        seconds = time.perf_counter() - started
        found = json.loads((out / "comparison.json").read_text())
        shutil.copy(out / "comparison.png", RESULTS / "online_retail.png")
    write_result("online_retail", {**found, "demo_seconds": round(seconds)})


if __name__ == "__main__":
    main()
