"""enas-bench: what it prints and writes, and every mistake in one line."""

import json
from pathlib import Path

import pytest
import torch

from enas.bench.machine import Limits
from enas.bench.workloads import Workload, random_images
from enas.scripts import bench

from .conftest import Call

COMMON = ("device=cpu", "threads=1", "compile=false", "iterations=1", "batch_size=2")
LINE = {
    "case",
    "device",
    "precision",
    "peer",
    "ours_ms",
    "peer_ms",
    "ratio",
    "ratio_low",
    "ratio_high",
    "n",
    "peer_precision",
    "batch_size",
    "threads",
    "kernels",
    "bytes",
    "operations",
    "ours_faults",
    "peer_faults",
}


@pytest.fixture(autouse=True)
def _machine_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The allocator of the tests' own process, and time for a large product, are not what these tests are about."""
    monkeypatch.setattr(bench, "keep_memory", lambda: True)
    monkeypatch.setattr(bench, "measure_limits", lambda device, precision: Limits(1e10, 1e11))


def test_a_comparison_is_printed_and_added_to_the_file(enas: Call) -> None:
    given = (*COMMON, "cases=pointwise_norm/*", "kernels=reference", "out=results.jsonl")
    outcome = enas("bench", *given)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.written == ["results.jsonl"]
    assert outcome.out.startswith(
        f"ours: reference kernels, fp32; plain PyTorch {torch.__version__}: fp32, tf32 off; cpu"
    )
    for case in ("pointwise_norm/C60to20H32/fwd", "pointwise_norm/C60to20H32/fwd+bwd"):
        assert sum(line.split()[:1] == [case] for line in outcome.out.splitlines()) == 1
    lines = [json.loads(line) for line in Path("results.jsonl").read_text().splitlines()]
    assert [(line["case"].rpartition("/")[2], line["peer"]) for line in lines] == [
        (direction, peer) for direction in ("fwd", "fwd+bwd") for peer in ("nchw", "channels_last")
    ]
    for line in lines:
        assert line.keys() == LINE
        assert line["ratio"] == pytest.approx(line["peer_ms"] / line["ours_ms"])
        assert (line["n"], line["batch_size"], line["threads"], line["kernels"]) == (1, 2, 1, "reference")
    assert enas("bench", *given).code == 0
    assert len(Path("results.jsonl").read_text().splitlines()) == 2 * len(lines)


def test_without_a_file_nothing_is_written(enas: Call) -> None:
    outcome = enas("bench", *COMMON, "cases=sepconv/C80H8k3/fwd", "precision=bf16")
    assert outcome.code == 0
    assert "bf16; plain PyTorch" in outcome.out
    assert "autocast to bf16" in outcome.out
    assert outcome.written == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            "what=speed",
            "what=speed: Invalid value 'speed', expected one of [kernels, step, score, memory, search, machine, "
            "language]",
        ),
        ("out=nowhere/results.jsonl", "nowhere/results.jsonl: cannot be written (No such file or directory)"),
        ("out=.", "cannot be written (Is a directory)"),
        (
            "cases=sepconv/C21*",
            "cases=sepconv/C21*: matches no case of what=kernels, which has sepconv/*, sepconv_half/*",
        ),
        ("what=memory cases=step/*", "cases=step/*: matches no case of what=memory, which has memory/*"),
        ("iterations=0", "iterations=0: allowed is 1 or more"),
        ("batch_size=1", "batch_size=1: allowed is 2 or more"),
        ("steps=0", "steps=0: allowed is 1 or more"),
        ("epochs=0", "epochs=0.0: allowed is more than 0"),
        (
            "what=search cases=svhn",
            "cases=svhn: matches no case of what=search, which has search/*, as in search/cifar",
        ),
        ("what=search cases=cifar root=nowhere", "nowhere"),
        ("what=language", "root: what=language needs the folder of a text"),
        ("threads=0", "threads=0: allowed is 1 or more"),
        ("device=tpu", "device=tpu: allowed are auto, cpu, cuda and cuda:N"),
        ("precision=fp16", "precision=fp16: Invalid value 'fp16'"),
        ("kernels=fast", "kernels=fast: Invalid value 'fast'"),
        ("run_dir=x", "run_dir: enas-bench has no such key or group"),
        ("-m seed=0,1", "-m: enas-bench has no run directories"),
        ("seed=0,1", "several values for one key need -m"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(enas: Call, given: str, expected: str) -> None:
    outcome = enas("bench", "device=cpu", "threads=1", "kernels=reference", *given.split())
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("enas-bench: ")
    assert expected in outcome.err
    assert outcome.written == []


def test_help_lists_every_key_and_no_group(enas: Call) -> None:
    outcome = enas("bench", "--help")
    shown = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert (outcome.code, outcome.err) == (0, "")
    assert "what=kernels What is compared (kernels | step | score | memory | search | machine | language)" in shown
    for name in (
        "cases=*",
        "compile=true",
        "iterations=null",
        "batch_size=null",
        "steps=null",
        "seed=0",
        "threads=null",
        "out=null",
    ):
        assert sum(line.split()[:1] == [name] for line in shown) == 1, name
    assert "GROUP" not in outcome.out
    assert "--multirun" not in outcome.out


def test_a_search_is_compared_as_a_whole(enas: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = Workload("search/tiny", random_images(24, 12, 0), 1, 4, 4, updates=2, samples=2, clip=None, slow=1)
    monkeypatch.setattr(bench, "workloads", lambda seed, root, batch_size: {tiny.name: lambda: tiny})
    outcome = enas("bench", *COMMON, "what=search", "cases=tiny", "epochs=3", "out=results.jsonl")
    assert (outcome.code, outcome.err) == (0, "")
    (line,) = [json.loads(line) for line in Path("results.jsonl").read_text().splitlines()]
    assert (line["case"], line["epochs"], line["segment_steps"], line["n"]) == ("search/tiny", 3.0, 1, 1)
    assert line["ours"]["search_s"] == 3 * line["ours"]["epoch_s"]
    assert "search/tiny (random images, batch 4)" in outcome.out


def test_a_cell_is_trained_beside_a_plain_lstm(enas: Call, tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("a b c d\n" * 40, encoding="utf-8")
    given = ("what=language", f"root={tmp_path}", "steps=5", "batch_size=4", "out=looks.jsonl")
    outcome = enas("bench", "device=cpu", "threads=1", *given)
    assert (outcome.code, outcome.err) == (0, "")
    lines = [json.loads(line) for line in Path("looks.jsonl").read_text().splitlines()]
    assert [(line["name"], line["step"]) for line in lines] == [
        (name, step) for name in ("cell", "lstm") for step in range(1, 6)
    ]
    cell, lstm = lines[0]["params"], lines[-1]["params"]
    assert abs(cell - lstm) < 0.01 * cell
    assert lines[-1]["train_loss"] < lines[5]["train_loss"]


@pytest.mark.slow
def test_memory_is_measured_in_processes_of_their_own(enas: Call) -> None:
    outcome = enas("bench", *COMMON, "what=memory", "kernels=reference", "out=results.jsonl")
    assert outcome.code == 0
    lines = [json.loads(line) for line in Path("results.jsonl").read_text().splitlines()]
    assert [(line["case"], line["peer"]) for line in lines] == [
        ("memory/enas_micro", "nchw"), ("memory/enas_micro", "channels_last")
    ]  # fmt: skip
    for line in lines:
        assert min(line["ours_bytes"], line["peer_bytes"]) > 2**20
        assert "ours_ms" not in line
