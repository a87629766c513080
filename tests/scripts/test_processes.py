"""The commands as processes of their own: killed, interrupted, swept, and installed from a wheel."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from enas.record import load_checkpoint
from enas.supernet import load_child

from .conftest import VERBS, called, with_kernels

ROOT = Path(__file__).parents[2]
COMMON = ("threads=1", "progress=false", "device=cpu")
SEARCH = (
    *COMMON, "network.layers=1", "network.filters=4", "space.nodes=2", "updates=2", "samples=3", "candidates=4",
    "rescored=2", "watched=2", "batch_size=64", "epochs=3", "log_every=1",
)  # fmt: skip
EPOCH = 17  # steps: 1150 training images of digits in batches of 64
TRAIN = (*COMMON, "batch_size=64", "epochs=3")


def start(folder: Path, verb: str, *arguments: str) -> subprocess.Popen[str]:
    """The installed command, in a group of its own, so that signals reach it alone."""
    command = with_kernels(str(Path(sys.executable).with_name(f"enas-{verb}")), *arguments)
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(folder: Path, verb: str, *arguments: str) -> str:
    process = start(folder, verb, *arguments)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    return out


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def send_at(process: subprocess.Popen[str], number: signal.Signals, path: Path, count: int) -> None:
    """Send a signal as soon as a file has so many lines."""
    end = time.monotonic() + 120
    while lines(path) < count:
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise AssertionError(f"no {count} lines before the end: {process.communicate()}")
        time.sleep(0.002)
    process.send_signal(number)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """All points by tag, in the order TensorBoard shows them; the values of the clock are left out."""
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, 0.0 if tag.startswith("time/") else event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def assert_same(one: Any, other: Any) -> None:
    """Two nests of tensors and numbers, bit for bit; the clock aside."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - {"seconds"}:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that nothing stopped; in this process, since where it runs makes no difference."""
    folder = tmp_path_factory.mktemp("processes") / "unbroken"
    threads = torch.get_num_threads()
    assert called(VERBS["search"].main, "enas-search", *SEARCH, f"run_dir={folder}") == 0
    torch.set_num_threads(threads)
    return folder


def test_a_killed_search_goes_on_as_if_it_had_not_been(unbroken: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "search", *SEARCH, "run_dir=killed")
    send_at(process, signal.SIGKILL, tmp_path / "killed" / "metrics.jsonl", EPOCH + 5)  # in the second epoch
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    killed = tmp_path / "killed"
    left = load_checkpoint(killed / "checkpoint.pt")
    assert left["epoch"] in (1, 2)
    assert lines(killed / "metrics.jsonl") > left["metrics_lines"]  # what was done after the checkpoint is lost
    assert not read(killed / "run.json")["finished"]
    assert not (killed / "genotype.json").exists()

    out = run(tmp_path, "search", "resume=killed")
    assert "its random baseline" in out
    assert (killed / "metrics.jsonl").read_bytes() == (unbroken / "metrics.jsonl").read_bytes()
    assert_same(load_checkpoint(killed / "checkpoint.pt"), load_checkpoint(unbroken / "checkpoint.pt"))
    for key in ("choices", "estimate"):
        assert read(killed / "genotype.json")[key] == read(unbroken / "genotype.json")[key]
    assert read(killed / "run.json")["random_baseline"] == read(unbroken / "run.json")["random_baseline"]
    children = [load_child(folder / "child.pt", torch.device("cpu")) for folder in (killed, unbroken)]
    assert_same(*(dict(child.state_dict()) for child in children))
    assert len(list(killed.glob("events.*"))) == 2
    assert events(killed) == events(unbroken)


def test_a_killed_training_goes_on_as_if_it_had_not_been(unbroken: Path, tmp_path: Path) -> None:
    genotype = f"genotype={unbroken / 'genotype.json'}"
    threads = torch.get_num_threads()
    assert called(VERBS["train"].main, "enas-train", *TRAIN, genotype, f"run_dir={tmp_path / 'whole'}") == 0
    torch.set_num_threads(threads)

    process = start(tmp_path, "train", *TRAIN, genotype, "run_dir=killed")
    send_at(process, signal.SIGKILL, tmp_path / "killed" / "metrics.jsonl", 2)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert not (killed / "result.json").exists()

    run(tmp_path, "train", "resume=killed")
    assert (killed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert_same(load_checkpoint(killed / "checkpoint.pt"), load_checkpoint(whole / "checkpoint.pt"))
    assert_same(read(killed / "result.json"), read(whole / "result.json"))
    assert read(killed / "genotype.json") == read(whole / "genotype.json")
    assert events(killed) == events(whole)


def test_ctrl_c_ends_a_search_in_good_order(tmp_path: Path) -> None:
    process = start(tmp_path, "search", *SEARCH, "epochs=500", "run_dir=stopped")
    stopped = tmp_path / "stopped"
    send_at(process, signal.SIGINT, stopped / "metrics.jsonl", EPOCH + 5)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert out == (
        f"stopped; the best so far is in {stopped / 'genotype.json'}; go on with: enas-search resume={stopped}\n"
    )
    state = load_checkpoint(stopped / "checkpoint.pt")
    assert state["metrics_lines"] == lines(stopped / "metrics.jsonl")  # nothing is lost
    assert read(stopped / "genotype.json")["provenance"]["interrupted_at_step"] == state["training"]["step_count"]
    assert not list(stopped.glob("*.partial"))


def test_a_sweep_over_seeds_gives_a_run_directory_each(unbroken: Path, tmp_path: Path) -> None:
    run(tmp_path, "search", "-m", "seed=0,1", *SEARCH, "epochs=1", "run_dir=sweep")
    runs = sorted(path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir())
    assert runs == ["seed-0", "seed-1"]
    contents = [read(tmp_path / "sweep" / name / "run.json") for name in runs]
    assert [content["seed"] for content in contents] == [0, 1]
    assert all(content["finished"] for content in contents)
    logs = [(tmp_path / "sweep" / name / "metrics.jsonl").read_text().splitlines() for name in runs]
    assert logs[0][:EPOCH] == (unbroken / "metrics.jsonl").read_text().splitlines()[:EPOCH]
    assert logs[0][:EPOCH] != logs[1][:EPOCH]


@pytest.mark.slow
def test_a_wheel_runs_from_any_directory(tmp_path: Path) -> None:
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("enas", "conf", "scripts", "csrc"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("pyproject.toml", "README.md", "setup.py"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheels = tmp_path / "wheels"
    building = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(source)]
    subprocess.run(building, check=True, cwd=tmp_path)
    [wheel] = wheels.iterdir()
    shutil.rmtree(source)

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], check=True)
    [packages] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def call(*command: object) -> str:
        done = subprocess.run(
            [str(part) for part in command], cwd=elsewhere, env=environment, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert call(python, "-c", "import enas; print(enas.__file__)").strip() == str(packages / "enas" / "__init__.py")
    call(python.with_name("enas-search"), *SEARCH, "epochs=1", "experiment=demo", "kernels=native", "run_dir=s")
    call(python.with_name("enas-train"), *TRAIN, "epochs=1", "genotype=s/genotype.json", "run_dir=t")
    assert "Kendall tau" in call(python.with_name("enas-rank"), *TRAIN, "epochs=1", "n=3", "search=s", "run_dir=r")
    assert sorted(path.name for path in elsewhere.iterdir()) == ["r", "s", "t"]
