"""Learning rates over time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from enas.errors import UserError


@dataclass(frozen=True)
class Cosine:
    """Cosine decay, one rate an epoch, with or without warm restarts (Loshchilov & Hutter 2017; authors' utils.py).

    maximum, minimum  learning rate at the start and at the end of a cycle
    period            epochs of the first cycle; None for one cycle over all epochs. With a period the rate does not
                      depend on how many epochs there will be, so that a run can be prolonged
    multiplier        each next cycle is so many times as long
    warmup            epochs of linear increase before the first cycle
    """

    maximum: float = 0.05
    minimum: float = 0.0
    period: int | None = None
    multiplier: int = 2
    warmup: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.maximum:
            raise UserError(f"train.rate.minimum={self.minimum}: allowed is 0 to train.rate.maximum={self.maximum}")
        least = {"multiplier": (self.multiplier, 1), "warmup": (self.warmup, 0)}
        if self.period is not None:
            least["period"] = (self.period, 1)
        for key, (value, bound) in least.items():
            if value < bound:
                raise UserError(f"train.rate.{key}={value}: allowed is {bound} or more")

    def rate(self, epoch: int, epochs: int) -> float:
        """The rate of `epoch`, counted from 0, in a run of `epochs`."""
        if epoch < self.warmup:
            return self.maximum * (epoch + 1) / (self.warmup + 1)
        start, length = self.warmup, self.period or max(epochs - self.warmup, 1)
        while self.period is not None and epoch >= start + length:
            start, length = start + length, length * self.multiplier
        decay = 0.5 * (1 + math.cos(math.pi * (epoch - start) / length))
        return self.minimum + (self.maximum - self.minimum) * decay
