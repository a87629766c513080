"""An ant colony: Byla and Pang 2019, "DeepSwarm: Optimising Convolutional Neural Networks using Swarm Intelligence"."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import SearchSpace
from enas.strategy.history import RememberingSampler

ABSENT = "absent"
REWARD = 1.0
"""What the best ant brings pheromone nearer to.

Published is its accuracy, or 1 / (10 * loss). But a reward below `start` would make the best choices less attractive
than those never tried, and one far above 1 would make them the only ones at once.
"""
REDRAWS = 20
"""How often rows that a space forbids are drawn again; the last time at random."""


class AntColony(RememberingSampler):
    """Ants choose alternatives by pheromone, which told rows leave behind and the best row so far strengthens.

    Pheromone lies on every alternative of every decision, [D, A]. An ant takes, for each decision, the alternative of
    the largest pheromone times heuristic weight with probability `greediness`, else one in proportion to it; of equals
    a random one. The first ant of all takes every alternative alike.

    Told rows act one after the other, in their order. Each brings the pheromone of what it chose nearer to `start`:
    (1 - decay) * pheromone + decay * start. After every `ants` rows the best row so far acts on what it chose:
    (1 - evaporation) * pheromone + evaporation. Only the order of values matters, whatever their sign and size.

    Of the layers that may be absent, the first `ants` rows have at most one, the next at most two, and so on; those
    that are always there (the first node of a growing cell of `pnas`) do not count.

    ants         rows of a generation
    greediness   0 to 1; published as q0
    start        pheromone of everything at first, more than 0 and less than 1
    decay        0 to less than 1, of what an ant chose
    evaporation  0 to less than 1, of what the best ant chose
    heuristic    name of an alternative -> its weight, wherever it may be chosen; 1 for all others
    memory       rows that are kept with their values for `derive`, the newest and the best one

    Raises UserError for a value out of range, and for the weight of an alternative that the space does not have.
    """

    def __init__(
        self,
        space: SearchSpace,
        ants: int = 16,
        greediness: float = 0.5,
        start: float = 0.1,
        decay: float = 0.1,
        evaporation: float = 0.1,
        heuristic: Mapping[str, float] | None = None,
        memory: int = 100,
    ):
        super().__init__(space, memory)
        if ants < 1:
            raise UserError(f"strategy.ants={ants}: allowed is 1 or more")
        if not 0 <= greediness <= 1:
            raise UserError(f"strategy.greediness={greediness}: allowed is 0 to 1")
        if not 0 < start < REWARD:
            raise UserError(f"strategy.start={start}: allowed is more than 0, and less than 1")
        for key, value in (("decay", decay), ("evaporation", evaporation)):
            if not 0 <= value < 1:
                raise UserError(f"strategy.{key}={value}: allowed is 0 or more, and less than 1")
        self.ants, self.greediness, self.start, self.decay, self.evaporation = (
            ants,
            greediness,
            start,
            decay,
            evaporation,
        )
        sizes = space.sizes(torch.device("cpu"))
        self.weights = torch.zeros(len(sizes), int(sizes.max()), dtype=torch.float64)
        """Heuristic weights [D, A]; 0 where a decision has no such alternative."""
        for place, decision in enumerate(space.decisions):
            self.weights[place, : len(decision.alternatives)] = 1.0
        for name, weight in (heuristic or {}).items():
            self._weigh(name, weight)
        self.pheromone = torch.full_like(self.weights, start)
        self.walked = 0
        """How many ants walked, all generations together."""
        self.layers = [
            place
            for place in space.sampling_order
            if space.decisions[place].kind != "skip" and space.decisions[place].alternatives[0] == ABSENT
        ]
        """The decisions on whether there is a layer, first layer first."""

    def _weigh(self, name: str, weight: float) -> None:
        if not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise UserError(f"strategy.heuristic.{name}={weight}: allowed is more than 0")
        found = False
        for place, decision in enumerate(self.space.decisions):
            if name in decision.alternatives:
                self.weights[place, decision.alternatives.index(name)] = weight
                found = True
        if not found:
            names = dict.fromkeys(word for decision in self.space.decisions for word in decision.alternatives)
            raise UserError(f"strategy.heuristic.{name}={weight}: allowed are weights of {', '.join(names)}")

    def ask(self, count: int, generator: torch.Generator) -> Tensor:
        rows = self._walk(count, generator)
        if self.walked == 0:
            rows[:1] = self._limited(self.space.random(1, generator))
        if self.space.constrained:
            for redraw in range(REDRAWS):
                wrong = (~self.space.legal(rows)).nonzero()[:, 0]
                if not len(wrong):
                    break
                last = redraw == REDRAWS - 1
                rows[wrong] = (self.space.random if last else self._walk)(len(wrong), generator)
        return rows

    def _walk(self, count: int, generator: torch.Generator) -> Tensor:
        """Rows [count, D] by pheromone and heuristic weight."""
        attraction = self.pheromone * self.weights
        draw = partial(torch.rand, generator=generator, device=generator.device, dtype=torch.float64)
        noise = draw(count, *attraction.shape).clamp_min(torch.finfo(torch.float64).tiny)
        # Of exponential waiting times with these rates, each is the first in proportion to its rate.
        proportional = (attraction / -(-noise).log1p()).argmax(dim=2)
        largest = attraction == attraction.amax(dim=1, keepdim=True)
        greedy = torch.where(largest, noise, -1.0).argmax(dim=2)
        rows = torch.where(draw(proportional.shape) < self.greediness, greedy, proportional)
        return self._limited(rows)

    def _limited(self, rows: Tensor) -> Tensor:
        """Rows of at most as many layers as this generation may have; legal where the space is not constrained."""
        rows = rows.clone()
        rows[:, self.layers[self.depth :]] = 0
        return self.space.settle(rows)

    @property
    def depth(self) -> int:
        """The most layers of an ant of this generation, where layers may be absent."""
        return 1 + self.walked // self.ants

    def tell(self, estimates: Estimates) -> dict[str, Tensor]:
        metrics: dict[str, Tensor] = {}
        told, device = 0, estimates.value.device
        while told < len(estimates):
            left = min(self.ants - self.walked % self.ants, len(estimates) - told)
            some = estimates.select(torch.arange(told, told + left, device=device))
            metrics = super().tell(some)
            for row in some.choices.unbind():
                self._move(row, self.decay, self.start)
            if (self.walked + left) % self.ants == 0:
                self._move(self.history.rows[self.history.values.argmax()], self.evaporation, REWARD)
            told, self.walked = told + left, self.walked + left
        attraction = self.pheromone * self.weights
        return {**metrics, "strategy/certainty": (attraction.amax(dim=1) / attraction.sum(dim=1)).mean()}

    def _move(self, row: Tensor, share: float, target: float) -> None:
        """Bring the pheromone of what one row [D] chose nearer to `target` by `share` of the distance.

        That a layer is absent which this generation could not have is no choice.
        """
        chose = self.space.active(row[None])[0]
        chose[self.layers[self.depth :]] = False
        pheromone = self.pheromone.gather(1, row[:, None])
        moved = torch.where(chose[:, None], (1 - share) * pheromone + share * target, pheromone)
        self.pheromone = self.pheromone.scatter(1, row[:, None], moved)

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.weights, self.pheromone = self.weights.to(device), self.pheromone.to(device)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "pheromone": self.pheromone, "walked": self.walked}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.pheromone, self.walked = state["pheromone"].clone(), state["walked"]
