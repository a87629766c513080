"""Policies to compare: the programs of spaces with every kind of decision, and weights that are far from uniform."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from conformance import Growing, generator
from enas.kernels import recurrent
from enas.kernels.recurrent import PolicyWeights, Program
from enas.space import EnasMacro, EnasMicro, SearchSpace
from enas.strategy.program import compile_program, vocabularies
from strategy.written_out import Skipping

PLAIN: Mapping[str, Any] = {"temperature": {}, "bound": {}, "prior": {}}
SETTINGS: Mapping[str, Any] = {
    "temperature": {"operation": 5.0, "source": 2.0, "number": 0.5},
    "bound": {"operation": 2.5, "source": 1.1, "skip": 1.5},
    "prior": {},
    "skip_target": 0.3,
}


@dataclass(frozen=True)
class PolicyCase:
    space: SearchSpace
    hidden: int
    rows: int
    settings: Mapping[str, Any] = field(default_factory=lambda: PLAIN)

    @property
    def name(self) -> str:
        bounded = "/settings" if self.settings["bound"] else ""
        return f"{self.space.name}{len(self.space.decisions)}H{self.hidden}n{self.rows}{bounded}"

    @cached_property
    def program(self) -> Program:
        return compile_program(self.space, **self.settings)

    def weights(self) -> list[Tensor]:
        """In the order of PolicyWeights."""
        hidden, words = self.hidden, sum(vocabularies(self.space).values())
        shapes = [(2 * hidden, 4 * hidden), (hidden, hidden), (hidden, hidden), (hidden, 1), (1 + words, hidden)]
        shapes += [(words, hidden), (words,)]
        return [
            torch.randn(shape, generator=generator(seed), dtype=torch.float64) / (hidden**0.5 if seed < 3 else 1.0)
            for seed, shape in enumerate(shapes)
        ]

    def choices(self) -> Tensor:
        return self.space.random(self.rows, generator(7))

    def noise(self) -> Tensor:
        shape = (self.rows, len(self.program.choices), self.program.alternatives)
        return -torch.rand(shape, generator=generator(8), dtype=torch.float64).log().negative().log()

    @property
    def active(self) -> Callable[[Tensor], Tensor] | None:
        return self.space.active if self.space.conditional else None

    def arguments(self, dtype: torch.dtype, sampled: bool = False, keep: bool = True) -> tuple[Any, ...]:
        """What `torch.ops.enas.policy` takes."""
        tables, choices = self.program.tables(), self.choices()
        return (
            *(weight.to(dtype) for weight in self.weights()),
            tables.numbers,
            tables.steps,
            tables.choices,
            self.program.nodes,
            self.program.queries,
            torch.zeros_like(choices) if sampled else choices,
            None if self.active is None else self.active(choices),
            self.noise().to(dtype) if sampled else None,
            keep,
        )

    def definition(self, weights: list[Tensor], choices: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return recurrent.policy(
            PolicyWeights(*weights), self.program, self.program.tables(), choices, noise, self.active
        )


POLICIES = [
    PolicyCase(EnasMicro(1), 16, 2, {**SETTINGS, "prior": {"normal/*/operation": [0.5, 0.25, -0.25, -0.5, 0.125]}}),
    PolicyCase(Growing(), 5, 11, {**SETTINGS, "prior": {"*/skip*": [0.3, -0.3]}}),
    PolicyCase(EnasMicro(1), 1, 1),
    PolicyCase(EnasMicro(1), 3, 0),
    PolicyCase(EnasMicro(2), 20, 7),
    PolicyCase(Skipping(), 33, 3),
    PolicyCase(EnasMacro(4), 6, 5, SETTINGS),
    PolicyCase(Growing(), 18, 6),
]
