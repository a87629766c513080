"""Relaxations whose mixing is drawn with Gumbel noise, ever colder: what GDAS and SNAS have in common."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from enas.errors import UserError
from enas.space import SearchSpace
from enas.strategy.relaxation import Relaxation, gumbel


class Annealed(Relaxation):
    """The temperature of the samples falls over the training, from `temperature` to `final_temperature`.

    See Relaxation for the other keys. Raises UserError for a temperature out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        temperature: float,
        final_temperature: float,
        learning_rate: float,
        betas: Sequence[float],
        weight_decay: float,
        initial: float,
        seed: int,
    ):
        super().__init__(space, learning_rate, betas, weight_decay, initial, seed)
        for key, value in (("temperature", temperature), ("final_temperature", final_temperature)):
            if not 0 < value < math.inf:
                raise UserError(f"strategy.{key}={value}: allowed is more than 0")
        self._temperatures = temperature, final_temperature

    @abstractmethod
    def temperature(self, progress: float) -> float:
        """At this share of the training, 0..1."""

    def _noisy(self, generator: torch.Generator) -> Tensor:
        """log softmax(alpha) + Gumbel noise, [E, O]: its largest entries are a sample of softmax(alpha)."""
        logits = self.alpha.log_softmax(dim=1)
        return logits + gumbel(logits.shape, generator, logits)

    def measures(self, progress: float) -> dict[str, Tensor]:
        found = super().measures(progress)
        return {**found, "strategy/temperature": found["strategy/entropy"].new_tensor(self.temperature(progress))}
