"""scripts/gpu_report.sh, tiny and without a GPU: stages run, wait, fail and run out of time, and are all told."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_report.sh"
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def run(out: Path, stages: str, **settings: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    environment = {**os.environ, "PYTHON": sys.executable, "QUICK": "1", "STAGES": stages, **settings}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(["bash", str(SCRIPT), str(out)], env=environment, capture_output=True, text=True)
    assert {path.name for path in out.iterdir()} == {"gpu_report.json", "gpu_report.md"}
    return done, json.loads((out / "gpu_report.json").read_text())


def states(report: dict[str, Any]) -> dict[str, str]:
    return {stage["name"]: stage["state"] for stage in report["stages"]}


@without_gpu
def test_what_can_run_does_and_the_rest_waits(tmp_path: Path) -> None:
    done, report = run(tmp_path / "out", "environment tests kernels memcheck search_bf16")
    assert done.returncode == 0, done.stdout + done.stderr
    assert states(report) == {
        "environment": "passed",
        "tests": "waits for a GPU",
        "kernels": "passed",
        "search_bf16": "waits for a GPU",
        "memcheck": "waits for a GPU",
    }
    assert report["environment"].startswith("Python ")
    assert {line["case"] for line in report["results"]["kernels"]} == {
        "pointwise_norm/C60to20H32/fwd",
        "pointwise_norm/C60to20H32/fwd+bwd",
    }


def test_a_stage_that_fails_stops_no_other(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text(
        f'#!/bin/sh\ncase "$*" in *scripts.bench*) echo broken; exit 3;; esac\nexec {sys.executable} "$@"\n'
    )
    broken.chmod(0o755)
    done, report = run(tmp_path / "out", "machine environment", PYTHON=str(broken))
    assert done.returncode == 1
    assert states(report) == {"environment": "passed", "machine": "failed"}
    assert "## machine failed\n```\nbroken\n```" in (tmp_path / "out" / "gpu_report.md").read_text()


def test_a_run_without_time_says_so(tmp_path: Path) -> None:
    done, report = run(tmp_path / "out", "machine", SECONDS_IN_ALL="8")
    assert done.returncode == 1
    assert states(report) == {"machine": "left out, no time"}


def test_a_directory_has_to_be_given() -> None:
    done = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage" in done.stderr


@without_gpu
@pytest.mark.slow
def test_every_stage_in_small(tmp_path: Path) -> None:
    """All but the build, which would leave the library without CUDA code where there was some."""
    stages = (
        "environment tests machine step step_by_step step_bf16 score search search_bf16 kernels memcheck profile memory"
        " digits"
    )
    done, report = run(tmp_path / "out", stages)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(states(report).values()) == {"passed", "waits for a GPU"}
    assert {"machine", "step", "score", "search", "kernels"} == report["results"].keys()
