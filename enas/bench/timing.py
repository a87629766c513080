"""Timing several ways of computing one thing: alternating, in one process, as ratios of neighbours in time.

A shared machine swings by 30 % from minute to minute, so a mean against a mean says little. Here all ways take their
turn in every iteration, in an order that rotates, and what is reported is the median of the iterations' ratios.
"""

from __future__ import annotations

import gc
import math
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Call = Callable[[int], object]
"""Does the work once; takes the number of the iteration, so that all sides may do the same child."""

WARM_UP = 2
"""Iterations that are not counted: caches, thread pools, the choice of algorithms."""


@dataclass
class Samples:
    """What the iterations of one side took."""

    seconds: list[float] = field(default_factory=list)
    """Of one call, by iteration."""
    faults: list[float] = field(default_factory=list)
    """Minor page faults of one call, by iteration: not zero where the allocator gives memory back in between."""


class Interval(NamedTuple):
    """A median and the interval it lies in."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def alternate(
    sides: Mapping[str, Call],
    iterations: int,
    synchronise: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    shortest: float = 0.01,
) -> dict[str, Samples]:
    """Time every side in every iteration; all of them `WARM_UP` times before.

    synchronise  waits until the device has done what was asked of it
    clock        seconds
    shortest     of a timed stretch, in seconds: a faster side is called several times in a row, as often in every
                 iteration as its warm-up suggests, and its time divided
    """
    samples = {name: Samples() for name in sides}
    calls: dict[str, int] = {}
    for iteration in range(WARM_UP):
        for name, call in sides.items():
            seconds = _stretch(call, iteration, 1, synchronise, clock)
            calls[name] = max(1, math.ceil(shortest / max(seconds, 1e-7)))
    order = list(sides)
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for iteration in range(iterations):
            for name in order:
                faults = _minor_faults()
                seconds = _stretch(sides[name], iteration, calls[name], synchronise, clock)
                samples[name].seconds.append(seconds / calls[name])
                samples[name].faults.append((_minor_faults() - faults) / calls[name])
            order.append(order.pop(0))
    finally:
        if collecting:
            gc.enable()
    return samples


def ratios(peer: Samples, ours: Samples) -> Interval:
    """How many times as long the peer takes: the median of the iterations' ratios."""
    return median([theirs / own for theirs, own in zip(peer.seconds, ours.seconds, strict=True)])


def median(values: Sequence[float], level: float = 0.95) -> Interval:
    """The median, and two of the values that enclose the true median with at least the probability `level`.

    The interval follows from the binomial distribution alone, whatever the values' own. Fewer than six values cannot
    give 95 %: then it is their whole range.
    """
    ordered = sorted(values)
    count, outside, place = len(ordered), 0.0, 0
    for place in range(count // 2 + 1):
        outside += 2 * math.comb(count, place) / 2**count
        if outside > 1 - level:
            break
    place = max(place - 1, 0)
    return Interval(statistics.median(ordered), ordered[place], ordered[count - 1 - place])


def geometric_mean(values: Sequence[float]) -> float:
    """The mean of ratios."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def _stretch(
    call: Call, iteration: int, times: int, synchronise: Callable[[], None], clock: Callable[[], float]
) -> float:
    synchronise()
    start = clock()
    for _ in range(times):
        call(iteration)
    synchronise()
    return clock() - start


def _minor_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
