"""Bayesian optimisation over architectures: NASBOT (Kandasamy et al. 2018) and Auto-Keras (Jin et al. 2019)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import SearchSpace
from enas.strategy.acquisition import acquisitions, choose
from enas.strategy.architecture_graph import Floats
from enas.strategy.covariance import COVARIANCES
from enas.strategy.gaussian_process import GaussianProcess, fit
from enas.strategy.history import RememberingSampler

EDITS = (0.5, 0.25, 0.125, 0.075, 0.05)
"""How often a candidate is one, two, ... mutations away from its parent (NASBOT)."""
MOST_KNOWN = 20_000
"""Rows of which is kept what was found out about them."""

Row = tuple[int, ...]


class Bayesian(RememberingSampler):
    """A Gaussian process over architectures says what each may be worth; rows of which most is expected are asked for.

    The first `initial` rows are random. Then candidates are mutants of the best rows, and a few random ones; those that
    were told before, or are the same function, are left out while there are others. The first `hallucinated` rows of
    a call are chosen one after the other, each as if those before it had given what is believed of them; what is asked
    beyond are mutants of the best and of the chosen rows.

    kernel        otmann, edit or hamming: how alike two rows are (`enas/strategy/covariance.py`)
    acquisition   upper_confidence_bound or expected_improvement: what a candidate is chosen by
    beta          standard deviations that the bound is above the mean
    memory        rows the process is conditioned on, the newest and the best one, at least `initial`; the cost grows
                  with the third power
    pool          candidates of a call
    chance        the share of them that is random
    parents       best rows that are mutated
    landmarks     random rows by whose distances otmann and edit describe a row
    refit         tells after which length scale and noise are fitted anew, by marginal likelihood

    Raises UserError for values out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        kernel: str = "otmann",
        acquisition: str = "upper_confidence_bound",
        beta: float = 2.576,
        memory: int = 500,
        initial: int = 10,
        pool: int = 100,
        chance: float = 0.2,
        parents: int = 10,
        hallucinated: int = 32,
        landmarks: int = 32,
        refit: int = 5,
    ):
        super().__init__(space, memory)
        known = acquisitions(beta)
        for key, name, allowed in (("kernel", kernel, COVARIANCES), ("acquisition", acquisition, known)):
            if name not in allowed:
                raise UserError(f"strategy.{key}={name}: allowed are {', '.join(allowed)}")
        whole = {"initial": initial, "pool": pool, "parents": parents, "hallucinated": hallucinated}
        for key, value in {**whole, "landmarks": landmarks, "refit": refit}.items():
            if not isinstance(value, int) or value < 1:
                raise UserError(f"strategy.{key}={value}: allowed is a whole number of 1 or more")
        if memory < initial:
            raise UserError(f"strategy.memory={memory}: allowed is strategy.initial={initial} or more")
        if not 0 <= chance <= 1:
            raise UserError(f"strategy.chance={chance}: allowed is 0 to 1")
        if not beta >= 0:
            raise UserError(f"strategy.beta={beta}: allowed is 0 or more")
        self.initial, self.pool, self.chance, self.parents = initial, pool, chance, parents
        self.hallucinated, self.refit = hallucinated, refit
        self._acquisition = known[acquisition]
        self._covariance = COVARIANCES[kernel](space, landmarks)
        self._functions: dict[Row, Row] = {}  # row -> canonical row
        self._described: dict[Row, Floats] = {}  # canonical row -> its numbers in the kernel
        self.length, self.noise, self.unfitted = 1.0, 0.01, 0  # of the process; tells since they were fitted

    def ask(self, count: int, generator: torch.Generator) -> Tensor:
        if len(self.history) < self.initial:
            return self.space.random(count, generator)
        parents = self._parents()
        chosen = self._choose(self._candidates(parents, generator), min(count, self.hallucinated))
        if len(chosen) == count:
            return chosen
        return torch.cat([chosen, self._mutants(torch.cat([parents, chosen]), count - len(chosen), generator)])

    def _parents(self) -> Tensor:
        """The best rows [at most parents, D], of equal functions the best one: `History.best` by what is known."""
        order = torch.sort(self.history.values, descending=True, stable=True).indices
        rows = self.history.rows[order]
        return rows[list(_first(self._canonical(rows)).values())[: self.parents]]

    def _candidates(self, parents: Tensor, generator: torch.Generator) -> Tensor:
        """Different functions [at most pool, D], none that was told before where there are others."""
        random = round(self.chance * self.pool)
        mutants = self._mutants(parents, self.pool - random, generator)
        rows = torch.cat([mutants, self.space.random(random, generator)])
        if self.accept is not None:
            allowed = self.accept(rows)
            rows = rows[allowed] if bool(allowed.any()) else rows
        told, first = set(self._canonical(self.history.rows)), _first(self._canonical(rows))
        new = [place for canonical, place in first.items() if canonical not in told]
        return rows[new or list(first.values())]

    def _mutants(self, parents: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """[count, D]: rows one to five mutations away from random ones of `parents`."""
        if count == 0:
            return parents[:0]
        device = parents.device
        mutants = parents[torch.randint(len(parents), (count,), generator=generator, device=device)]
        shares = torch.tensor(EDITS, device=device).expand(count, -1)
        edits = torch.multinomial(shares, 1, generator=generator)
        for edit in range(len(EDITS)):
            mutants = torch.where(edits >= edit, self.space.mutate(mutants, generator), mutants)
        return mutants

    def _choose(self, candidates: Tensor, count: int) -> Tensor:
        """The `count` candidates of which most is expected, or all, best first."""
        told, rows = self._describe(self.history.rows), self._describe(candidates)
        process = GaussianProcess(self._covary(told, told), self._values(), self.noise)
        prediction = process.predict(self._covary(rows, told), self._covary(rows, rows))
        best = float(process.fitted().max())
        places = choose(prediction, process.noise_variance, best, count, self._acquisition)
        return candidates[torch.from_numpy(places).to(candidates.device)]

    def _values(self) -> Floats:
        return self.history.values.cpu().numpy()

    def _covary(self, one: Floats, other: Floats) -> Floats:
        return self._covariance.covariance(self._covariance.distances(one, other), self.length)

    def _canonical(self, rows: Tensor) -> list[Row]:
        """The canonical row of each row; it is found out once."""
        keys = [tuple(row) for row in rows.tolist()]
        if len(self._functions) > MOST_KNOWN:
            self._functions = {}
        new = {key: place for place, key in enumerate(keys) if key not in self._functions}
        if new:
            found = self.space.canonical(rows[list(new.values())])
            self._functions.update(zip(new, map(tuple, found.tolist()), strict=True))
        return [self._functions[key] for key in keys]

    def _describe(self, rows: Tensor) -> Floats:
        """The numbers [n, F] that stand for rows in the kernel, those of their canonical rows; found out once."""
        keys = self._canonical(rows)
        if len(self._described) > MOST_KNOWN:
            self._described = {}
        new = [key for key in dict.fromkeys(keys) if key not in self._described]
        if new:
            self._described.update(zip(new, self._covariance.describe(np.array(new)), strict=True))
        return np.stack([self._described[key] for key in keys])

    def tell(self, estimates: Estimates) -> dict[str, Tensor]:
        metrics = super().tell(estimates)
        self.unfitted += 1
        if self.unfitted >= self.refit:
            self._fit()
        fitted = {"strategy/length_scale": self.length, "strategy/noise": self.noise}
        device = self.history.values.device
        return {**metrics, **{tag: torch.tensor(value, device=device) for tag, value in fitted.items()}}

    def refresh(self, estimates: Estimates) -> None:
        super().refresh(estimates)
        self._fit()

    def _fit(self) -> None:
        told = self._describe(self.history.rows)
        distances = self._covariance.distances(told, told)
        covariance = self._covariance.covariance
        self.length, self.noise = fit(lambda length: covariance(distances, length), self._values())
        self.unfitted = 0

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "length": self.length, "noise": self.noise, "unfitted": self.unfitted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.length, self.noise, self.unfitted = state["length"], state["noise"], state["unfitted"]


def _first(rows: list[Row]) -> dict[Row, int]:
    """Each row with the place where it stands first, in that order."""
    first: dict[Row, int] = {}
    for place, row in enumerate(rows):
        first.setdefault(row, place)
    return first
