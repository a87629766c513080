"""How a search proceeds, and what a row may cost: plain settings, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from enas.errors import UserError
from enas.space import Scale, SearchSpace

OPENED = 256
"""Rows asked for to see the strategy's choice of operations; a share is then known to about 0.03."""


@dataclass(frozen=True)
class Plan:
    """How long to search, and how the weights and the strategy take turns.

    updates, samples  an epoch ends with `updates` updates of the strategy, on `samples` estimated rows each
    children          who picks the children that train the weights: the strategy, or uniform chance (the strategy then
                      learns over a supernet as single-path one-shot does), or chance first and the strategy after it
    uniform_epochs    how long chance comes first in uniform_then_strategy; the strategy is not updated meanwhile
    candidates        rows derived at the end
    baseline          random rows beside them; None: as many as derived, or, where estimates need no shared weights, as
                      many as the search has estimated
    rescored          the best of them that are estimated again on all validation images
    watched           rows derived and estimated after each epoch, to see progress
    time_budget       seconds after which no new epoch starts; None for no limit
    checkpoint_every  epochs between checkpoints
    log_every         steps of the weights between two entries of the log
    """

    epochs: int
    updates: int = 10
    samples: int = 10
    children: Literal["strategy", "uniform", "uniform_then_strategy"] = "strategy"
    uniform_epochs: int = 0
    candidates: int = 50
    baseline: int | None = None
    rescored: int = 10
    watched: int = 10
    time_budget: float | None = None
    checkpoint_every: int = 1
    log_every: int = 50

    def __post_init__(self) -> None:
        if self.children not in ("strategy", "uniform", "uniform_then_strategy"):
            allowed = "strategy, uniform and uniform_then_strategy"
            raise UserError(f"children={self.children}: allowed are {allowed}")
        for key, value in vars(self).items():
            least = 0 if key in ("updates", "uniform_epochs") else 1
            if key != "children" and value is not None and value < least:
                raise UserError(f"{key}={value}: allowed is {least} or more")

        waits = self.children == "uniform_then_strategy"
        if self.uniform_epochs > 0 and not waits:
            raise UserError(
                f"uniform_epochs={self.uniform_epochs}: it belongs to children=uniform_then_strategy, not to "
                f"children={self.children}"
            )
        if waits and not 0 < self.uniform_epochs < self.epochs:
            raise UserError(
                f"uniform_epochs={self.uniform_epochs}: with children=uniform_then_strategy allowed are 1 to "
                f"{self.epochs - 1}, fewer than epochs={self.epochs}"
            )

    def over(self, epochs: int, seconds: float) -> bool:
        """Whether a search ends that has done `epochs` in `seconds`."""
        return epochs >= self.epochs or (self.time_budget is not None and seconds >= self.time_budget)

    def chance_picks(self, epoch: int) -> bool:
        """Whether chance picks the children of `epoch`, counted from 0."""
        return self.children == "uniform" or self.waits(epoch)

    def asked(self, wanted: int | None) -> int:
        """Rows of an update of a strategy that has use for `wanted`; None: for any number."""
        return self.samples if wanted is None else min(self.samples, wanted)

    def chances(self, spent: float) -> int:
        """Random rows of the baseline, where so many estimates that stay true were spent."""
        return self.baseline or round(spent) or self.candidates

    def waits(self, epoch: int) -> bool:
        """Whether the strategy is not updated in `epoch`."""
        return self.children == "uniform_then_strategy" and epoch < self.uniform_epochs


@dataclass(frozen=True)
class Limits:
    """What a row may cost at `scale`, in parameters and multiply-adds; None where anything goes."""

    scale: Scale
    params: int | None = None
    macs: int | None = None

    def bind(self, space: SearchSpace) -> bool:
        """Whether a sampled row of `space` may be refused."""
        return space.constrained or self.params is not None or self.macs is not None

    def accept(self, space: SearchSpace, choices: Tensor) -> Tensor:
        """bool [n]: which rows are legal and within the limits."""
        passed = space.legal(choices)
        if self.params is None and self.macs is None:
            return passed
        cost = space.cost(choices, self.scale)
        for limit, spent in ((self.params, cost.params), (self.macs, cost.macs)):
            if limit is not None:
                passed = passed & (spent <= limit)
        return passed
