"""GDAS: one operation of each edge, drawn by Gumbel noise and differentiated as if soft (Dong & Yang, CVPR 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from enas.space import SearchSpace
from enas.strategy.annealed import Annealed


class Gdas(Annealed):
    """The mixing is one-hot: the strongest of log softmax(alpha) + Gumbel noise, so that one operation an edge is run.

    Its gradient is that of softmax((log softmax(alpha) + noise) / temperature), of the chosen operation's weight alone
    (straight-through). The temperature falls linearly over the training, from `temperature` to `final_temperature`.

    See Relaxation for the other keys. Raises UserError for a temperature out of range.
    """

    hard = True

    def __init__(
        self,
        space: SearchSpace,
        temperature: float = 10.0,
        final_temperature: float = 0.1,
        learning_rate: float = 3e-4,
        betas: Sequence[float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        initial: float = 1e-3,
        seed: int = 0,
    ):
        super().__init__(space, temperature, final_temperature, learning_rate, betas, weight_decay, initial, seed)

    def temperature(self, progress: float) -> float:
        first, last = self._temperatures
        return first + (last - first) * progress

    def mixing(self, generator: torch.Generator, progress: float) -> Tensor:
        noisy = self._noisy(generator)
        soft = (noisy / self.temperature(progress)).softmax(dim=1)
        chosen = torch.zeros_like(soft).scatter(1, noisy.argmax(dim=1, keepdim=True), 1.0)
        return chosen + (soft - soft.detach())  # exactly ones and zeros
