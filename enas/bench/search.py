"""A whole search, ours and plain PyTorch's, in segments that take turns: where the time of an epoch goes.

An epoch: the strategy is asked for a child for each training step, the steps train them, then each update asks for
rows, scores them on one batch of validation images, and tells the strategy; at the end the rows it would derive are
scored. Logs, drawings and checkpoints are left out on both sides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from enas import kernels
from enas.api import scale_for
from enas.bench import floor
from enas.bench.cases import OURS, Setting, device_name
from enas.bench.launches import count
from enas.bench.machine import Limits, peer_precision, synchronise
from enas.bench.networks import Contestants, sample
from enas.bench.sides import OurSide, PeerSide, Side
from enas.bench.timing import WARM_UP, Interval, alternate, median
from enas.bench.workloads import Workload
from enas.randomness import seeded
from enas.space import EnasMicro

PARTS = ("weights", "scoring", "controller", "rest")
"""Training steps; scores of rows; the strategy asked and told in updates; asked for the children of an epoch."""


@dataclass(frozen=True)
class SideResult:
    """One side; times are medians, in seconds, of one epoch.

    search_s        the epoch times the epochs of the search
    images_per_s    training images, while the weights are trained
    children_per_s  rows scored, while they are
    peak_bytes      above what was there before a segment; None where a side cannot be told from the other
    step_launches   kernels of a training step with its batch, measured on CUDA and estimated on a CPU
    """

    weights_s: float
    scoring_s: float
    controller_s: float
    rest_s: float
    epoch_s: float
    search_s: float
    images_per_s: float
    children_per_s: float
    peak_bytes: int | None
    step_launches: int


@dataclass(frozen=True)
class Floor:
    """The shortest time on a chip, in seconds, and which part of either side's time that is."""

    epoch_s: float
    search_s: float
    ours_reached: float
    peer_reached: float


@dataclass(frozen=True)
class SearchResult:
    """One line of the output. `ratio` is that of epochs; those of the parts are medians of segments too."""

    case: str
    device: str
    precision: str
    peer: str
    ratio: float
    ratio_low: float
    ratio_high: float
    n: int
    peer_precision: str
    batch_size: int
    threads: int
    kernels: str
    data: str
    epochs: float
    epoch_steps: int
    epoch_updates: int
    samples: int
    segment_steps: int
    segment_updates: int
    ours: SideResult
    plain: SideResult
    ratios: Mapping[str, Interval]
    floors: Mapping[str, Floor]

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


Parts = dict[str, float]


def compare(
    work: Workload, setting: Setting, iterations: int, steps: int | None, epochs: float, limits: Limits
) -> SearchResult:
    """Measure both sides in `iterations` segments of `steps` training steps; None chooses by the device."""
    setting = replace(setting, batch_size=work.batch_size)
    work = replace(work, data=work.data.to(setting.device).stored_as(setting.storage))
    chosen = (
        work.steps if steps is None and (setting.device.type == "cuda" or work.slow is None) else steps or work.slow
    )
    assert chosen is not None
    chosen = min(chosen, work.steps)
    updates = max(1, round(work.updates * chosen / work.steps))
    both = Contestants(scale_for(work.data, work.layers, work.filters), setting)
    peer = _better(both, work, setting)
    sides: dict[str, Side] = {
        OURS: OurSide(both.supernet, work.data, setting, work.clip),
        peer: PeerSide(both.peers[peer], peer, work.data, setting, work.clip),
    }
    wait, found, peaks = synchronise(setting.device), {name: list[Parts]() for name in sides}, dict.fromkeys(sides, 0)
    rows = EnasMicro().random(chosen * (WARM_UP + iterations), seeded(setting.seed, "children"))

    def call(name: str) -> Callable[[int], None]:
        def run(_: int) -> None:
            turn = len(found[name])
            with _peak(setting.device) as told:
                found[name].append(segment(sides[name], work, rows[turn * chosen :][:chosen], updates, wait))
            peaks[name] = max(peaks[name], told[0])

        return run

    alternate({name: call(name) for name in sides}, iterations, wait, shortest=0.0)
    ours, plain = (found[name][WARM_UP:] for name in (OURS, peer))
    on_cuda = setting.device.type == "cuda"
    results = []
    for name, parts in ((OURS, ours), (peer, plain)):
        launches = count(partial(sides[name].train, rows[:1]), setting.device).total
        results.append(_side(parts, work, epochs, peaks[name] if on_cuda else None, launches))
    ratios = {
        part: median([theirs[part] / own[part] for theirs, own in zip(plain, ours, strict=True)])
        for part in (*PARTS, "epoch")
    }
    parameters = sum(parameter.numel() for parameter in both.supernet.parameters())
    return SearchResult(
        work.name,
        device_name(setting.device),
        setting.precision,
        peer,
        *ratios["epoch"],
        n=iterations,
        peer_precision=peer_precision(setting.precision, setting.device),
        batch_size=work.batch_size,
        threads=torch.get_num_threads(),
        kernels=kernels.in_use(setting.device),
        data=work.data.name,
        epochs=epochs,
        epoch_steps=work.steps,
        epoch_updates=work.updates,
        samples=work.samples,
        segment_steps=chosen,
        segment_updates=updates,
        ours=results[0],
        plain=results[1],
        ratios=ratios,
        floors=_floors(work, setting, parameters, epochs, limits, results[0], results[1]),
    )


def segment(
    side: Side,
    work: Workload,
    rows: Tensor,
    updates: int,
    wait: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
) -> Parts:
    """Seconds of each part of an epoch, from a training step of each of `rows` and some updates.

    Both sides train the same children, not those that they ask for. The device is waited for between parts.
    """
    seconds = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        start = clock()
        yield
        wait()
        seconds[part] += clock() - start

    wait()
    with timed("rest"):
        side.children(work.steps)
    with timed("weights"):
        side.train(rows)
    for _ in range(updates):
        with timed("controller"):
            asked = side.ask(work.samples)
        with timed("scoring"):
            scores = side.score(asked)
        with timed("controller"):
            side.tell(asked, scores)
    seconds["weights"] *= work.steps / len(rows)
    seconds["controller"] *= work.updates / updates
    seconds["scoring"] *= (work.updates + 1) / updates  # once more at the end of the epoch
    return {**seconds, "epoch": sum(seconds.values())}


def _better(both: Contestants, work: Workload, setting: Setting) -> str:
    """The layout in which plain PyTorch takes a training step in less time."""
    seconds = {}
    for layout, network in both.peers.items():
        side = PeerSide(network, layout, work.data, setting, work.clip)
        rows = EnasMicro().random(4, seeded(setting.seed, "children"))
        side.train(rows[:2])
        synchronise(setting.device)()
        start = time.perf_counter()
        side.train(rows[2:])
        synchronise(setting.device)()
        seconds[layout] = time.perf_counter() - start
    return min(seconds, key=seconds.__getitem__)


@contextmanager
def _peak(device: torch.device) -> Iterator[list[int]]:
    """Gives a list with the peak of CUDA's memory above what was there before; of 0 on a CPU."""
    told = [0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    yield told
    if device.type == "cuda":
        told[0] = torch.cuda.max_memory_allocated(device) - before


def _side(parts: Sequence[Parts], work: Workload, epochs: float, peak: int | None, launches: int) -> SideResult:
    own: dict[str, Any] = {f"{part}_s": median([one[part] for one in parts]).value for part in (*PARTS, "epoch")}
    return SideResult(
        **own,
        search_s=epochs * own["epoch_s"],
        images_per_s=work.steps * work.batch_size / own["weights_s"],
        children_per_s=(work.updates + 1) * work.samples / own["scoring_s"],
        peak_bytes=peak,
        step_launches=launches,
    )


def _floors(
    work: Workload,
    setting: Setting,
    parameters: int,
    epochs: float,
    limits: Limits,
    ours: SideResult,
    plain: SideResult,
) -> dict[str, Floor]:
    scale, rows = scale_for(work.data, work.layers, work.filters), sample(setting)
    step, score = floor.step(scale, rows, setting, parameters), floor.forward(scale, rows, setting)
    floors = {}
    for name, chip in {"this machine": floor.measured(setting, limits), **floor.known(setting.precision)}.items():
        epoch = work.steps * step.seconds(chip) + (work.updates + 1) * work.samples * score.seconds(chip)
        floors[name] = Floor(epoch, epochs * epoch, epoch / ours.epoch_s, epoch / plain.epoch_s)
    return floors
