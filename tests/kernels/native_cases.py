"""Inputs for kernels, and the comparison of the native ones with their definition."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from conformance import generator
from enas.kernels import native, reference
from enas.kernels.interface import CellWeights, Pointwise, Separable, Statistics
from tolerances import NEAR, NEAR_GRADIENTS, assert_near, assert_same

ON_DEVICE = "ENAS_DEVICE_LIBRARY" in os.environ
"""Whether the native operations are those of csrc/cuda; see conftest.py."""

ROWS = 5
"""Rows of each table of a cell's weights."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def statistics(*shape: int, seed: int = 0) -> Tensor:
    """Means and variances [..., 2, C]."""
    return torch.stack([normal(*shape, seed=seed), normal(*shape, seed=seed + 1).square() + 0.1], dim=-2)


@dataclass(frozen=True)
class Case:
    """One cell for several children: its size and what its tensors are made from."""

    children: int = 3
    batch: int = 2
    height: int = 5
    width: int = 4
    channels: int = 3
    nodes: int = 3
    stride: int = 1
    project: bool = True
    seed: int = 0

    @property
    def edges(self) -> int:
        return 2 * self.nodes

    @property
    def norms(self) -> int:
        return 2 * self.edges + 3

    def inputs(self) -> tuple[Tensor, Tensor]:
        shape = (self.children, self.batch, self.height, self.width, self.channels)
        return normal(*shape, seed=self.seed + 1), normal(*shape, seed=self.seed + 2)

    def routes(self) -> Tensor:
        """Every edge reads any slot before its node, by any operation, with any row."""
        uniform = torch.rand(3, self.children, self.edges, generator=generator(self.seed), dtype=torch.float64)
        sources = uniform[0] * (torch.arange(self.edges) // 2 + 2)
        return torch.stack([sources, uniform[1] * 6, uniform[2] * ROWS], dim=2).int()

    def weights(self) -> CellWeights:
        channels, slots = self.channels, self.nodes + 2

        def separable(kernel: int) -> Separable:
            return Separable(
                normal(ROWS, 2, kernel, kernel, channels, seed=kernel),
                normal(ROWS, 2, channels, channels, seed=kernel + 1) / channels**0.5,
                normal(ROWS, 2, channels, seed=kernel + 2),
                normal(ROWS, 2, channels, seed=kernel + 3),
            )

        def pointwise(rows: int, norms: int, seed: int) -> Pointwise:
            weight = normal(rows, channels, channels, seed=seed) / channels**0.5
            return Pointwise(weight, normal(norms, channels, seed=seed + 1), normal(norms, channels, seed=seed + 2))

        reduced = ROWS if self.stride > 1 else 0
        return CellWeights(
            separable(3),
            separable(5),
            pointwise(reduced, reduced, 20),
            pointwise(2 if reduced else 0, 2 if reduced else 0, 30),
            pointwise(slots, 1, 40) if self.project else None,
            tuple(range(slots)),
            (1, 0) if reduced else (-1, -1),
        )


def rebuilt(weights: CellWeights, tensors: Sequence[Tensor]) -> CellWeights:
    """`weights` made of other tensors, which are given in the order of `CellWeights.tensors`."""
    rest = iter(tensors)
    tables = [None if table is None else type(table)(*(next(rest) for _ in table)) for table in weights[:5]]
    return CellWeights(*tables, *weights[5:])  # type: ignore[arg-type]


Call = Callable[[Any, list[Tensor]], tuple[Tensor, Tensor | Statistics]]
"""Calls an operation of `native` or `reference`, which is given, with tensors: images first, then the others."""


def cell_call(case: Case, routes: Tensor, given: Tensor | None = None, scaled: bool = False) -> Call:
    """The cell of `case`, of the tensors input0, input1, [scale,] and all weights."""

    def call(module: Any, tensors: list[Tensor]) -> tuple[Tensor, Statistics]:
        input0, input1, *rest = tensors
        scale = rest.pop(0) if scaled else None
        weights = rebuilt(case.weights(), rest)
        used = None if given is None else given.to(rest[0].dtype)
        result: tuple[Tensor, Statistics] = module.cell(input0, input1, routes, weights, scale, used, case.stride)
        return result

    return call


def outcome(call: Call, module: Any, tensors: Sequence[Tensor], out_gradient: Tensor | None = None) -> list[Tensor]:
    """Output, statistics and the gradients of all tensors, for the gradient of the output."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    out, used = call(module, leaves)
    if out_gradient is None:
        out_gradient = normal(*out.shape, seed=99).to(out.dtype)
    gradients = torch.autograd.grad(out, leaves, out_gradient, allow_unused=True)
    whole = [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, gradients, strict=True)]
    return [out.detach(), used.tensor() if isinstance(used, Statistics) else used, *whole]


def assert_native(call: Call, tensors: Sequence[Tensor]) -> None:
    """The native operation does in float64 what its definition does."""
    found, expected = outcome(call, native, tensors), outcome(call, reference, tensors)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert_same(one, other)


def assert_native_in(storage: torch.dtype, call: Call, tensors: Sequence[Tensor], images: int) -> None:
    """The same for other types; the first `images` tensors are stored in `storage`."""
    typed = [tensor.to(storage if place < images else torch.float32) for place, tensor in enumerate(tensors)]
    # float32 against float64, which is exact beside it; bfloat16 against its own definition, which rounds too.
    exact = [tensor.double() for tensor in typed] if storage == torch.float32 else typed
    for one, other in zip(outcome(call, native, typed), outcome(call, reference, exact), strict=True):
        assert one.shape == other.shape
        assert_near(one, other, storage, NEAR_GRADIENTS if ON_DEVICE else NEAR)
    found = outcome(call, native, typed)
    assert found[0].dtype == storage
    assert found[1].dtype == torch.float32
