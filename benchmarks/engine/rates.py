"""Build and run kernel_rate.cpp: the kernels alone, beside the bounds of this machine.

python benchmarks/engine/rates.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from common import write_result  # noqa: E402


def main() -> None:
    """Build in a temporary folder, without the Python module, and write what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        configure = ["cmake", "-S", str(ROOT), "-B", folder, "-DCMAKE_BUILD_TYPE=Release"]
        configure += ["-DPOEEM_CORE_ONLY=ON"]
        subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
        build = ["cmake", "--build", folder, "--target", "kernel_rate"]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        done = subprocess.run(
            [str(Path(folder) / "kernel_rate")], check=True, capture_output=True, text=True
        )
    write_result("engine_rates", json.loads(done.stdout))


if __name__ == "__main__":
    main()
