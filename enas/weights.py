"""What a search trains beside its strategy: shared weights, whatever they read, or none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from enas.descent import Descent
from enas.graph import Captured, wanted
from enas.phases import Phases
from enas.randomness import Randomness
from enas.schedule import Cosine
from enas.supernet import Child, Supernet


class Weights(ABC):
    """Trains some weights, one child or several a step; whose turn it is, the caller says."""

    unit: ClassVar[str]
    """What `examples` counts."""
    children: int
    """Rows of a step."""
    phases: Phases
    step_count: int = 0
    """Steps done in all."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """Steps of an epoch; 0 where there are no weights."""

    @property
    @abstractmethod
    def examples(self) -> int:
        """Images or words of a step."""

    def begin(self, by_chance: bool, learning: bool) -> None:  # noqa: B027 - paths are trained alike whoever chose them
        """Steps of an epoch follow, whose rows chance drew or the strategy; `learning`: the strategy learns in it."""

    @abstractmethod
    def rate(self, epoch: int, epochs: int) -> float:
        """The learning rate of `epoch`, counted from 0, in a run of `epochs`."""

    @abstractmethod
    def step(self, choices: Tensor, rate: float) -> None:
        """Train `children` children, choices [M, D], on what comes next, at the learning rate `rate`."""

    @abstractmethod
    def check(self, epoch: int) -> None:
        """Raise UserError where the weights were lost in `epoch`, counted from 1: a loss was not finite."""

    @abstractmethod
    def extract(self, choices: Tensor) -> Child | None:
        """The child of the row [1, D] with its share of the weights; None where there are none."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Means since the last call, by tag."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]: ...

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class NoWeights(Weights):
    """The place of the shared weights in a search whose estimates need none: there is nothing to train."""

    unit = "children"
    children = 1
    steps = examples = 0

    def __init__(self, device: torch.device):
        self.phases = Phases(device)

    def rate(self, epoch: int, epochs: int) -> float:
        return 0.0

    def step(self, choices: Tensor, rate: float) -> None:
        raise AssertionError("an epoch has no steps")

    def check(self, epoch: int) -> None:
        pass

    def extract(self, choices: Tensor) -> None:
        return None

    def metrics(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class WeightTraining(Weights):
    """Trains a supernet.

    Nothing in a step waits for the device: batch, forward and backward pass, clipping, optimiser and metrics are all
    tensors there, and the metrics are read when `metrics` is called.
    """

    PURPOSES: ClassVar[tuple[str, ...]] = ("order", "augment")
    """What `randomness` must have generators for: what comes next, and what is changed at random in it."""
    METRICS: ClassVar[tuple[str, ...]]
    """What `_train` adds up in each step."""

    def __init__(
        self,
        supernet: Supernet,
        randomness: Randomness,
        descent: Descent,
        schedule: Cosine,
        children: int,
        graph: Literal["auto", "off"],
    ):
        self.supernet, self.descent, self.children = supernet, descent, children
        self._augment, self._schedule = randomness["augment"], schedule
        self.step_count = 0
        device = randomness.device
        self._sums = torch.zeros(len(self.METRICS), dtype=torch.float64, device=device)
        self._summed = 0
        self._rate = next(supernet.parameters()).new_zeros(())
        self._captured = Captured(self._train, [self._augment], wanted(graph, device, supernet.space.static))
        self.phases = Phases(device)

    def rate(self, epoch: int, epochs: int) -> float:
        return self._schedule.rate(epoch, epochs)

    def step(self, choices: Tensor, rate: float) -> None:
        self.phases.enter("step")
        self._advance(choices, *self._next(rate))
        self._summed += 1
        self.step_count += 1

    def _advance(self, *inputs: Tensor) -> None:
        """Do the step: `_train`, or a captured replay of it."""
        self._captured(*inputs)

    @abstractmethod
    def _next(self, rate: float) -> tuple[Tensor, ...]:
        """What `_train` takes beside the choices."""

    @abstractmethod
    def _train(self, *inputs: Tensor) -> None:
        """The part of a step that is done on the device: children [M, D], then what `_next` gave."""

    def check(self, epoch: int) -> None:
        self.descent.check(epoch)

    def extract(self, choices: Tensor) -> Child:
        return self.supernet.extract(choices[0].tolist())

    def metrics(self) -> dict[str, float]:
        means = (self._sums / max(self._summed, 1)).tolist()
        self._sums.zero_()
        self._summed = 0
        return {f"weights/{name}": value for name, value in zip(self.METRICS, means, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        return {
            "supernet": self.supernet.state_dict(),
            "descent": self.descent.state_dict(),
            "step_count": self.step_count,
            "sums": self._sums,
            "summed": self._summed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.supernet.load_state_dict(state["supernet"])
        self.descent.load_state_dict(state["descent"])
        self.step_count = state["step_count"]
        self._sums.copy_(state["sums"])
        self._summed = state["summed"]
