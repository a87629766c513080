"""Weights, gradients and steps of gradient descent that are hostile to who computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.operations import normal
from tolerances import assert_same

SHAPES = ((3, 5), (0,), (1,), (), (2, 3, 3, 16), (33,), (40_000,), (0, 4), (7, 3), (64,))
"""Empty ones, odd ones, and one of several blocks of either twin."""
ABSENT = (4, 7, 8)
"""Those that get no gradient, a large one among them."""
STEPS = (0.1, 0.03, 0.2)

Descend = Callable[..., Tensor]


class Weights(NamedTuple):
    weights: list[Tensor]
    momenta: Tensor
    decays: list[float]

    def copy(self) -> Weights:
        return Weights([weight.clone() for weight in self.weights], self.momenta.clone(), self.decays)

    def tensors(self) -> list[Tensor]:
        return [*self.weights, self.momenta]


def weights_of(dtype: torch.dtype, shapes: Sequence[Sequence[int]] = SHAPES) -> Weights:
    """Random ones, of which every third does not decay; momenta are zero."""
    weights = [normal(*shape, seed=seed).to(dtype) for seed, shape in enumerate(shapes)]
    momenta = torch.zeros(sum(weight.numel() for weight in weights), dtype=dtype)
    return Weights(weights, momenta, [0.0 if place % 3 == 0 else 0.1 for place in range(len(weights))])


def gradients_of(weights: Sequence[Tensor], seed: int, absent: Sequence[int] = ABSENT) -> list[Tensor | None]:
    """Random ones, zero in some whole blocks of the largest."""
    gradients: list[Tensor | None] = []
    for place, weight in enumerate(weights):
        gradient = normal(*weight.shape, seed=seed + place).to(weight)
        if weight.numel() > 30_000:
            gradient[:17_000] = 0
        gradients.append(None if place in absent else gradient)
    return gradients


def rate_of(own: Weights, rate: float) -> Tensor:
    return own.momenta.new_full((), rate)


def steps(descend: Descend, own: Weights, nesterov: bool, clip: float | None) -> list[Tensor]:
    """The norms of several steps."""
    norms = []
    for number, rate in enumerate(STEPS):
        gradients = gradients_of(own.weights, 100 * number)
        kept = [None if gradient is None else gradient.clone() for gradient in gradients]
        norms.append(descend(own.weights, own.momenta, gradients, own.decays, rate_of(own, rate), 0.9, nesterov, clip))
        for gradient, before in zip(gradients, kept, strict=True):
            assert gradient is before or torch.equal(gradient, before)  # type: ignore[arg-type]
    return norms


def assert_all_same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)
