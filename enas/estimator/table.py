"""What others measured: the value of a row is looked up in a benchmark's table."""

from __future__ import annotations

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.data import Benchmark
from enas.estimator.base import Estimator
from enas.material import check_material
from enas.space import NasBench101, SearchSpace


class Table(Estimator):
    """Looks rows up in the table `data`: the value is its signal, without an error, and nothing is computed.

    The outcome is for the end of a search: what its best rows are worth in truth. Raises UserError where the table is
    of another space, and where `data` is no table.
    """

    weights = "none"
    split = "table"
    draws = False

    def __init__(self, space: SearchSpace, data: Benchmark):
        check_material(space, data, "table", "estimator")
        self.data = data
        if isinstance(space, NasBench101):
            space.enumerated = data.rows  # chance shall draw cells, which rows are not uniform over
        self.label = data.signal_label

    def estimate(self, choices: Tensor, generator: torch.Generator | None = None, budget: float = 1.0) -> Estimates:
        """Rows [n, D] -> their signals; the generator has nothing to draw. Raises UserError for a row not in it."""
        value, metrics = self.data.signal(choices), {}
        if (seconds := self.data.seconds(choices)) is not None:
            metrics["seconds"] = seconds  # what a search that trained would have taken
        return Estimates(choices, value, torch.zeros_like(value), {"accuracy": value, **metrics}, 0, self.step)

    def outcome(self, choices: Tensor) -> dict[str, Tensor]:
        """Rows [n, D] -> float64 [n] in 0..1, by its name: what the table says of them in the end."""
        return {self.data.outcome_label: self.data.outcome(choices)}
