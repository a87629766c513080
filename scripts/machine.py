"""The machine a run is on: device, threads, kernels, and the run directory that a run starts or goes on with."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from enas import kernels
from enas.allocator import keep_memory
from enas.data import Benchmark, DataSet, Text
from enas.errors import UserError
from enas.kernels import native
from enas.precision import STORAGE
from enas.precision import select as select_precision
from enas.record import Record, load_checkpoint, manifest

from . import configuration


def prepare(config: DictConfig) -> torch.device:
    """Set threads, memory, kernels and precision, and give the device of a run.

    A resumed run keeps the thread count and the kernels it was recorded with: others may change the last bit of a sum.
    Raises UserError for a device or kernels that do not exist, a thread count below 1 and a seed out of range.
    """
    if not 0 <= config.seed < 2**63:
        raise UserError(f"seed={config.seed}: allowed is a whole number from 0 to 2^63 - 1")
    threads = config.threads
    recorded = {} if config.get("resume") is None else _recorded_machine(Path(config.resume))
    if threads is None and isinstance(recorded.get("threads"), int):
        threads = recorded["threads"]
    if threads is not None:
        if threads < 1:
            raise UserError(f"threads={threads}: allowed is 1 or more, or null for all")
        torch.set_num_threads(threads)
    device = _device(config.device)
    if device.type == "cpu":
        keep_memory()  # every step asks for the same tensors
    _select_kernels(config, recorded.get("kernels"), device)
    select_precision(config.precision.value)
    return device


def load_data(config: DictConfig, device: torch.device) -> DataSet | Text | Benchmark:
    """The data set or table that the configuration names, on `device`, its batches in the precision's storage type."""
    data: DataSet | Text | Benchmark = instantiate(config.data)
    return data.to(device).stored_as(STORAGE[config.precision.value])


def load_examples(config: DictConfig, device: torch.device) -> DataSet | Text:
    """The same where something is trained. Raises UserError for a table of results."""
    data = load_data(config, device)
    if isinstance(data, Benchmark):
        raise UserError(f"data: {data.name} is a table of results, nothing can be trained on it; take images or text")
    return data


def origin(config: DictConfig, device: torch.device) -> dict[str, Any]:
    """What run.json says of this run's origin."""
    command = shlex.join([Path(sys.argv[0]).name, *configuration.overrides()])
    return manifest(
        config.seed,
        device,
        torch.get_num_threads(),
        command,
        configuration.overrides(),
        configuration.plain(config),
        config.precision.value,
    )


def open_record(run_dir: Path, resumed: bool, device: torch.device, part: str) -> tuple[Record, dict[str, Any] | None]:
    """The record of a run and the checkpoint it goes on with, if it does.

    `part` is what the checkpoint of such a run holds; UserError where it is another command's. A run that was killed
    before its first checkpoint starts again in its directory.
    """
    if not resumed:
        return Record.create(run_dir), None
    if not (run_dir / "checkpoint.pt").exists():
        return Record.reopen(run_dir, 0, 0), None
    state = load_checkpoint(run_dir / "checkpoint.pt", device)
    if part not in state:
        raise UserError(f"resume={run_dir}: its checkpoint.pt is another command's, it holds no {part}")
    return Record.reopen(run_dir, state["next_step"], state["metrics_lines"]), state


def _recorded_machine(run_dir: Path) -> dict[str, Any]:
    content = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    machine = content.get("machine")
    return machine if isinstance(machine, dict) else {}


def _select_kernels(config: DictConfig, recorded: Any, device: torch.device) -> None:
    """Choose what was asked for, or `recorded`: what a resumed run was computed with."""
    if recorded == "native" and (reason := native.absence(device.type)) is not None:
        raise UserError(f"resume={config.resume}: the run was computed by native kernels and keeps them; {reason}")
    kernels.select(config.kernels.value if recorded is None else str(recorded), device)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    if found is None:
        raise UserError(f"device={name}: allowed are auto, cpu, cuda and cuda:N")
    if name != "cpu" and int(found[1] or 0) >= torch.cuda.device_count():
        raise UserError(f"device={name}: this machine has {torch.cuda.device_count()} such devices")
    return torch.device(name)
