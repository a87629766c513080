"""The report of a run on a GPU: every stage is told, measured or not, and tables stand as Markdown."""

import json
from pathlib import Path
from typing import Any

from enas.bench import report
from enas.bench.cases import Result
from enas.bench.report import JSON, MARKDOWN, main
from enas.bench.search import Floor, SearchResult, SideResult
from enas.bench.timing import Interval

STAGES = [
    ("environment", "0", "Python, torch, GPU, revision"),
    ("build", "1", "the native kernels are built"),
    ("tests", "0", "Tests on the GPU"),
    ("machine", "0", "the machine's own limits"),
    ("step", "0", "a training step"),
    ("step_by_step", "0", "a training step, cells step by step"),
    ("search", "124", "a whole search"),
    ("memcheck", "waiting", "compute-sanitizer memcheck"),
    ("memory", "no time", "peak memory of a step"),
]


def step(peer: str, **own: Any) -> dict[str, Any]:
    line = Result(
        "step/enas_micro", "H", "fp32", peer, 4.0, 3.5, 4.5, 10, "fp32, tf32 off", 160, 1, "native", 2.0, 8.0, **own
    )
    return line.document()


def search() -> dict[str, Any]:
    side = SideResult(1.0, 0.5, 0.25, 0.25, 2.0, 300.0, 45e3, 620.0, 2**30, 649)
    parts = ("weights", "scoring", "controller", "rest", "epoch")
    return SearchResult(
        "search/cifar", "H", "bf16", "channels_last", 5.0, 4.0, 6.0, 6, "autocast to bf16", 160, 8, "native", "random",
        150.0, 281, 30, 10, 100, 11, side, side, dict.fromkeys(parts, Interval(5.0, 4.0, 6.0)),
        {"H200": Floor(0.4, 60.0, 0.2, 0.04)},
    ).document()  # fmt: skip


MACHINE = {
    "case": "machine", "device": "H", "torch": "2.11", "threads": 8, "copy_bytes_s": 3e12, "fp32_flop_s": 5e13,
    "tf32_flop_s": None, "bf16_flop_s": 7.9e14, "call_us": 5.0, "native_us": 9.5, "replay_us": 2.25,
}  # fmt: skip


def left(folder: Path) -> Path:
    """What the stages leave in a folder."""
    lines = ["\t".join((name, code, "12", "60", what)) for name, code, what in STAGES]
    (folder / "stages.tsv").write_text("\n".join(lines) + "\n")
    (folder / "environment.log").write_text("Python 3.12 torch 2.11\n")
    (folder / "build.log").write_text("nvcc: no such file\n")
    (folder / "tests.log").write_text("dots\n221 passed in 9 s\n")
    (folder / "machine.jsonl").write_text(json.dumps(MACHINE) + "\n")
    steps = [step("nchw", ours_launches=649, peer_launches=1707), step("channels_last", ours_launches=649)]
    (folder / "step.jsonl").write_text("\n".join(map(json.dumps, steps)) + "\n")
    (folder / "step_by_step.jsonl").write_text(json.dumps(step("nchw", ours_launches=900, peer_launches=1707)) + "\n")
    (folder / "search.jsonl").write_text(json.dumps(search()) + '\n{"case": "search/di')  # killed while it wrote
    return folder


def test_every_stage_is_told(tmp_path: Path) -> None:
    assert main(left(tmp_path), tmp_path / "out" / "here") == 1
    assert {path.name for path in (tmp_path / "out" / "here").iterdir()} == {JSON, MARKDOWN}
    content = json.loads((tmp_path / "out" / "here" / JSON).read_text())
    assert content["environment"] == "Python 3.12 torch 2.11"
    assert {stage["name"]: stage["state"] for stage in content["stages"]} == {
        "environment": "passed",
        "build": "failed",
        "tests": "passed",
        "machine": "passed",
        "step": "passed",
        "step_by_step": "passed",
        "search": "timed out",
        "memcheck": "waits for a GPU",
        "memory": "left out, no time",
    }
    assert [line["peer"] for line in content["results"]["step"]] == ["nchw", "channels_last"]
    assert len(content["results"]["search"]) == 1


def test_what_was_measured_stands_in_tables(tmp_path: Path) -> None:
    main(left(tmp_path), tmp_path)
    lines = (tmp_path / MARKDOWN).read_text().splitlines()
    for expected in (
        "| `memcheck` | compute-sanitizer memcheck | waits for a GPU | 12 of 60 |",
        "| copy, read and written | 3,000 GB/s |",
        "| matrix product, bf16 | 790.00 TFLOP/s |",
        "| a small kernel in a graph | 2.25 us |",
        "## `search/cifar`, bf16, H",
        "| epoch, s an epoch | 2.000 | 2.000 | 5.00 [4.00, 6.00] |",
        "| floor on H200, 60.0 s, reached | 20.0% | 4.0% |  |",
        "| peak of memory, MiB | 1,024 | 1,024 |  |",
        "| `step/enas_micro` | fp32 | 160 | 2.000 | 4.00 [3.50, 4.50] | 4.00 [3.50, 4.50] | 649 / 1707 / None |",
        "| `step/enas_micro` | fp32 | 160 | 2.000 | 4.00 [3.50, 4.50] | - | 900 / 1707 |",
        "221 passed in 9 s",
        "## build failed",
        "nvcc: no such file",
    ):
        assert expected in lines, expected
    assert not any("tf32 |" in line for line in lines)
    rows = [line for line in lines if line.startswith("|")]
    assert all(row.endswith("|") for row in rows)


def test_a_run_whose_stages_pass_or_wait_is_good(tmp_path: Path) -> None:
    (tmp_path / "stages.tsv").write_text("machine\t0\t1\t60\tlimits\nmemcheck\twaiting\t0\t60\tchecker\n")
    assert main(tmp_path, tmp_path) == 0


def test_memory_and_single_operations_have_tables_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "stages.tsv").write_text("kernels\t0\t1\t60\tkernels\nmemory\t0\t1\t60\tmemory\n")
    kernel = {**step("nchw"), "case": "sepconv/C20H32k3/fwd"}
    (tmp_path / "kernels.jsonl").write_text(json.dumps(kernel) + "\n")
    memory = {**step("nchw"), "case": "memory/enas_micro", "ours_bytes": 2**29, "peer_bytes": 2**31, "ratio": 4.0}
    del memory["ours_ms"], memory["peer_ms"]
    (tmp_path / "memory.jsonl").write_text(json.dumps(memory) + "\n")
    text = report.markdown(report.collect(tmp_path))
    assert "## Operations\n| case | precision | batch | ours, ms | nchw |" in text
    assert "| fp32 | 160 | 512 | nchw | 2,048 | 4.00 |" in text
    assert "Steps and scores" not in text
