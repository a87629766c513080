"""What a sampler was told, and samplers that derive the best of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from enas.architecture import Estimates, first_places
from enas.errors import UserError
from enas.space import SearchSpace
from enas.strategy.base import Sampler


class History:
    """The rows int64 [n, D] that were told, oldest first, with their values float64 [n]; at most the newest `limit`."""

    def __init__(self, space: SearchSpace, limit: int):
        if limit < 1:
            raise UserError(f"strategy.memory={limit}: allowed is 1 or more")
        self.space, self.limit = space, limit
        self.rows = torch.empty(0, len(space.decisions), dtype=torch.int64)
        self.values = torch.empty(0, dtype=torch.float64)

    def __len__(self) -> int:
        return self.rows.shape[0]

    def add(self, estimates: Estimates) -> None:
        """Remember `estimates` as the newest. Of what is then too old the best row is kept, as the oldest."""
        rows = torch.cat([self.rows, estimates.choices])
        values = torch.cat([self.values, estimates.value.double()])
        if len(rows) > self.limit:
            kept = torch.arange(len(rows) - self.limit, len(rows), device=rows.device)
            best = values.argmax()
            kept[0] = torch.minimum(kept[0], best)
            rows, values = rows[kept], values[kept]
        self.rows, self.values = rows, values

    def replace(self, estimates: Estimates) -> None:
        """Give all rows, which `estimates` holds in their order, new values."""
        self.values = estimates.value.double()

    def best(self, count: int) -> Tensor:
        """The rows of the `count` highest values, best first; of equal functions the first, of equal values the oldest.

        int64 [at most count, D].
        """
        order = torch.sort(self.values, descending=True, stable=True).indices
        rows = self.rows[order]
        return rows[first_places(self.space.canonical(rows))[:count]]

    def to(self, device: torch.device) -> None:
        self.rows, self.values = self.rows.to(device), self.values.to(device)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self.values = state["rows"].clone(), state["values"].clone()


class RememberingSampler(Sampler):
    """A sampler that keeps what it was told and derives the best rows of it; where that is too few, it asks for more.

    memory  rows that are kept, the newest and the best one
    """

    def __init__(self, space: SearchSpace, memory: int):
        super().__init__(space)
        self.history = History(space, memory)

    def tell(self, estimates: Estimates) -> dict[str, Tensor]:
        self.history.add(estimates)
        return {"strategy/best": self.history.values.max()}

    def derive(self, count: int, generator: torch.Generator) -> Tensor:
        best = self.history.best(count)
        missing = count - len(best)
        return torch.cat([best, self.ask(missing, generator)]) if missing else best

    def remembered(self) -> Tensor:
        return self.history.rows

    def refresh(self, estimates: Estimates) -> None:
        self.history.replace(estimates)

    def to(self, device: torch.device) -> None:
        self.history.to(device)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history.load_state_dict(state["history"])
