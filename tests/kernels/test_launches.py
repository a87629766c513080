"""Every pass in a step of the published network is one launch, as enas-bench estimates it, and its descent two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

OPERATIONS = ("cell", "convolution_norm", "pointwise_norm")
STEP = Path(__file__).parents[1] / "shim" / "step.py"


@pytest.mark.slow
def test_every_pass_is_one_launch(device_library: Path) -> None:
    paths = os.pathsep.join([str(STEP.parents[1]), *(path for path in sys.path if path)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(STEP), str(device_library)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    passes = {name for operation in OPERATIONS for name in (operation, f"{operation}_backward")}
    assert found == {"descend": [2]} | {name: [1] for name in passes}
