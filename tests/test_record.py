"""The run directory: what is written can be read back, and a killed run goes on as if never stopped."""

import json
import math
import os
import resource
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from enas.errors import UserError
from enas.record import Record, load_checkpoint, manifest, peak_memory, throughput


def events(run_dir: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run_dir), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return accumulator.Reload()


def steps(run_dir: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, round(event.value, 4)) for event in events(run_dir).Scalars(tag)]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scalars_go_to_tensorboard_and_to_one_line_each(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "new" / "run")
    record.scalars({"search/reward": 0.5, "search/baseline": 0.25, "time/seconds": 3.0}, step=1)
    record.scalars({"search/reward": 0.75}, step=2)
    assert record.metrics_lines == 2
    record.close()
    assert rows(record.run_dir / "metrics.jsonl") == [
        {"step": 1, "search/reward": 0.5, "search/baseline": 0.25},
        {"step": 2, "search/reward": 0.75},
    ]
    assert rows(record.run_dir / "timings.jsonl") == [{"step": 1, "time/seconds": 3.0}]
    assert steps(record.run_dir, "search/reward") == [(1, 0.5), (2, 0.75)]
    assert steps(record.run_dir, "search/baseline") == [(1, 0.25)]
    assert steps(record.run_dir, "time/seconds") == [(1, 3.0)]


def test_a_record_is_closed_by_the_end_of_its_block_and_by_an_error(tmp_path: Path) -> None:
    with Record.create(tmp_path / "whole") as record:
        record.scalars({"train/loss": 1.0}, step=1)
    with pytest.raises(ValueError, match="closed"):
        record.scalars({"train/loss": 1.0}, step=2)

    def failing() -> None:
        with Record.create(tmp_path / "failing") as record:
            record.scalars({"train/loss": 1.0}, step=1)
            raise UserError

    with pytest.raises(UserError):
        failing()
    assert steps(tmp_path / "failing", "train/loss") == [(1, 1.0)]


def test_timings_alone_make_no_line_of_metrics(tmp_path: Path) -> None:
    record = Record.create(tmp_path)
    record.scalars({"time/images_per_second": 100.0}, step=1)
    assert record.metrics_lines == 0
    record.close()
    assert (tmp_path / "metrics.jsonl").read_text() == ""


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_lacks_is_null(tmp_path: Path, value: float) -> None:
    record = Record.create(tmp_path)
    record.scalars({"train/loss": value}, step=1)
    record.close()
    assert rows(tmp_path / "metrics.jsonl") == [{"step": 1, "train/loss": None}]
    (event,) = events(tmp_path).Scalars("train/loss")
    assert event.value == value or math.isnan(event.value)


def test_a_line_is_in_the_file_as_soon_as_it_is_written(tmp_path: Path) -> None:
    record = Record.create(tmp_path)
    record.scalars({"train/loss": 1.0, "time/seconds": 1.0}, step=1)
    assert len(rows(tmp_path / "metrics.jsonl")) == len(rows(tmp_path / "timings.jsonl")) == 1
    record.close()


def test_figures_and_texts_are_read_back(tmp_path: Path) -> None:
    record = Record.create(tmp_path)
    record.figure("cells/normal", Figure(figsize=(2, 1), dpi=50), step=3)
    record.text("report", "the *best* cell", step=3)
    record.close()
    read = events(tmp_path)
    (image,) = read.Images("cells/normal")
    assert (image.step, image.width, image.height) == (3, 100, 50)
    (text,) = read.Tensors("report/text_summary")
    assert text.tensor_proto.string_val == [b"the *best* cell"]


def test_json_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record.create(tmp_path)
    record.write_json("run.json", {"name": "Größe", "numbers": [1, 2.5]})
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8")) == {
        "name": "Größe",
        "numbers": [1, 2.5],
    }
    with pytest.raises(ValueError, match="JSON"):
        record.write_json("run.json", {"loss": math.nan})
    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(SystemError):
        record.write_json("run.json", {})
    record.close()
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["numbers"] == [1, 2.5]
    assert not list(tmp_path.glob("*.partial"))


def crash(*_: object) -> None:
    raise SystemError


@pytest.mark.parametrize("name", ["run.json", "checkpoint.pt", "genotype.json", "notes of the user"])
def test_an_existing_run_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("old")
    with pytest.raises(UserError, match="never overwritten"):
        Record.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "old"


def test_a_run_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for run_dir in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match=r"run_dir=.* cannot be written"):
            Record.create(run_dir)


def interrupted_run(run_dir: Path) -> int:
    """Steps 1 to 3, a checkpoint, then steps 4 and 5, and a kill within a line and within an event."""
    record = Record.create(run_dir)
    lines = 0
    for step in range(1, 6):
        record.scalars({"train/loss": step / 10, "time/seconds": 1.0}, step)
        lines = record.metrics_lines if step == 3 else lines
    record.close()
    for name in ("metrics.jsonl", "timings.jsonl"):
        with (run_dir / name).open("a") as file:
            file.write('{"step": 6, "tr')
    (event_file,) = run_dir.glob("events.*")
    with event_file.open("ab") as binary:
        binary.write(event_file.read_bytes()[-20:])
    return lines


def test_a_resumed_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    lines = interrupted_run(tmp_path)
    record = Record.reopen(tmp_path, step=4, metrics_lines=lines)
    assert record.metrics_lines == 3
    for step in range(4, 8):
        record.scalars({"train/loss": float(step), "time/seconds": 2.0}, step)
    assert record.metrics_lines == 7
    record.close()
    expected = [(1, 0.1), (2, 0.2), (3, 0.3), (4, 4.0), (5, 5.0), (6, 6.0), (7, 7.0)]
    assert steps(tmp_path, "train/loss") == expected
    assert [(row["step"], row["train/loss"]) for row in rows(tmp_path / "metrics.jsonl")] == expected
    times = [(row["step"], row["time/seconds"]) for row in rows(tmp_path / "timings.jsonl")]
    assert times == steps(tmp_path, "time/seconds") == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 2)]


def test_a_run_can_be_resumed_many_times(tmp_path: Path) -> None:
    # TensorBoard sorts its files by name (second, process, count): in one second, the tenth before the ninth.
    Record.create(tmp_path).close()
    for step in range(1, 4):
        record = Record.reopen(tmp_path, step=step, metrics_lines=step - 1)
        record.scalars({"train/loss": float(step)}, step)
        record.scalars({"train/loss": -1.0}, step + 1)
        record.close()
    assert steps(tmp_path, "train/loss") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, -1.0)]
    seconds = [path.name.split(".")[3] for path in tmp_path.glob("events.*")]
    assert len(set(seconds)) == len(seconds) == 4


def test_equal_runs_have_equal_metrics_resumed_or_not(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    record = Record.create(whole)
    for step in range(1, 7):
        record.scalars({"train/loss": step / 10, "time/seconds": 5.0}, step)
    record.close()
    record = Record.reopen(resumed, step=4, metrics_lines=interrupted_run(resumed))
    for step in range(4, 7):
        record.scalars({"train/loss": step / 10}, step)
    record.close()
    assert (whole / "metrics.jsonl").read_bytes() == (resumed / "metrics.jsonl").read_bytes()


def test_metrics_that_lack_lines_of_the_checkpoint_are_refused(tmp_path: Path) -> None:
    interrupted_run(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="has 5 lines but the checkpoint was written after 6"):
        Record.reopen(tmp_path, step=6, metrics_lines=6)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match="has 0 lines"):
        Record.reopen(tmp_path, step=2, metrics_lines=1)


STATE = {
    "weights": {"stem": torch.arange(1000.0), "head": torch.ones(3, dtype=torch.float64)},
    "generator": torch.Generator().manual_seed(3).get_state(),
    "epoch": 7,
    "rewards": [0.5, None, True],
    "name": "reinforce",
}


def written(run_dir: Path) -> Path:
    record = Record.create(run_dir)
    record.save_checkpoint(STATE)
    record.close()
    return run_dir / "checkpoint.pt"


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    state = load_checkpoint(written(tmp_path))
    torch.testing.assert_close(state["weights"], STATE["weights"], rtol=0, atol=0)
    torch.testing.assert_close(state["generator"], STATE["generator"], rtol=0, atol=0)
    assert list(state) == list(STATE)
    assert [state[key] for key in ("epoch", "rewards", "name")] == [7, [0.5, None, True], "reinforce"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tensors_of_a_gpu_go_to_the_device_and_others_stay(tmp_path: Path) -> None:
    record = Record.create(tmp_path)
    record.save_checkpoint({"weights": torch.arange(3.0, device="cuda"), "generator": torch.get_rng_state()})
    record.close()
    for device in ("cpu", "cuda"):
        state = load_checkpoint(tmp_path / "checkpoint.pt", device)
        assert (state["weights"].device.type, state["generator"].device.type) == (device, "cpu")
        assert state["weights"].tolist() == [0, 1, 2]


def test_a_crash_while_a_checkpoint_is_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record.create(tmp_path)
    record.save_checkpoint({"epoch": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(SystemError):
            record.save_checkpoint({"epoch": 2})
    with pytest.raises(AttributeError):  # part of the archive is written when the function is met
        record.save_checkpoint({"weights": torch.ones(1000), "epoch": lambda: 2})
    assert load_checkpoint(tmp_path / "checkpoint.pt") == {"epoch": 1}
    assert not list(tmp_path.glob("*.partial"))
    record.save_checkpoint({"epoch": 3})
    record.close()
    assert load_checkpoint(tmp_path / "checkpoint.pt") == {"epoch": 3}


def test_a_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "checkpoint.pt", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            load_checkpoint(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(path)


def test_an_altered_checkpoint_is_refused_or_reads_the_same(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    draw = np.random.default_rng(0)
    refused = 0
    # Some bytes carry nothing: the padding between the records of the archive, and their dates.
    for position in [data.index(np.float32(100).tobytes()), *draw.integers(len(data), size=60).tolist()]:
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :])
        try:
            state = load_checkpoint(path)
        except UserError:
            refused += 1
        else:
            torch.testing.assert_close(state["weights"], STATE["weights"], rtol=0, atol=0)
            assert state["epoch"] == 7
    assert refused > 30


def test_one_altered_weight_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    assert torch.load(path, weights_only=True)["weights"]["stem"][100] == 100
    altered = data.replace(np.float32(100).tobytes(), np.float32(99.5).tobytes())
    assert altered != data
    path.write_bytes(altered)
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 1}, "no checkpoint of enas"),
        (torch.ones(3), "no checkpoint of enas"),
        ({"format": "enas-checkpoint", "version": 2}, "of version 2, but this enas reads version 1"),
        ({"format": "enas-checkpoint"}, "of version None"),
        ({"format": "enas-checkpoint", "version": 1, "path": Path("a")}, "no checkpoint"),
    ],
)
def test_other_files_of_torch_are_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match=message):
        load_checkpoint(tmp_path / "checkpoint.pt")


def test_a_checkpoint_reaches_the_disk_after_the_metrics_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    with Record.create(tmp_path) as record:
        record.save_checkpoint({"lines": record.metrics_lines})
        order = list(synced)
    names = ("metrics.jsonl", "timings.jsonl", "checkpoint.pt")
    assert order == [(tmp_path / name).stat().st_ino for name in names]


def test_manifest_says_what_ran_where() -> None:
    cpu = torch.device("cpu")
    written = manifest(3, cpu, 2, "enas-search seed=3", ["seed=3"], {"seed": 3, "data": {"name": "digits"}})
    assert json.loads(json.dumps(written)) == written
    assert (written["seed"], written["command"]) == (3, "enas-search seed=3")
    assert (written["overrides"], written["config"]) == (["seed=3"], {"seed": 3, "data": {"name": "digits"}})
    assert written["versions"]["torch"] == torch.__version__
    assert written["versions"]["numpy"] == np.__version__
    assert (written["machine"]["device"], written["machine"]["threads"]) == ("cpu", 2)
    assert written["machine"]["processor"]
    assert written["date"].endswith("+00:00")


def test_manifest_of_a_source_tree_has_no_version_of_enas(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert manifest(0, torch.device("cpu"), 1, "", [], {})["versions"]["enas"] is None


@pytest.mark.parametrize(("system", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_in_bytes(monkeypatch: pytest.MonkeyPatch, system: str, unit: int) -> None:
    assert 20e6 < peak_memory(torch.device("cpu")) < 1e12
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=5000))
    assert peak_memory(torch.device("cpu")) == 5000 * unit


def test_throughput_and_memory() -> None:
    machine = throughput({"images": 100, "children": 10}, 4.0, torch.device("cpu"))
    memory = machine.pop("time/peak_memory_mib")
    assert machine == {
        "time/images_per_second": 25.0,
        "time/children_per_second": 2.5,
        "time/epoch_seconds": 4.0,
        "time/seconds_left": 0.0,
    }
    assert 50 < memory < 10**6


def test_phases_and_the_time_that_is_left() -> None:
    machine = throughput({}, 4.0, torch.device("cpu"), {"forward": 0.75, "other": 0.25}, epochs_left=3)
    assert machine["time/share/forward"] == 0.75
    assert machine["time/share/other"] == 0.25
    assert machine["time/seconds_left"] == 12.0
