"""Local search: hill climbing over rows that differ by one decision (White et al. 2021, arXiv:2005.02960)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.space import SearchSpace
from enas.strategy.history import RememberingSampler

Row = tuple[int, ...]


class LocalSearch(RememberingSampler):
    """Climbs from a random row to the first neighbour that is better, and on; at the top it starts anew.

    Neighbours are one decision away. They are asked for in random order, and none that was told already; where fewer
    are left than rows are asked for, the rest are random rows. Told rows are taken one after the other: a better one
    than the one the search stands on, a neighbour of it or not, is the next to stand on; when no neighbour is left
    untold, the next told row is. What an earlier climb was told of is passed over, and leads nowhere a second time.

    memory  rows that are kept with their values for `derive`, the newest and the best one; which rows were told is
            never forgotten
    """

    def __init__(self, space: SearchSpace, memory: int = 100):
        super().__init__(space, memory)
        self.told: dict[Row, None] = {}
        """All rows told, in their order."""
        self.current: tuple[Row, float] | None = None
        """The row the search stands on and its value; None before the first row, and after a top."""
        self.untold: dict[Row, None] = {}
        """The neighbours of the current row that may be told and were not; follows from the two above."""
        self.tops = 0
        """How many tops were reached."""

    def ask(self, count: int, generator: torch.Generator) -> Tensor:
        untold = list(self.untold)
        order = torch.randperm(len(untold), generator=generator, device=generator.device)[:count].tolist()
        missing = count - len(order)
        if missing == count:
            return self.space.random(count, generator)
        rows = torch.tensor([untold[place] for place in order], device=generator.device)
        return torch.cat([rows, self.space.random(missing, generator)]) if missing else rows

    def tell(self, estimates: Estimates) -> dict[str, Tensor]:
        for choices, value in zip(estimates.choices.tolist(), estimates.value.double().tolist(), strict=True):
            row = tuple(choices)
            self.told[row] = None
            self.untold.pop(row, None)
            if self.current is None or value > self.current[1]:
                self._stand(row, value)
            elif row == self.current[0]:
                self.current = row, value
            if not self.untold:
                self.current, self.tops = None, self.tops + 1
        tops = torch.tensor(float(self.tops), device=estimates.value.device)
        return {**super().tell(estimates), "strategy/tops": tops}

    def _stand(self, row: Row, value: float) -> None:
        self.current = row, value
        rows = self.space.neighbours(torch.tensor([row]))
        if self.accept is not None:
            rows = rows[self.accept(rows)]
        self.untold = {neighbour: None for neighbour in map(tuple, rows.tolist()) if neighbour not in self.told}

    def remembered(self) -> Tensor:
        """Those of `derive`, then the one the search stands on."""
        rows = super().remembered()
        return rows if self.current is None else torch.cat([rows, rows.new_tensor([self.current[0]])])

    def refresh(self, estimates: Estimates) -> None:
        if self.current is not None:
            self.current = self.current[0], float(estimates.value[-1])
        super().refresh(estimates.select(torch.arange(len(self.history), device=estimates.value.device)))

    def state_dict(self) -> dict[str, Any]:
        told = torch.tensor(list(self.told), dtype=torch.int64).reshape(-1, len(self.space.decisions))
        current = None if self.current is None else {"row": list(self.current[0]), "value": self.current[1]}
        return {**super().state_dict(), "told": told, "current": current, "tops": self.tops}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.told = dict.fromkeys(map(tuple, state["told"].tolist()))
        self.current, self.untold, self.tops = None, {}, state["tops"]
        if state["current"] is not None:
            self._stand(tuple(state["current"]["row"]), state["current"]["value"])
