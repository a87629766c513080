"""The library builds from nothing, CUDA included, without a warning."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no nvcc")
def test_every_architecture_compiles_without_a_warning(tmp_path: Path) -> None:
    """setup.py makes errors of warnings; `optional` makes no library of errors."""
    command = [
        sys.executable,
        "setup.py",
        "build_ext",
        f"--build-lib={tmp_path}",
        f"--build-temp={tmp_path / 'objects'}",
    ]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "ENAS_CUDA": "1"}, capture_output=True, text=True)
    assert (tmp_path / "enas" / "kernels" / "native_library.so").exists(), done.stdout + done.stderr
