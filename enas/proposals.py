"""Rows that a search goes on with: drawn, held against the limits, and counted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from enas.phases import Phases
from enas.plan import Limits
from enas.space import SearchSpace
from enas.strategy import propose

Draw = Callable[[int, torch.Generator], Tensor]
"""Gives so many rows [n, D] by a generator."""


class Proposals:
    """Draws rows that are legal and within `limits`, and knows how many were drawn and rejected since `restart`."""

    def __init__(self, space: SearchSpace, limits: Limits, phases: Phases):
        self._phases = phases
        self.accept = partial(limits.accept, space) if limits.bind(space) else None
        """Which of rows [n, D] pass, bool [n]; None where all do."""
        self.restart()

    def restart(self) -> None:
        self._drawn = self._rejected = 0

    @property
    def rejected(self) -> float:
        """The share of the drawn rows that was rejected."""
        return self._rejected / max(self._drawn, 1)

    def make(self, draw: Draw, count: int, generator: torch.Generator) -> Tensor:
        """`count` rows [count, D] out of those that `draw` gives. Raises UserError where too few pass."""
        self._phases.enter("strategy")
        rows, drawn, rejected = propose(lambda number: draw(number, generator), count, self.accept)
        self._drawn, self._rejected = self._drawn + drawn, self._rejected + rejected
        return rows

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self._drawn, "rejected": self._rejected}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._drawn, self._rejected = state["drawn"], state["rejected"]
