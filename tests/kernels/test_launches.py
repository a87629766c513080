"""The launches that enas-bench estimates with are those of csrc/cuda, as the host runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from enas.bench.launches import NATIVE

STEP = Path(__file__).parents[1] / "shim" / "step.py"


@pytest.mark.slow
def test_every_operation_launches_what_the_estimate_says(device_library: Path) -> None:
    paths = os.pathsep.join([str(STEP.parents[1]), *(path for path in sys.path if path)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(STEP), str(device_library)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == {name: [number] for name, number in NATIVE.items() if name != "augment"}
