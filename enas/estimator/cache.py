"""What is known is not estimated again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.estimator.base import Estimator

Key = tuple[int, ...]


class Cached(Estimator):
    """Gives what `estimator` gives, bit for bit, and has it estimate only what is not known yet.

    An estimate is known by the row's key (`Estimator.key`), the budget and, where weights are shared, their step: when
    it changes, what was known is forgotten. Estimates on data drawn from a generator are never kept, since the next
    call draws others; where the estimator draws nothing, all are. Rows of one key are estimated once in a call in any
    case. Needed is what every estimator holds: a row's estimate does not depend on the others of the call.

    saved  rows so far that were not estimated
    """

    def __init__(self, estimator: Estimator):
        self.estimator = estimator
        self.label, self.divisible = estimator.label, estimator.divisible
        self.weights, self.draws, self.split = estimator.weights, estimator.draws, estimator.split
        self.saved = 0
        self._known: dict[float, Estimates] = {}  # by budget; their rows are keys
        self._places: dict[float, dict[Key, int]] = {}
        self._known_step = 0

    def key(self, choices: Tensor) -> Tensor:
        return self.estimator.key(choices)

    def estimate(self, choices: Tensor, generator: torch.Generator | None = None, budget: float = 1.0) -> Estimates:
        self.estimator.step = self.step
        if self.weights == "shared" and self.step != self._known_step:
            self._known, self._places, self._known_step = {}, {}, self.step
        kept = generator is None or not self.draws
        keys = self.key(choices)
        names: list[Key] = [tuple(key) for key in keys.tolist()]
        places = self._places.setdefault(budget, {}) if kept else {}
        new: dict[Key, int] = {}  # name -> where it stands in this call
        for index, name in enumerate(names):
            if name not in places:
                new.setdefault(name, index)
        known = [self._known[budget]] if kept and budget in self._known else []
        if new or not known:
            first = torch.tensor(list(new.values()), dtype=torch.int64, device=choices.device)
            found = self.estimator.estimate(choices[first], generator, budget)
            known = [Estimates.joined([*known, replace(found, choices=keys[first])])]
            places |= {name: place for place, name in enumerate(new, len(places))}
        if kept:
            self._known[budget] = known[0]
        self.saved += len(names) - len(new)
        order = torch.tensor([places[name] for name in names], dtype=torch.int64, device=choices.device)
        return replace(known[0].select(order), choices=choices, step=self.step)

    def check_budgets(self, budgets: Sequence[float]) -> None:
        self.estimator.check_budgets(budgets)

    def outcome(self, choices: Tensor) -> dict[str, Tensor]:
        return self.estimator.outcome(choices)

    def state_dict(self) -> dict[str, Any]:
        known = [
            {
                "budget": budget,
                "keys": entries.choices,
                "value": entries.value,
                "error": entries.error,
                "metrics": dict(entries.metrics),
                "images": entries.images,
            }
            for budget, entries in self._known.items()
        ]
        return {
            "known": known,
            "step": self._known_step,
            "saved": self.saved,
            "estimator": self.estimator.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.estimator.load_state_dict(state["estimator"])
        self._known, self._places = {}, {}
        self._known_step, self.saved = state["step"], state["saved"]
        for entry in state["known"]:
            budget, keys = entry["budget"], entry["keys"]
            self._known[budget] = Estimates(
                keys, entry["value"], entry["error"], entry["metrics"], entry["images"], self._known_step, budget
            )
            self._places[budget] = {tuple(key): place for place, key in enumerate(keys.tolist())}
