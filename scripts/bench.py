"""enas-bench: how fast the kernels are on this machine, against plain PyTorch in one process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import torch
from omegaconf import DictConfig

from enas import kernels
from enas.allocator import keep_memory
from enas.bench import kernels as operations
from enas.bench import language, memory, networks, rates, search_table, table
from enas.bench.cases import Case, Result, Setting, results
from enas.bench.launches import Launches, count
from enas.bench.machine import Limits, measure_limits, peer_precision, synchronise, tune_peer
from enas.bench.search import compare
from enas.bench.timing import alternate
from enas.bench.workloads import Workload, workloads
from enas.data import text
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
    search = "search"
    machine = "machine"
    language = "language"


CASES = {
    What.kernels: operations.cases,
    What.step: networks.step_cases,
    What.score: networks.score_cases,
}
ITERATIONS = {
    What.kernels: 30,
    What.step: 10,
    What.score: 10,
    What.memory: 1,
    What.search: 6,
    What.machine: 10,
    What.language: 1,
}


@dataclass
class Keys:
    """The keys of the command."""

    what: What = key(What.kernels, "What is compared")
    cases: str = key("*", "Which cases, a pattern as for file names, of the name or its last part: sepconv/*/fwd")
    compile: bool = key(True, "kernels: torch.compile of the single operation is a peer too")
    iterations: int | None = key(
        None, "Timed turns of every side; null: 30, 10 for step and score, 6 for search, 1 for memory"
    )
    batch_size: int | None = key(
        None, "Images a batch; null: 64, and what a search has by itself. language: columns, 20"
    )
    steps: int | None = key(
        None, "search: training steps of a turn; null: an epoch, 1 of CIFAR's size on a CPU. language: 500"
    )
    epochs: float = key(150.0, "search: epochs that a whole search is counted with")
    root: str | None = key(None, "search: where CIFAR-10 is; null: random images of its size. language: the text")
    genotype: str | None = key(None, "language: the cell's genotype.json; null: the published cell, 128 units")
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
    batch_size = 64 if config.batch_size is None else config.batch_size
    for name, value, least in (
        ("iterations", iterations, 1),
        ("batch_size", batch_size, 2),
        ("steps", config.steps, 1),
    ):
        if value is not None and value < least:
            raise UserError(f"{name}={value}: allowed is {least} or more")
    if not config.epochs > 0:
        raise UserError(f"epochs={config.epochs}: allowed is more than 0")
    compiled = config.compile and config.what is What.kernels
    if config.what is What.language:
        _compare_languages(config, device)
        return
    setting = Setting(device, config.precision.value, batch_size, config.seed, compiled)
    chosen = _chosen(config, setting)
    if config.what is What.search:
        try:
            chosen = [load() for load in chosen]
        except UserError as error:  # the loader knows the key as a search has it
            raise UserError(str(error).removeprefix("data.")) from error
    tune_peer()
    with _opened(config.out) as out:
        images = "" if config.what in (What.search, What.machine) else f", batch {batch_size}"
        print(
            f"ours: {kernels.in_use(device)} kernels, {setting.precision}; plain PyTorch {torch.__version__}: "
            f"{peer_precision(setting.precision, device)}; {device}, {torch.get_num_threads()} threads{images}"
        )
        if config.what is What.memory:
            _compare_memory(setting, iterations, config.kernels.value, out)
        elif config.what is What.machine:
            measured = rates.measure(device, setting.precision, iterations)
            print(measured.text())
            _append([measured.document()], out)
        elif config.what is What.search:
            _compare_searches(setting, chosen, iterations, config, out)
        else:
            _compare_times(setting, chosen, iterations, out)


def _chosen(config: DictConfig, setting: Setting) -> list[Any]:
    """What the pattern matches: cases, or what loads the workloads of searches. UserError where it matches nothing."""
    offered: dict[str, Any]
    if config.what in (What.memory, What.machine):
        offered = {memory.NAME if config.what is What.memory else rates.NAME: None}
    elif config.what is What.search:
        offered = dict(workloads(setting.seed, config.root, config.batch_size))
    else:
        offered = {case.name: case for case in CASES[config.what](setting)}
    chosen = [
        case
        for name, case in offered.items()
        if fnmatchcase(name, config.cases) or fnmatchcase(name.rpartition("/")[2], config.cases)
    ]
    if not chosen:
        kinds = ", ".join(dict.fromkeys(name.partition("/")[0] + "/*" for name in offered))
        raise UserError(
            f"cases={config.cases}: matches no case of what={config.what.value}, which has {kinds}, as in "
            f"{next(iter(offered))}"
        )
    return chosen


def _compare_searches(
    setting: Setting, chosen: Sequence[Workload], iterations: int, config: DictConfig, out: TextIO | None
) -> None:
    limits = _limits(setting)
    for work in chosen:
        result = compare(work, setting, iterations, config.steps, config.epochs, limits)
        print(search_table.text(result), flush=True)
        _append([result.document()], out)


def _compare_languages(config: DictConfig, device: torch.device) -> None:
    if config.root is None:
        raise UserError("root: what=language needs the folder of a text, as data=text does")
    data = text(config.root).to(device)
    child = language.cell(None if config.genotype is None else Path(config.genotype), data, config.seed)
    batch_size = 20 if config.batch_size is None else config.batch_size
    with _opened(config.out) as out:
        print(
            f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, {batch_size} columns\n"
            + language.HEADING,
            flush=True,
        )
        for look in language.compare(data, child, config.steps or 500, batch_size, config.seed):
            print(look.text(), flush=True)
            _append([look.document()], out)


def _limits(setting: Setting) -> Limits:
    if not keep_memory():
        print("the C library cannot be told to keep freed memory: page faults may weigh on either side")
    return measure_limits(setting.device, setting.precision)


def _compare_times(setting: Setting, cases: Sequence[Case], iterations: int, out: TextIO | None) -> None:
    limits = _limits(setting)
    print(table.heading(limits, table.peers(setting.compiled)), flush=True)
    found: list[Result] = []
    for case in cases:
        sides = case.build()
        samples = alternate(sides.calls, iterations, synchronise(setting.device))
        counted: dict[str, Launches] = {}
        if case.name.startswith("step/"):
            counted = {name: count(partial(call, 0), setting.device) for name, call in sides.calls.items()}
        measured = results(case, samples, setting, kernels.in_use(setting.device), counted)
        _tell(measured, limits, sides.absent, out)
        if counted:
            print(table.launches(counted), flush=True)
        found += measured
    if said := table.summary(found):
        print(said)


def _compare_memory(setting: Setting, iterations: int, choice: str, out: TextIO | None) -> None:
    print(table.heading(None, table.peers(compiled=False)), flush=True)
    _tell(list(memory.compare(setting, iterations, choice)), None, {}, out)


def _tell(measured: Sequence[Result], limits: Limits | None, absent: Mapping[str, str], out: TextIO | None) -> None:
    print(table.line(measured, limits, absent), flush=True)
    _append([result.document() for result in measured], out)


def _append(documents: Sequence[Mapping[str, Any]], out: TextIO | None) -> None:
    if out is not None:
        out.writelines(json.dumps(document) + "\n" for document in documents)
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
    paths=("out", "root", "genotype"),
)


def main() -> None:
    """Run the command."""
    configuration.run(VERB)
