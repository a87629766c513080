"""Where the time of a run's steps goes: a trace to look at, and a table of the operations that take longest.

The phases of a step (enas/phases.py) are its named regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch.profiler import ProfilerActivity, profile, schedule

TRACE, TABLE = "trace.json.gz", "profile.txt"
TOP = 25
"""Rows of a table."""


class Profile:
    """Records some steps of a loop; a context manager around it.

    folder  exists; gets trace.json.gz, which Perfetto and TensorBoard open as it is, and profile.txt
    start   steps before the recording, at least 1: everything is then loaded, allocated and chosen. The last of them
            runs with the profiler on, whose own start is so left out
    steps   that are recorded; a loop that ends early leaves what was recorded until then
    """

    def __init__(self, folder: Path, device: torch.device, start: int, steps: int):
        self._folder = folder
        on_device = [ProfilerActivity.CUDA] if device.type == "cuda" else []
        self._profiler = profile(
            activities=[ProfilerActivity.CPU, *on_device],
            schedule=schedule(wait=max(start, 1) - 1, warmup=1, active=steps, repeat=1),
            on_trace_ready=self._write,
        )
        self.table: str | None = None
        """What profile.txt holds; None until the recording has ended."""

    def step(self) -> None:
        """Say that the loop has finished a step."""
        self._profiler.step()

    def __enter__(self) -> Self:
        self._profiler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._profiler.stop()

    def _write(self, profiler: Any) -> None:
        profiler.export_chrome_trace(str(self._folder / TRACE))
        self.table = summary(profiler.key_averages())
        (self._folder / TABLE).write_text(self.table, encoding="utf-8")


def summary(events: Sequence[Any]) -> str:
    """Tables of what `key_averages` gives: the named regions, the device's kernels, the operations of the CPU."""
    tables: dict[str, list[tuple[str, int, float]]] = {
        "named region, with all that runs in it": [],
        "named region, on the device": [],
        "kernel of the device": [],
        "operation, its own time on the CPU": [],
    }
    regions, device_regions, kernels, operations = tables.values()
    for event in events:
        on_cpu = event.device_type.name == "CPU"
        if event.key.startswith("ProfilerStep"):
            continue
        if event.is_user_annotation:
            time = event.cpu_time_total if on_cpu else event.device_time_total
            (regions if on_cpu else device_regions).append((event.key, event.count, time))
        elif on_cpu:
            operations.append((event.key, event.count, event.self_cpu_time_total))
        else:
            kernels.append((event.key, event.count, event.self_device_time_total))
    return "\n".join(_table(title, rows) for title, rows in tables.items() if rows)


def _table(title: str, rows: Sequence[tuple[str, int, float]]) -> str:
    """The longest of some (name, calls, microseconds); a share is one of all rows."""
    ordered = sorted(rows, key=lambda row: -row[2])
    total = sum(microseconds for *_, microseconds in ordered) or 1.0
    lines = [f"{title:<60} {'calls':>8} {'ms':>10} {'ms a call':>10} {'share':>6}"]
    for name, calls, microseconds in ordered[:TOP]:
        share = "" if "region" in title else f"{microseconds / total:>6.1%}"  # one region may lie within another
        milliseconds = microseconds / 1e3
        lines.append(f"{name[:60]:<60} {calls:>8} {milliseconds:>10.2f} {milliseconds / calls:>10.3f} {share}".rstrip())
    if len(ordered) > TOP:
        rest = sum(microseconds for *_, microseconds in ordered[TOP:])
        lines.append(f"{f'{len(ordered) - TOP} others':<60} {'':>8} {rest / 1e3:>10.2f} {'':>10} {rest / total:>6.1%}")
    return "\n".join(lines) + "\n"
