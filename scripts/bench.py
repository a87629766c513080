"""enas-bench: how fast the kernels are on this machine, against plain PyTorch in one process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TextIO

import torch
from omegaconf import DictConfig

from enas import kernels
from enas.allocator import keep_memory
from enas.bench import kernels as operations
from enas.bench import memory, networks, table
from enas.bench.cases import Case, Result, Setting, results
from enas.bench.machine import Limits, measure_limits, peer_precision, synchronise, tune_peer
from enas.bench.timing import alternate
from enas.errors import UserError

from . import configuration, machine
from .configuration import Verb, key
from .keys import Kernels, Precision


class What(Enum):
    """What is compared."""

    kernels = "kernels"
    step = "step"
    score = "score"
    memory = "memory"


CASES = {
    What.kernels: operations.cases,
    What.step: networks.step_cases,
    What.score: networks.score_cases,
}
ITERATIONS = {What.kernels: 30, What.step: 10, What.score: 10, What.memory: 1}


@dataclass
class Keys:
    """The keys of the command."""

    what: What = key(What.kernels, "What is compared")
    cases: str = key("*", "Which cases, a pattern as for file names: sepconv/*/fwd")
    compile: bool = key(True, "kernels: torch.compile of the single operation is a peer too")
    iterations: int | None = key(None, "Timed turns of every side; null: 30, 10 for step and score, 1 for memory")
    batch_size: int = key(64, "Images a batch")
    seed: int = key(0, "Seed of weights, images and children")
    device: str = key("auto", "auto, cpu, cuda or cuda:N")
    threads: int | None = key(None, "CPU threads of both sides; null: all")
    kernels: Kernels = key(Kernels.auto, "Who computes our side")
    precision: Precision = key(Precision.fp32, "tf32: CUDA may round products; bf16: images are stored so")
    out: str | None = key(None, "A file that a line of JSON is added to for each case and peer")


def bench(config: DictConfig) -> None:
    """Compare, print the table line by line, and append what was measured to `out`."""
    device = machine.prepare(config)
    iterations = ITERATIONS[config.what] if config.iterations is None else config.iterations
    for name, value, least in (("iterations", iterations, 1), ("batch_size", config.batch_size, 2)):
        if value < least:
            raise UserError(f"{name}={value}: allowed is {least} or more")
    compiled = config.compile and config.what is What.kernels
    setting = Setting(device, config.precision.value, config.batch_size, config.seed, compiled)
    cases = _chosen(config, setting)
    tune_peer()
    with _opened(config.out) as out:
        print(
            f"ours: {kernels.in_use(device)} kernels, {setting.precision}; plain PyTorch {torch.__version__}: "
            f"{peer_precision(setting.precision, device)}; {device}, {torch.get_num_threads()} threads, "
            f"batch {setting.batch_size}"
        )
        if config.what is What.memory:
            _compare_memory(setting, iterations, config.kernels.value, out)
        else:
            _compare_times(setting, cases, iterations, out)


def _chosen(config: DictConfig, setting: Setting) -> list[Case]:
    """The cases that the pattern matches. Raises UserError where it matches none."""
    if config.what is What.memory:
        names, cases = [memory.NAME], []
    else:
        cases = list(CASES[config.what](setting))
        names = [case.name for case in cases]
    if not any(fnmatchcase(name, config.cases) for name in names):
        kinds = ", ".join(dict.fromkeys(name.partition("/")[0] + "/*" for name in names))
        raise UserError(
            f"cases={config.cases}: matches no case of what={config.what.value}, which has {kinds}, as in {names[0]}"
        )
    return [case for case in cases if fnmatchcase(case.name, config.cases)]


def _compare_times(setting: Setting, cases: Sequence[Case], iterations: int, out: TextIO | None) -> None:
    if not keep_memory():
        print("the C library cannot be told to keep freed memory: page faults may weigh on either side")
    limits = measure_limits(setting.device, setting.precision)
    print(table.heading(limits, table.peers(setting.compiled)), flush=True)
    found: list[Result] = []
    for case in cases:
        sides = case.build()
        samples = alternate(sides.calls, iterations, synchronise(setting.device))
        measured = results(case, samples, setting, kernels.in_use(setting.device))
        _tell(measured, limits, sides.absent, out)
        found += measured
    if said := table.summary(found):
        print(said)


def _compare_memory(setting: Setting, iterations: int, choice: str, out: TextIO | None) -> None:
    print(table.heading(None, table.peers(compiled=False)), flush=True)
    _tell(list(memory.compare(setting, iterations, choice)), None, {}, out)


def _tell(measured: Sequence[Result], limits: Limits | None, absent: Mapping[str, str], out: TextIO | None) -> None:
    print(table.line(measured, limits, absent), flush=True)
    if out is not None:
        out.writelines(json.dumps(result.document()) + "\n" for result in measured)
        out.flush()


def _opened(path: str | None) -> TextIO | nullcontext[None]:
    """The file, open for appending. Raises UserError where it cannot be."""
    if path is None:
        return nullcontext()
    try:
        return Path(path).open("a", encoding="utf-8")
    except OSError as error:
        raise UserError(f"out={path}: cannot be written ({error.strerror})") from error


VERB = Verb(
    name="bench",
    summary="how fast the kernels are on this machine, against plain PyTorch in one process.",
    example="enas-bench what=step device=cpu out=bench.jsonl",
    schema=Keys,
    task=bench,
    paths=("out",),
)


def main() -> None:
    """Run the command."""
    configuration.run(VERB)
