"""SNAS: soft samples of every edge, weights and alpha in one backward pass (Xie, Zheng, Liu and Lin, ICLR 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from enas.errors import UserError
from enas.space import Scale, SearchSpace
from enas.strategy.annealed import Annealed


class Snas(Annealed):
    """The mixing is a sample of the concrete distribution, softmax((log softmax(alpha) + Gumbel noise) / temperature).

    There is one level: alpha learns from the loss on training data, with the weights. The temperature falls
    exponentially over the training, from `temperature` to `final_temperature`.

    resource         what a network may be charged for: its parameters, or its multiply-adds
    resource_weight  what the dearest mixture costs, in nats; others cost their share of it, in expectation over
                     softmax(alpha). 0: nothing

    See Relaxation for the other keys. Raises UserError for a value out of range.
    """

    two_level = False

    def __init__(
        self,
        space: SearchSpace,
        temperature: float = 1.0,
        final_temperature: float = 0.03,
        resource: Literal["params", "macs"] = "macs",
        resource_weight: float = 0.0,
        learning_rate: float = 3e-4,
        betas: Sequence[float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        initial: float = 1e-3,
        seed: int = 0,
    ):
        super().__init__(space, temperature, final_temperature, learning_rate, betas, weight_decay, initial, seed)
        if resource not in ("params", "macs"):
            raise UserError(f"strategy.resource={resource}: allowed are params and macs")
        if not 0 <= resource_weight < math.inf:
            raise UserError(f"strategy.resource_weight={resource_weight}: allowed is 0 or more")
        self._resource, self._weight = resource, resource_weight
        self.prices = torch.zeros(self.alpha.shape)
        """What each operation of each edge adds to the loss, in nats [E, O]; zeros until the scale is settled."""

    def temperature(self, progress: float) -> float:
        first, last = self._temperatures
        return first * math.pow(last / first, progress)

    def mixing(self, generator: torch.Generator, progress: float) -> Tensor:
        return (self._noisy(generator) / self.temperature(progress)).softmax(dim=1)

    def settle(self, scale: Scale) -> None:
        if self._weight > 0:
            cost = self.relaxable.edge_costs(scale)
            spent = (cost.params if self._resource == "params" else cost.macs).double()
            dearest = spent.amax(dim=1).sum().clamp_min(1)
            self.prices = (self._weight * spent / dearest).to(self.alpha)

    def penalty(self) -> Tensor:
        return (self.alpha.softmax(dim=1) * self.prices).sum()

    def measures(self, progress: float) -> dict[str, Tensor]:
        return {**super().measures(progress), "strategy/penalty": self.penalty().detach()}

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.prices = self.prices.to(device)
