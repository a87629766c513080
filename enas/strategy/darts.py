"""DARTS: differentiable architecture search, of first and second order (Liu, Simonyan and Yang, ICLR 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from enas.errors import UserError
from enas.space import SearchSpace
from enas.strategy.relaxation import Levels, Relaxation, constants, leaves

REACH = 0.01
"""How far from the weights the finite difference looks, as the length of the whole step (paper, section 2.3)."""


class Darts(Relaxation):
    """The mixing is softmax(alpha) of each edge; alpha descends the validation loss.

    order  1: at the weights as they are. 2: at the weights after their own next step, which depends on alpha too: its
           part of the gradient is a Hessian-vector product, taken as a central finite difference

    See Relaxation for the other keys. Raises UserError for another order.
    """

    def __init__(
        self,
        space: SearchSpace,
        order: Literal[1, 2] = 2,
        learning_rate: float = 3e-4,
        betas: Sequence[float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        initial: float = 1e-3,
        seed: int = 0,
    ):
        super().__init__(space, learning_rate, betas, weight_decay, initial, seed)
        if order not in (1, 2):
            raise UserError(f"strategy.order={order}: allowed are 1 and 2")
        self.order, self.exact = order, order == 2

    def mixing(self, generator: torch.Generator, progress: float) -> Tensor:
        return self.alpha.softmax(dim=1)

    def update(self, levels: Levels, generator: torch.Generator, progress: float) -> Tensor:
        if self.order == 1:
            return super().update(levels, generator, progress)
        weights = leaves(levels.weights)
        loss = levels.loss(weights, self.mixing(generator, progress).detach(), levels.train)
        moved, reach = levels.unroll(_gradients(loss, weights))

        after = leaves(moved)
        loss = levels.loss(after, self.mixing(generator, progress), levels.valid)
        found = torch.autograd.grad(
            loss, [*self.learned.values(), *after.values()], allow_unused=True, materialize_grads=True
        )
        count = len(self.learned)
        vector = dict(zip(after, found[count:], strict=True))
        product = self._product(levels, vector, generator, progress)
        return self.move([direct - reach * indirect for direct, indirect in zip(found[:count], product, strict=True)])

    def _product(
        self, levels: Levels, vector: dict[str, Tensor], generator: torch.Generator, progress: float
    ) -> list[Tensor]:
        """The mixed second derivative of the training loss, by alpha and by the weights, times `vector`."""
        length = nn.utils.get_total_norm(list(vector.values()))
        # Where the validation loss does not depend on the weights the product is 0, and so is what is found.
        epsilon = REACH / length.clamp_min(torch.finfo(length.dtype).tiny)
        sides = []
        for sign in (1, -1):
            shifted = {name: weight + sign * epsilon * vector[name] for name, weight in levels.weights.items()}
            loss = levels.loss(constants(shifted), self.mixing(generator, progress), levels.train)
            sides.append(self._gradients(loss))
        return [(plus - minus) / (2 * epsilon) for plus, minus in zip(*sides, strict=True)]


def _gradients(loss: Tensor, weights: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """By name; zeros where `loss` does not depend on a weight."""
    found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(weights, found, strict=True))
