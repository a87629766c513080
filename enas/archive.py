"""Every row a search has estimated, where estimates stay true: without shared weights, which move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from enas.architecture import Estimates


class Archive:
    """Estimates in the order they were made, whatever was spent on each; of step 0 alone, that of weights not trained.

    Later ones depend on shared weights, and are not kept.
    """

    def __init__(self) -> None:
        self._told: list[Estimates] = []

    def __len__(self) -> int:
        return sum(len(estimates) for estimates in self._told)

    @property
    def spent(self) -> float:
        """What all of them cost, in full estimates."""
        return sum(len(estimates) * estimates.budget for estimates in self._told)

    def add(self, estimates: Estimates) -> None:
        if estimates.step == 0:
            self._told.append(estimates)

    def full(self) -> Estimates | None:
        """All full estimates, in the order they were made; None where there is none."""
        full = [estimates for estimates in self._told if estimates.budget == 1]
        return Estimates.joined(full) if full else None

    def best(self, count: int, canonical: Callable[[Tensor], Tensor]) -> Estimates | None:
        """At most `count` full estimates of different functions, best first; None where there is none.

        Of equal values the first that was made.
        """
        full = self.full()
        if full is None:
            return None
        found = full.top(len(full)).distinct(canonical)
        return found.select(torch.arange(min(count, len(found)), device=found.choices.device))

    def state_dict(self) -> dict[str, Any]:
        return {"told": [vars(estimates) | {"metrics": dict(estimates.metrics)} for estimates in self._told]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._told = [Estimates(**fields) for fields in state["told"]]
