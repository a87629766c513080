"""Successive halving: many rows are tried cheaply, and the better the row, the more is spent on it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from enas.architecture import Estimates, first_places
from enas.errors import UserError
from enas.space import SearchSpace
from enas.strategy.base import Sampler
from enas.strategy.history import History


class SuccessiveHalving(Sampler):
    """Brackets of random rows; the best 1/eta of each rung are estimated again at eta times the budget.

    Jamieson & Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization",
    arXiv:1502.07943; Li et al. 2018, "Hyperband", arXiv:1603.06560, of which this is the inner loop, one bracket after
    the other. Rung r of R has the budget eta^(r + 1 - R), so that the last one is worth full estimates.

    The first rung takes all rows that are told at its budget until they are at least `width`; asked rows are random.
    Of n rows of a rung the best n // eta, one for each function, go on, and of the last rung none: then a new bracket
    begins. In a later rung `ask` gives its rows that are not told yet, best first; where more are asked for, the same
    come again. What is told at another budget, or of rows that the rung does not wait for, is remembered for `derive`
    and moves no rung.

    width   rows of a first rung
    eta     each next rung has so many times fewer rows and so many times more budget
    rungs   of a bracket
    memory  rows remembered at each budget, the newest and the best one

    Raises UserError for a value out of range, and where so few rows leave none for the last rung.
    """

    def __init__(self, space: SearchSpace, width: int = 27, eta: int = 3, rungs: int = 3, memory: int = 10_000):
        super().__init__(space)
        for key, value, least in (("eta", eta, 2), ("rungs", rungs, 2)):
            if value < least:
                raise UserError(f"strategy.{key}={value}: allowed is {least} or more")
        if width < eta ** (rungs - 1):
            raise UserError(
                f"strategy.width={width}: allowed is {eta ** (rungs - 1)} or more, eta^(rungs - 1), so that one row "
                "reaches the last rung"
            )
        self.width, self.eta, self.rungs = width, eta, rungs
        self.rung = 0
        self._told = [History(space, memory) for _ in range(rungs)]  # at the budget of each rung
        self._members = History(space, 2**31)  # what was told in this rung
        self._waiting = torch.empty(0, len(space.decisions), dtype=torch.int64)  # not told yet in it; none in the first

    @property
    def budget(self) -> float:
        return self._budget(self.rung)

    @property
    def budgets(self) -> tuple[float, ...]:
        return tuple(self._budget(rung) for rung in range(self.rungs))

    @property
    def wanted(self) -> int:
        return self.width - len(self._members) if self.rung == 0 else len(self._waiting)

    def _budget(self, rung: int) -> float:
        return float(self.eta) ** (rung + 1 - self.rungs)

    def ask(self, count: int, generator: torch.Generator) -> Tensor:
        if self.rung == 0:
            return self.space.random(count, generator)
        return self._waiting[torch.arange(count, device=self._waiting.device) % len(self._waiting)]

    def tell(self, estimates: Estimates) -> dict[str, Tensor]:
        spent = sum(self._budget(rung) <= estimates.budget * (1 + 1e-9) for rung in range(self.rungs))
        self._told[max(spent - 1, 0)].add(estimates)
        if math.isclose(estimates.budget, self.budget):
            self._join(estimates)
        best = next(told.values.max() for told in reversed(self._told) if len(told))
        numbers = {"strategy/rung": self.rung, "strategy/budget": self.budget}
        return {"strategy/best": best, **{tag: best.new_tensor(number) for tag, number in numbers.items()}}

    def _join(self, estimates: Estimates) -> None:
        """Take what was told at the budget of this rung into it; where that completes it, go on to the next."""
        if self.rung == 0:
            self._members.add(estimates)
            complete = len(self._members) >= self.width
        else:
            equal = (self._waiting[:, None] == estimates.choices).all(dim=2)
            told = equal.any(dim=1)
            self._members.add(estimates.select(equal[told].int().argmax(dim=1)))
            self._waiting = self._waiting[~told]
            complete = len(self._waiting) == 0
        if complete:
            self.rung = (self.rung + 1) % self.rungs
            # Of equal functions only one goes on, so that in a small space a rung may have fewer rows than eta.
            best = self._members.best(max(len(self._members) // self.eta, 1))
            self._waiting = best if self.rung > 0 else best[:0]
            self._members = History(self.space, self._members.limit)
            self._members.to(best.device)

    def derive(self, count: int, generator: torch.Generator) -> Tensor:
        """The best rows of the highest budget that any were told at, then those of the next lower one, and so on."""
        best = torch.cat([told.best(count) for told in reversed(self._told)])
        best = best[first_places(self.space.canonical(best))[:count]]
        missing = count - len(best)
        return torch.cat([best, self.space.random(missing, generator)]) if missing else best

    def remembered(self) -> Tensor:
        return torch.cat([history.rows for history in self._histories()])

    def refresh(self, estimates: Estimates) -> None:
        start = 0
        for history in self._histories():
            end = start + len(history)
            history.replace(estimates.select(torch.arange(start, end, device=estimates.choices.device)))
            start = end

    def _histories(self) -> list[History]:
        return [*self._told, self._members]

    def to(self, device: torch.device) -> None:
        for history in self._histories():
            history.to(device)
        self._waiting = self._waiting.to(device)

    def state_dict(self) -> dict[str, Any]:
        histories = [history.state_dict() for history in self._histories()]
        return {"rung": self.rung, "waiting": self._waiting, "histories": histories}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rung, self._waiting = state["rung"], state["waiting"].clone()
        for history, own in zip(self._histories(), state["histories"], strict=True):
            history.load_state_dict(own)
