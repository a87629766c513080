"""The operations of csrc/ops.cpp with hostile arguments, and what must come out: one list for all who compute them.

To add an operation, write its cases below and add them to CASES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from conformance import generator

Results = tuple[Tensor | None, ...]


class Case(NamedTuple):
    name: str
    operation: str  # its name in csrc/ops.cpp
    arguments: tuple[Any, ...]  # in float64
    expected: Callable[..., Results]  # of arguments in float64; None for what is not compared


def convert(arguments: tuple[Any, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    """Arguments for images of `dtype`; weights and statistics are at least float32.

    Images are the tensors of five dimensions and more that stand alone; in a list are weights.
    """
    wide = torch.float32 if dtype == torch.bfloat16 else dtype

    def one(argument: Any) -> Any:
        if isinstance(argument, list):
            return [
                part.to(wide) if isinstance(part, Tensor) and part.is_floating_point() else part for part in argument
            ]
        if isinstance(argument, Tensor) and argument.is_floating_point():
            return argument.to(dtype if argument.dim() >= 5 else wide)
        return argument

    return tuple(one(argument) for argument in arguments)


def shift(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same numbers in slices of larger tensors: contiguous, and aligned for one number only."""

    def one(argument: Any) -> Any:
        if isinstance(argument, list):
            return [one(part) for part in argument]
        if not isinstance(argument, Tensor):
            return argument
        larger = torch.zeros(argument.numel() + 1, dtype=argument.dtype)
        larger[1:] = argument.flatten()
        return larger[1:].view(argument.shape)

    return tuple(one(argument) for argument in arguments)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64) * scale


def images(*shape: int, seed: int = 0) -> Tensor:
    """Images of which one channel is constant and another far from zero."""
    x = normal(*shape, seed=seed)
    x[..., 0] = 0.7
    if shape[-1] > 2:
        x[..., 2] += 30.0
    return x


def statistics_of(*shape: int) -> Tensor:
    """Given ones, [M, N, 2, C]."""
    given = normal(*shape, seed=90)
    given[..., 1, :] = given[..., 1, :].square() + 0.3
    return given


def _null() -> Iterator[Case]:
    for shape in ((1, 2, 3, 5, 7), (0, 2, 3, 5, 7), (1, 1, 1, 1, 1)):
        yield Case(f"null/{'x'.join(map(str, shape))}", "null", (normal(*shape),), lambda x: (x,))


CASES: list[Case] = [*_null()]
