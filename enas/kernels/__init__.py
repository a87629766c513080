"""The operations a network is made of. `reference` is their definition; the native kernels stand in where they can.

`select` chooses for the whole process; `reference` describes every operation and its arguments.
"""

from __future__ import annotations

from torch import Tensor

from enas.kernels import native, reference
from enas.kernels.choice import in_use, select
from enas.kernels.interface import (
    AVERAGE_POOL_3,
    IDENTITY,
    MAX_POOL_3,
    SEPARABLE_3,
    SEPARABLE_5,
    ZERO,
    CellWeights,
    Pointwise,
    Separable,
    Statistics,
)

__all__ = [
    "AVERAGE_POOL_3",
    "IDENTITY",
    "MAX_POOL_3",
    "SEPARABLE_3",
    "SEPARABLE_5",
    "ZERO",
    "CellWeights",
    "Pointwise",
    "Separable",
    "Statistics",
    "cell",
    "convolution_norm",
    "in_use",
    "null",
    "pointwise_norm",
    "reduction_norm",
    "select",
    "separable",
    "sepconv_half",
]


def null(x: Tensor) -> Tensor:
    """A copy of x: the template of an operation."""
    return native.null(x) if _native(x) else reference.null(x)


def cell(
    input0: Tensor,
    input1: Tensor,
    routes: Tensor,
    weights: CellWeights,
    scale: Tensor | None = None,
    statistics: Tensor | None = None,
    stride: int = 1,
) -> tuple[Tensor, Statistics]:
    """Compute one cell for M children; see `reference.cell`."""
    compute = native.cell if _native(input1) else reference.cell
    return compute(input0, input1, routes, weights, scale, statistics, stride)


def sepconv_half(
    x: Tensor, affine: Tensor | None, depthwise: Tensor, pointwise: Tensor, stride: int = 1, dilation: int = 1
) -> tuple[Tensor, Tensor]:
    """Compute one half of a separable convolution; see `reference.sepconv_half`."""
    compute = native.sepconv_half if _native(x) else reference.sepconv_half
    return compute(x, affine, depthwise, pointwise, stride, dilation)


def separable(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    gain: Tensor,
    bias: Tensor,
    statistics: Tensor | None = None,
    stride: int = 1,
) -> tuple[Tensor, Statistics]:
    """Compute a doubled separable convolution; see `reference.separable`."""
    compute = native.separable if _native(x) else reference.separable
    return compute(x, depthwise, pointwise, gain, bias, statistics, stride)


def pointwise_norm(inputs: Tensor, weights: Pointwise, statistics: Tensor | None = None) -> tuple[Tensor, Statistics]:
    """ReLU, 1x1 convolution, batch norm; see `reference.pointwise_norm`."""
    compute = native.pointwise_norm if _native(inputs) else reference.pointwise_norm
    return compute(inputs, weights, statistics)


def reduction_norm(inputs: Tensor, weights: Pointwise, statistics: Tensor | None = None) -> tuple[Tensor, Statistics]:
    """ReLU, factorised reduction, batch norm; see `reference.reduction_norm`."""
    compute = native.reduction_norm if _native(inputs) else reference.reduction_norm
    return compute(inputs, weights, statistics)


def convolution_norm(
    inputs: Tensor, kernel: Tensor, gain: Tensor, bias: Tensor, statistics: Tensor | None = None
) -> tuple[Tensor, Statistics]:
    """Dense convolution and batch norm; see `reference.convolution_norm`."""
    compute = native.convolution_norm if _native(inputs) else reference.convolution_norm
    return compute(inputs, kernel, gain, bias, statistics)


def _native(x: Tensor) -> bool:
    return in_use(x.device) == "native"
