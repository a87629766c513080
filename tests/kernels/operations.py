"""The operations of csrc/ops.cpp with hostile arguments, and what must come out: one list for all who compute them.

To add an operation, write its cases below and add them to CASES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from conformance import generator
from enas.data import Augmentation
from enas.data.batches import draw_changes
from enas.kernels import Changes, augmentation

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


def _augment() -> Iterator[Case]:
    random = generator(1)
    for count, height, width, channels in ((5, 4, 7, 3), (0, 4, 7, 3), (3, 1, 1, 33), (2, 9, 3, 1)):
        pictures = torch.randint(256, (4, height, width, channels), dtype=torch.uint8, generator=random)
        indices = torch.randint(4, (count,), generator=random)
        changes = draw_changes(count, height, width, Augmentation(crop=2, flip=True, cutout=3), random)
        moments = normal(channels, seed=2), normal(channels, seed=3).abs() + 0.1
        for dtype in (torch.float32, torch.bfloat16):
            for name, change in (("changed", changes), ("plain", None)):
                yield Case(
                    f"augment/{count}x{height}x{width}x{channels}/{name}/{dtype}".replace("torch.", ""),
                    "augment",
                    (pictures, indices, *(change or (None, None, None, 0)), *moments, dtype),
                    _augmented,
                )


def _augmented(pictures: Tensor, indices: Tensor, *arguments: Any) -> Results:
    shifts, flips, corners, cutout, mean, std, dtype = arguments
    changes = None if shifts is None else Changes(shifts, flips, corners, cutout)
    return (augmentation.augment(pictures, indices, changes, mean, std, dtype),)


CASES: list[Case] = [*_null(), *_augment()]
