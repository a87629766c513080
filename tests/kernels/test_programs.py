"""What a program computes depends neither on how it is launched nor on how many of its blocks are there at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BITS = Path(__file__).with_name("bits.py")


def run(*arguments: object, launch: str) -> "subprocess.CompletedProcess[str]":
    paths = os.pathsep.join([str(BITS.parents[1]), *(path for path in sys.path if path)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "ENAS_LAUNCH": launch}
    return subprocess.run(
        [sys.executable, str(BITS), *map(str, arguments)], env=environment, capture_output=True, text=True
    )


def digests(*arguments: object, launch: str) -> dict[str, str]:
    done = run(*arguments, launch=launch)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_step_by_step_and_on_devices_of_any_size_every_bit_is_the_same(device_library: Path) -> None:
    step_by_step = digests(device_library, 2, launch="step")
    assert len(step_by_step) > 100
    for multiprocessors in (1, 7):
        assert digests(device_library, multiprocessors, launch="cell") == step_by_step


def test_another_way_to_launch_is_refused(device_library: Path) -> None:
    done = run(device_library, 2, launch="twice")
    assert done.returncode != 0
    assert "ENAS_LAUNCH is 'twice', and must be cell or step" in done.stderr


@pytest.mark.gpu
def test_on_a_gpu_every_bit_is_the_same_step_by_step() -> None:
    assert digests(launch="step") == digests(launch="cell")
