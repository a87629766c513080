"""Inputs for mixed cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from enas.kernels import mixed, reference
from enas.kernels.interface import (
    AVERAGE_POOL_3,
    DILATED_3,
    DILATED_5,
    IDENTITY,
    MAX_POOL_3,
    SEPARABLE_3,
    SEPARABLE_5,
    ZERO,
    Statistics,
)
from enas.kernels.mixed import Convolution, MixedWeights
from kernels.native_cases import Call, normal

DARTS = (ZERO, MAX_POOL_3, AVERAGE_POOL_3, IDENTITY, SEPARABLE_3, SEPARABLE_5, DILATED_3, DILATED_5)
"""The authors' candidates, in their order (genotypes.py)."""


@dataclass(frozen=True)
class MixedCase:
    """One mixed cell for several children: its size and what its tensors are made from."""

    children: int = 2
    batch: int = 2
    height: int = 5
    width: int = 4
    channels: int = 3
    nodes: int = 2
    stride: int = 1
    operations: Sequence[int] = DARTS
    seed: int = 0

    @property
    def edges(self) -> int:
        return self.nodes * (self.nodes + 3) // 2

    @property
    def norms(self) -> int:
        """Of one edge."""
        return mixed.count_norms(self.operations, self.stride)

    def inputs(self) -> tuple[Tensor, Tensor]:
        shape = (self.children, self.batch, self.height, self.width, self.channels)
        return normal(*shape, seed=self.seed + 1), normal(*shape, seed=self.seed + 2)

    def mixing(self) -> Tensor:
        return normal(self.edges, len(self.operations), seed=self.seed + 3).softmax(dim=1)

    def weights(self) -> MixedWeights:
        edges, channels = self.edges, self.channels
        convolutions = []
        for place, operation in enumerate(self.operations):
            if operation not in mixed.HALVES:
                continue
            halves, kernel = mixed.HALVES[operation], 5 if operation in (SEPARABLE_5, DILATED_5) else 3
            depthwise = normal(edges, halves, kernel, kernel, channels, seed=10 + place)
            pointwise = normal(edges, halves, channels, channels, seed=20 + place) / channels**0.5
            convolutions.append(Convolution(depthwise, pointwise))
        rows = 2 * self.nodes if self.stride > 1 and IDENTITY in self.operations else 0
        return MixedWeights(
            tuple(convolutions),
            normal(rows, channels, channels, seed=30) / channels**0.5,
            normal(edges, self.norms, channels, seed=31),
            normal(edges, self.norms, channels, seed=32),
        )

    def tensors(self) -> list[Tensor]:
        """What `mixed_call` wants."""
        return [*self.inputs(), self.mixing(), *self.weights().tensors()]


def rebuilt(tensors: Sequence[Tensor]) -> MixedWeights:
    """The weights whose `MixedWeights.tensors` these are."""
    *tables, identity, gain, bias = tensors
    pairs = zip(tables[::2], tables[1::2], strict=True)
    return MixedWeights(tuple(Convolution(*pair) for pair in pairs), identity, gain, bias)


def mixed_call(case: MixedCase, given: Tensor | None = None) -> Call:
    """The mixed cell of `case`, of the tensors input0, input1, mixing and all weights."""

    def call(module: Any, tensors: list[Tensor]) -> tuple[Tensor, Statistics]:
        input0, input1, mixing, *rest = tensors
        used = None if given is None else given.to(mixing.dtype)
        definition = mixed if module is reference else module
        result: tuple[Tensor, Statistics] = definition.mixed_cell(
            input0, input1, mixing, case.operations, rebuilt(rest), used, case.stride
        )
        return result

    return call
