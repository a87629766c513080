"""Progressive search: rows of growing complexity, the most promising of each level by a surrogate (Liu et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any, get_args

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.errors import UserError
from enas.randomness import seeded
from enas.space import SearchSpace
from enas.strategy.expansion import Expansion
from enas.strategy.history import RememberingSampler
from enas.strategy.surrogate import Family, Fitting, fit

TENSORS = ("line", "predicted", "checked", "rank")
"""Names of the tensors of its state."""
CHUNK = 1024
"""Rows that are compared with others at once: finding out which are one function takes time."""


class ProgressiveSearch(RememberingSampler):
    """Level by level: expand the best rows told in one block, rank what comes of it by a surrogate, ask for the best.

    Level 1 of a space that grows are the rows that have the first block alone; of other spaces they are random ones.
    Level b expands block b; behind the last block the first follows. Blocks: see `Expansion`.

    beam           rows that are expanded, and rows that are asked for at each level
    expansions     rows that are ranked at each level, a random part where there are more
    surrogate, members, embedding, hidden, steps, learning_rate   see `Fitting`
    memory         rows that are kept, the newest and the best one; the published search has 1,160 children
    seed           of surrogates, and of what is left out where there are too many expansions

    Rows in line are asked for roughly best first: the one in place i with a weight of 1 / i. Where more are asked for
    they are random, of no more blocks than the level has. A level ends when as many rows have been told as it had in
    line. Raises UserError for a value out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        beam: int = 256,
        expansions: int = 10000,
        surrogate: Family = "mlp",
        members: int = 5,
        embedding: int = 100,
        hidden: int = 100,
        steps: int = 50,
        learning_rate: float = 0.01,
        memory: int = 2000,
        seed: int = 0,
    ):
        super().__init__(space, memory)
        counts = {"beam": beam, "expansions": expansions, "members": members, "embedding": embedding, "hidden": hidden}
        for key, count in {**counts, "steps": steps}.items():
            if count < 1:
                raise UserError(f"strategy.{key}={count}: allowed is 1 or more")
        if surrogate not in get_args(Family):
            raise UserError(f"strategy.surrogate={surrogate}: allowed are {', '.join(get_args(Family))}")
        if not 0 < learning_rate < math.inf:
            raise UserError(f"strategy.learning_rate={learning_rate}: allowed is more than 0")
        self.beam, self.seed = beam, seed
        self.fitting = Fitting(surrogate, members, embedding, hidden, steps, learning_rate)
        self.expansion = Expansion(space, expansions)
        self.level = 1
        self.due = beam
        """Rows that are still to be told at this level."""
        self.line = torch.empty(0, len(space.decisions), dtype=torch.int64)
        """The rows to ask for, int64 [q, D], best first."""
        self.predicted = torch.empty(0, dtype=torch.float64)
        """What the surrogate says of them, [q]."""
        self.checked = torch.empty(2, 0, dtype=torch.float64)
        """Of the told rows of this level that stood in line: what was said of them, and their values."""
        self.rank = torch.zeros((), dtype=torch.float64)
        """Spearman's correlation of the two at the last level; 0 before there was one."""
        if self.expansion.grows:
            generator = self._generator()
            rows = self.expansion.first(generator)
            rows = rows[torch.randperm(len(rows), generator=generator)]
            self._line_up(rows, torch.zeros(len(rows), dtype=torch.float64), beam)

    def ask(self, count: int, generator: torch.Generator) -> Tensor:
        rows = self.expansion.cut(self.space.random(count, generator), self.level)
        line = self.line if self.accept is None else self.line[self.accept(self.line)]
        taken = min(count, len(line))
        if taken:
            weight = 1 / torch.arange(1.0, len(line) + 1, device=line.device)
            rows[:taken] = line[torch.multinomial(weight, taken, generator=generator)]
        return rows

    def tell(self, estimates: Estimates) -> dict[str, Tensor]:
        metrics = super().tell(estimates)
        same = (self.line[:, None] == estimates.choices).all(dim=2)
        told = same.any(dim=1)
        values = estimates.value.double()[same[told].int().argmax(dim=1)]
        self.checked = torch.cat([self.checked, torch.stack([self.predicted[told], values])], dim=1)
        self.line, self.predicted = self.line[~told], self.predicted[~told]
        self.due -= len(estimates)
        if self.due <= 0:
            self._end_level()
        level = torch.full_like(self.rank, self.level)
        return {**metrics, "strategy/level": level, "strategy/surrogate_rank": self.rank.clone()}

    def refresh(self, estimates: Estimates) -> None:
        super().refresh(estimates)
        if self.level > 1:
            self.checked = self.checked[:, :0]
            self._plan(self.due)

    def _end_level(self) -> None:
        if self.level > 1 and all(len(numbers.unique()) > 1 for numbers in self.checked):
            said, found = self.checked.cpu().numpy()
            from scipy.stats import spearmanr  # half a second to import

            self.rank = self.rank.new_tensor(spearmanr(said, found).statistic)
        self.checked = self.checked[:, :0]
        self.level += 1
        self._plan(self.beam)

    def _plan(self, count: int) -> None:
        """Line up the `count` most promising rows of this level, or of the next one that has any."""
        told, best = self.history.rows.cpu(), self.history.best(len(self.history)).cpu()
        predict = fit(self.space, told, self.history.values.cpu(), self.fitting, self._generator())
        known = {tuple(row) for row in self.space.canonical(told).tolist()}
        blocks = len(self.expansion.blocks)
        for level in range(self.level, self.level + blocks):
            self.level = level
            taking = best[self.expansion.takes_part(best, (level - 1) % blocks)][: self.beam]
            rows = self.expansion.of(taking, (level - 1) % blocks, self._generator())
            ranked = predict(rows).sort(descending=True, stable=True)
            self._line_up(rows[ranked.indices], ranked.values.double(), count, known)
            if len(self.line):
                return
        self.due = count  # everything within reach is told: random rows lead on

    def _line_up(self, rows: Tensor, predicted: Tensor, count: int, known: Set[tuple[int, ...]] = frozenset()) -> None:
        """Keep the first `count` of rows [k, D] that are different functions, not `known`, and within the limits."""
        first: dict[tuple[int, ...], int] = {}
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            passes = torch.ones(len(part), dtype=torch.bool) if self.accept is None else self.accept(part)
            for place, row in zip(
                passes.nonzero()[:, 0].tolist(), self.space.canonical(part[passes]).tolist(), strict=True
            ):
                if tuple(row) not in known:
                    first.setdefault(tuple(row), start + place)
            if len(first) >= count:
                break
        kept, device = torch.tensor(list(first.values())[:count], dtype=torch.int64), self.history.rows.device
        self.line, self.predicted = rows[kept].to(device), predicted[kept].to(device)
        self.due = len(kept)

    def _generator(self) -> torch.Generator:
        return seeded(self.seed, f"level {self.level}")

    def to(self, device: torch.device) -> None:
        super().to(device)
        for name in TENSORS:
            setattr(self, name, getattr(self, name).to(device))

    def state_dict(self) -> dict[str, Any]:
        tensors = {name: getattr(self, name) for name in TENSORS}
        return {**super().state_dict(), **tensors, "level": self.level, "due": self.due}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.level, self.due = state["level"], state["due"]
        for name in TENSORS:
            setattr(self, name, state[name].clone())
