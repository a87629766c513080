"""What a search among many of a study tells: the rows it estimated, and nothing on disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.comparison import Comparison
from enas.report import Report
from enas.study import Track
from enas.supernet import Child


@dataclass
class Tally(Report):
    """Remembers what a search says, for `track` at its end."""

    objective: str
    warnings: list[str] = field(default_factory=list)
    lines: int = 0
    """Nothing is written."""
    estimated: list[Estimates] = field(default_factory=list)
    strategy_seconds: float = 0.0
    comparison: Comparison | None = None
    seconds: float = 0.0

    def save(self, state: Mapping[str, Any]) -> None:
        """Nothing is kept: a trial is short, and a study that is stopped begins it again."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Nothing is logged."""

    def told(self, estimates: Estimates) -> None:
        self.estimated.append(estimates)

    def epoch(
        self,
        epoch: int,
        values: Mapping[str, float],
        told: Sequence[Mapping[str, Tensor]],
        watched: Estimates,
        opened: Tensor,
        step: int,
    ) -> None:
        self.strategy_seconds += values.get("time/share/strategy", 0.0) * values["time/epoch_seconds"]

    def best_so_far(self, estimates: Estimates, step: int) -> None:
        """A trial that is stopped is lost."""

    def finish(self, comparison: Comparison, child: Child | None, seconds: float, step: int) -> None:
        self.comparison, self.seconds = comparison, seconds

    def track(self, seed: int, worth: Callable[[Estimates], Tensor]) -> Track:
        """The search once it has finished; `worth` says what n rows are worth to the study, [n].

        Estimates by shared weights cannot be compared over time: of such a search only what it found is known.
        """
        assert self.comparison is not None
        spent, improving, total, best = list[float](), list[Estimates](), 0.0, -math.inf
        for estimates in self.estimated:
            for place, value in enumerate(estimates.value.tolist()):
                total += estimates.budget
                if estimates.budget == 1 and estimates.step == 0 and value > best:
                    best = value
                    spent.append(total)
                    improving.append(estimates.select(torch.tensor([place])))
        rows = sum(len(estimates) for estimates in self.estimated)
        return Track(
            seed,
            spent,
            worth(Estimates.joined(improving)).tolist() if improving else [],
            float(worth(self.comparison.best)),
            self.strategy_seconds / rows if rows else None,
            self.seconds,
            total,
        )
