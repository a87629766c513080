"""Random search: every row is drawn uniformly (Li & Talwalkar 2019: the baseline any search has to beat)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.strategy.base import Sampler


class Random(Sampler):
    """Asks for uniformly random rows and learns nothing."""

    def ask(self, count: int, generator: torch.Generator) -> Tensor:
        return self.space.random(count, generator)

    def tell(self, estimates: Estimates) -> dict[str, Tensor]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            raise ValueError("random search has no state")
