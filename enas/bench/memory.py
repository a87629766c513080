"""Peak memory of a training step, each side in a process of its own.

What a step holds at most beyond what is there anyway: weights, their gradients and momentum, inputs, the libraries.
"""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from enas import kernels, precision
from enas.bench import networks
from enas.bench.cases import LAYOUTS, OURS, Result, Setting, device_name
from enas.bench.machine import peer_precision, tune_peer
from enas.bench.networks import Contestants, batch, sample, step_of_ours, step_of_peer
from enas.bench.timing import Call, median
from enas.errors import UserError

NAME = "memory/enas_micro"
STEPS = 3
"""Different children; the peak is that of the largest."""
STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def compare(setting: Setting, iterations: int, choice: str) -> Iterator[Result]:
    """Measure every side `iterations` times; `choice` is who computes our kernels.

    Raises UserError where the system does not tell a process its peak.
    """
    if setting.device.type != "cuda" and not STATUS.exists():
        raise UserError("what=memory: this system has no /proc to read a process's peak memory from")
    ours = [_in_process(OURS, setting, choice) for _ in range(iterations)]
    for layout in LAYOUTS:
        peer = [_in_process(layout, setting, choice) for _ in range(iterations)]
        yield Result(
            NAME,
            device_name(setting.device),
            setting.precision,
            layout,
            *median([theirs / own for theirs, own in zip(peer, ours, strict=True)]),
            n=iterations,
            peer_precision=peer_precision(setting.precision, setting.device),
            batch_size=setting.batch_size,
            threads=torch.get_num_threads(),
            kernels=kernels.in_use(setting.device),
            ours_bytes=median(ours).value,
            peer_bytes=median(peer).value,
        )


def _in_process(side: str, setting: Setting, choice: str) -> int:
    task = {
        "side": side,
        "device": str(setting.device),
        "precision": setting.precision,
        "batch_size": setting.batch_size,
        "seed": setting.seed,
        "threads": torch.get_num_threads(),
        "kernels": choice,
    }
    command = [sys.executable, "-m", "enas.bench.memory", json.dumps(task)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def measure(task: dict[str, Any]) -> int:
    """Peak bytes of one side's training steps, in this process."""
    device = torch.device(task["device"])
    setting = Setting(device, task["precision"], task["batch_size"], task["seed"])
    torch.set_num_threads(task["threads"])
    kernels.select(task["kernels"], device)
    precision.select(task["precision"])
    tune_peer()
    side = task["side"]
    sides = Contestants(networks.PUBLISHED, setting, [] if side == OURS else [side])

    def step_at(setting: Setting) -> Call:
        rows, (inputs, labels) = sample(setting), batch(setting)
        if side == OURS:
            return step_of_ours(sides.supernet, setting, rows, inputs, labels)
        return step_of_peer(sides.peers[side], side, setting, rows, inputs, labels)

    step_at(replace(setting, batch_size=2))(0)  # gradients and momentum exist, libraries are loaded
    step = step_at(setting)
    before = _start(device)
    for iteration in range(STEPS):
        step(iteration)
    return _peak(device) - before


def _start(device: torch.device) -> int:
    """Forget the peak so far; returns the bytes in use."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    with suppress(AttributeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)  # what is free but kept would hide a part of the step's need
    with suppress(OSError):  # where it is forbidden, the peak so far is that of a step of two images
        CLEAR.write_text("5")
    return _status("VmRSS")


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def _status(field: str) -> int:
    """Bytes, from a line like `VmHWM:   123 kB`."""
    found = re.search(rf"^{field}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


if __name__ == "__main__":
    print(measure(json.loads(sys.argv[1])))
