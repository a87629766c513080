"""Evolution without death: Liu et al. 2017, "Hierarchical Representations for Efficient Architecture Search"."""

from __future__ import annotations

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import SearchSpace
from enas.strategy.evolution import compete
from enas.strategy.history import RememberingSampler


class HierarchicalEvolution(RememberingSampler):
    """The best of a random share of all rows so far has a child, and nothing dies.

    Rows asked for while fewer than `initial` were told are `mutations` random mutations away from a trivial row: that
    of zeros, repaired, or a random one where zeros are not legal. Several rows asked for at once are children of one
    population. It serves any space, whatever its name says.

    initial    rows of the first population (200 as published)
    share      of the population that is drawn for each child, with replacement, and at least two rows
    mutations  that lead from the trivial row to one of the first population (1,000 as published)
    memory     rows that are kept, the newest and the best one: larger than the search, nothing dies, as published

    Raises UserError for a value out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        initial: int = 200,
        share: float = 0.05,
        mutations: int = 100,
        memory: int = 10_000,
    ):
        for key, value in (("initial", initial), ("mutations", mutations)):
            if value < 1:
                raise UserError(f"strategy.{key}={value}: allowed is 1 or more")
        if not 0 < share <= 1:
            raise UserError(f"strategy.share={share}: allowed is more than 0, at most 1")
        if memory < initial:
            raise UserError(f"strategy.memory={memory}: allowed is strategy.initial={initial} or more")
        super().__init__(space, memory)
        self.initial, self.share, self.mutations = initial, share, mutations

    def ask(self, count: int, generator: torch.Generator) -> Tensor:
        if len(self.history) < self.initial:
            return self._first(count, generator)
        sample = max(2, round(self.share * len(self.history)))
        parents = self.history.rows[compete(self.history.values, sample, count, generator)]
        return self.space.mutate(parents, generator)

    def _first(self, count: int, generator: torch.Generator) -> Tensor:
        zeros = torch.zeros(count, len(self.space.decisions), dtype=torch.int64, device=generator.device)
        rows = self.space.repair(zeros)
        if not bool(self.space.legal(rows).all()):
            rows = self.space.random(count, generator)
        for _ in range(self.mutations):
            rows = self.space.mutate(rows, generator)
        return rows

    def tell(self, estimates: Estimates) -> dict[str, Tensor]:
        metrics = super().tell(estimates)
        return {**metrics, "strategy/population_mean": self.history.values.mean()}
