"""A benchmark's table as data: what its authors measured of every architecture, looked up instead of trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from enas.errors import UserError
from enas.space import Scale, SearchSpace


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Measured accuracies of N architectures of one space; a search sees the signal, its report also the outcome.

    name           of the benchmark and the data set behind it
    space          the name of the space whose rows it knows
    scale          the size at which its authors built each network, on their images
    key            rows int64 [n, D] -> a number for each, int64 [n], equal where the table holds them as one
    keys           int64 [N], ascending: the numbers that are in the table
    signals        float64 [N] in 0..1, in that order: what a search may see
    outcomes       float64 [N] in 0..1: how good the network is in the end
    costs          float64 [N]: seconds that its authors trained for one signal; None where that is not known
    signal_label   what the signal is
    outcome_label  what the outcome is
    rows           uint8 [N, D]: a row for each entry, where rows of the space stand for entries more or less often
    """

    material: ClassVar[Literal["table"]] = "table"
    unit: ClassVar[str] = "evaluations"

    name: str
    space: str
    scale: Scale
    key: Callable[[Tensor], Tensor]
    keys: Tensor
    signals: Tensor
    outcomes: Tensor
    costs: Tensor | None
    signal_label: str
    outcome_label: str
    rows: Tensor | None = None

    @property
    def extents(self) -> tuple[int, int, int, int]:
        """(height, width, channels, classes) of the images that its authors trained on."""
        return self.scale.height, self.scale.width, self.scale.channels, self.scale.classes

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.keys.device

    def to(self, device: torch.device | str) -> Benchmark:
        """The same table on another device."""
        return replace(
            self,
            keys=self.keys.to(device),
            signals=self.signals.to(device),
            outcomes=self.outcomes.to(device),
            costs=None if self.costs is None else self.costs.to(device),
            rows=None if self.rows is None else self.rows.to(device),
        )

    def stored_as(self, storage: torch.dtype) -> Benchmark:
        """Itself. Raises UserError for bfloat16: nothing is computed, there are no images to store so."""
        if storage != torch.float32:
            raise UserError("precision=bf16: a table has no images to store so; allowed are fp32 and tf32")
        return self

    def documents(self) -> Mapping[str, Any]:
        """JSON files that belong into a run directory, by name: none."""
        return {}

    def check(self, space: SearchSpace) -> None:
        """Raise UserError where the rows of `space` are not those of this table."""
        if space.name != self.space:
            raise UserError(
                f"space={space.name}: the table {self.name} knows rows of space={self.space} alone; take that space"
            )

    def signal(self, choices: Tensor) -> Tensor:
        """Rows int64 [n, D] -> float64 [n] in 0..1: what a search may see. Raises UserError for a row not in it."""
        return self.signals[self._places(choices)]

    def outcome(self, choices: Tensor) -> Tensor:
        """Rows -> float64 [n] in 0..1: how good they are in the end, for a report only. Raises UserError as `signal`"""
        return self.outcomes[self._places(choices)]

    def seconds(self, choices: Tensor) -> Tensor | None:
        """Rows -> float64 [n]: what one signal cost its authors in seconds of training; None where not known."""
        return None if self.costs is None else self.costs[self._places(choices)]

    def _places(self, choices: Tensor) -> Tensor:
        sought = self.key(choices)
        places = torch.searchsorted(self.keys, sought).clamp_max(len(self.keys) - 1)
        missing = (self.keys[places] != sought).nonzero()
        if len(missing):
            raise UserError(f"the table {self.name} has no entry for the row {choices[missing[0, 0]].tolist()}")
        return places
