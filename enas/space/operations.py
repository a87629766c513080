"""The candidate operations of a cell: name, code and cost. Their forward is the kernel that `code` selects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from enas import kernels


class UnitCost(NamedTuple):
    """Trainable parameters, and multiply-adds for one image."""

    params: int
    macs: int


@dataclass(frozen=True)
class Operation:
    """One alternative of an edge. `kernel` is the side of a separable convolution's filter, 0 for the others."""

    name: str
    code: int
    kernel: int = 0

    def cost(self, channels: int, stride: int, pixels: int) -> UnitCost:
        """Cost with `channels` in and out and `pixels` output pixels (height times width)."""
        if self.kernel:
            one = self.kernel**2 * channels + channels**2
            return UnitCost(2 * (one + 2 * channels), 2 * one * pixels)
        if self.code == kernels.IDENTITY and stride > 1:
            return pointwise_cost(channels, channels, pixels)
        return UnitCost(0, 0)


def pointwise_cost(inputs: int, outputs: int, pixels: int) -> UnitCost:
    """A 1x1 convolution and its batch norm; a factorised reduction costs the same at the reduced size."""
    return UnitCost(inputs * outputs + 2 * outputs, inputs * outputs * pixels)


SEPARABLE_3 = Operation("separable_3x3", kernels.SEPARABLE_3, kernel=3)
SEPARABLE_5 = Operation("separable_5x5", kernels.SEPARABLE_5, kernel=5)
AVERAGE_POOL_3 = Operation("average_pool_3x3", kernels.AVERAGE_POOL_3)
MAX_POOL_3 = Operation("max_pool_3x3", kernels.MAX_POOL_3)
IDENTITY = Operation("identity", kernels.IDENTITY)
