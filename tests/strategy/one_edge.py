"""The smallest relaxable space, and pure losses of two levels with answers that are known."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from enas.space import Cost, Decision, Edge, RelaxableNetwork, RelaxableSpace, Scale
from enas.strategy.relaxation import Levels, Loss

OPERATIONS = ("none", "skip_connect", "convolution")


class OneEdge(RelaxableSpace):
    """One edge with a few operations, and no network."""

    name = "one_edge"

    def __init__(self, operations: Sequence[str] = OPERATIONS):
        self.candidates = tuple(operations)
        self.decisions = (Decision("node/edge", "operation", self.candidates, "operation", 0, "node"),)
        self.sampling_order = (0,)
        self.edges = (Edge("node", "input"),)

    @property
    def arguments(self) -> dict[str, Any]:
        return {"operations": list(self.candidates)}

    def to_mixing(self, row: Sequence[int]) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor(list(row)), len(self.candidates)).float()

    def discretise(self, mixing: Tensor) -> list[int]:
        row: list[int] = mixing.argmax(dim=1).tolist()
        return row

    def describe(self, row: Sequence[int]) -> dict[str, Any]:
        return {"edge": self.candidates[row[0]]}

    def text(self, row: Sequence[int]) -> str:
        return self.candidates[row[0]]

    def route(self, choices: Tensor) -> Tensor:
        raise NotImplementedError

    def cost(self, choices: Tensor, scale: Scale) -> Cost:
        """Operation number o costs o parameters and 10 o multiply-adds a pixel, beside a classifier of 7."""
        pixels = scale.height * scale.width
        return Cost(7 + choices[:, 0], 7 + 10 * choices[:, 0] * pixels)

    def network(
        self,
        scale: Scale,
        generator: torch.Generator,
        row: Sequence[int] | None = None,
        auxiliary: bool = False,
    ) -> RelaxableNetwork:
        raise NotImplementedError


def descent(rate: float) -> Callable[[Mapping[str, Tensor]], Callable[..., Any]]:
    """Plain gradient descent from weights: what `Levels.unroll` is."""

    def start(weights: Mapping[str, Tensor]) -> Callable[..., Any]:
        return lambda gradients: ({name: weights[name] - rate * gradients[name] for name in weights}, rate)

    return start


def levels(loss: Loss, weights: Mapping[str, Tensor], rate: float = 0.1) -> Levels:
    """`loss` is told which level it is by its batch: "train" or "valid"."""
    return Levels(loss, weights, "train", "valid", descent(rate)(weights))
