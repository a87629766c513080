"""Regularized evolution: Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search"."""

from __future__ import annotations

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import SearchSpace
from enas.strategy.history import RememberingSampler


class Evolution(RememberingSampler):
    """The newest `population` rows live; the best of a random sample of them has a child, which replaces the oldest.

    Rows asked for while fewer than `population` were told are random. Several rows asked for at once are children of
    one population. Of equal values the one that was sampled first wins.

    population  rows that live
    sample      rows that are drawn for each child, with replacement
    identity    how often a child is its parent, unchanged: 0.05 as published, so that a lucky estimate is taken again
    memory      rows that are kept, the newest and the best one; None: the population and the best one

    Raises UserError for a value out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        population: int = 100,
        sample: int = 25,
        identity: float = 0.05,
        memory: int | None = None,
    ):
        for key, value in (("population", population), ("sample", sample)):
            if value < 1:
                raise UserError(f"strategy.{key}={value}: allowed is 1 or more")
        if not 0 <= identity < 1:
            raise UserError(f"strategy.identity={identity}: allowed is 0 or more, and less than 1")
        if memory is not None and memory <= population:
            allowed = f"more than strategy.population={population}"
            raise UserError(f"strategy.memory={memory}: allowed is {allowed}, or null for one more")
        super().__init__(space, population + 1 if memory is None else memory)
        self.population, self.sample, self.identity = population, sample, identity

    def ask(self, count: int, generator: torch.Generator) -> Tensor:
        if len(self.history) < self.population:
            return self.space.random(count, generator)
        rows, values = self.history.rows[-self.population :], self.history.values[-self.population :]
        parents = rows[compete(values, self.sample, count, generator)]
        children = self.space.mutate(parents, generator)
        same = torch.rand(count, 1, generator=generator, device=generator.device) < self.identity
        return torch.where(same, parents, children)

    def tell(self, estimates: Estimates) -> dict[str, Tensor]:
        metrics = super().tell(estimates)
        return {**metrics, "strategy/population_mean": self.history.values[-self.population :].mean()}


def compete(values: Tensor, sample: int, count: int, generator: torch.Generator) -> Tensor:
    """The winners int64 [count] of tournaments: in each the best of `sample` entries of `values` [n], with replacement.

    Of equal values the one that was drawn first wins.
    """
    drawn = torch.randint(len(values), (count, sample), generator=generator, device=generator.device)
    return drawn.gather(1, values[drawn].argmax(dim=1, keepdim=True)).squeeze(1)
