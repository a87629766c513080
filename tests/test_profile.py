"""What is recorded: the steps asked for, their regions, and tables that add up."""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import record_function

from enas import profile
from enas.profile import Profile, summary

CPU = torch.device("cpu")


def loop(found: Profile, steps: int) -> None:
    for _ in range(steps):
        with record_function("train"):
            torch.ones(3).exp()
        found.step()


def recorded(folder: Path) -> list[str]:
    """The names in the trace."""
    events = json.loads(gzip.decompress((folder / "trace.json.gz").read_bytes()))["traceEvents"]
    return [event["name"] for event in events if event.get("ph") == "X"]


def test_only_the_steps_asked_for_are_recorded(tmp_path: Path) -> None:
    with Profile(tmp_path, CPU, start=2, steps=3) as found:
        loop(found, 9)
    names = recorded(tmp_path)
    assert (names.count("train"), names.count("aten::exp")) == (3, 3)
    assert {"ProfilerStep#2", "ProfilerStep#4"} <= set(names)
    assert not {"ProfilerStep#1", "ProfilerStep#5"} & set(names)
    assert found.table == (tmp_path / "profile.txt").read_text()
    lines = {line.split()[0]: line.split() for line in found.table.splitlines() if line}
    assert lines["train"][1] == lines["aten::exp"][1] == "3"
    assert "ProfilerStep*" not in lines


def test_a_loop_that_ends_early_leaves_what_was_recorded(tmp_path: Path) -> None:
    with Profile(tmp_path, CPU, start=2, steps=9) as found:
        loop(found, 4)
    assert recorded(tmp_path).count("train") == 2
    assert found.table is not None


def test_a_loop_that_ends_before_leaves_nothing(tmp_path: Path) -> None:
    with Profile(tmp_path, CPU, start=5, steps=9) as found:
        loop(found, 2)
    assert found.table is None
    assert list(tmp_path.iterdir()) == []


def event(key: str, device: DeviceType, own: float, annotation: bool = False) -> Any:
    return SimpleNamespace(
        key=key, count=2, device_type=device, is_user_annotation=annotation, cpu_time_total=own, device_time_total=own,
        self_cpu_time_total=own, self_device_time_total=own,
    )  # fmt: skip


def test_kernels_of_a_device_have_a_table_of_their_own() -> None:
    text = summary(
        [
            event("train", DeviceType.CPU, 5000.0, annotation=True),
            event("train", DeviceType.CUDA, 4000.0, annotation=True),
            event("enas::kernel", DeviceType.CUDA, 3000.0),
            event("other", DeviceType.CUDA, 1000.0),
            event("aten::mm", DeviceType.CPU, 2000.0),
        ]
    )
    tables = [part.splitlines() for part in text.split("\n\n")]
    assert [table[0].split("  ")[0] for table in tables] == [
        "named region, with all that runs in it",
        "named region, on the device",
        "kernel of the device",
        "operation, its own time on the CPU",
    ]
    assert [line.split()[0] for line in tables[2][1:]] == ["enas::kernel", "other"]
    assert tables[2][1].split()[1:] == ["2", "3.00", "1.500", "75.0%"]
    assert tables[0][1].split() == ["train", "2", "5.00", "2.500"]


def test_the_longest_rows_stand_and_the_others_are_summed(monkeypatch: Any) -> None:
    monkeypatch.setattr(profile, "TOP", 2)
    text = summary([event(f"aten::{own}", DeviceType.CPU, own) for own in (1000.0, 4000.0, 2000.0, 3000.0)])
    lines = [line.split() for line in text.splitlines()[1:]]
    assert [line[0] for line in lines[:2]] == ["aten::4000.0", "aten::3000.0"]
    assert lines[2] == ["2", "others", "3.00", "30.0%"]
