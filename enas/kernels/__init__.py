"""The operations a network is made of. `reference` is their definition; the native kernels stand in where they can.

`select` chooses for the whole process; `reference` describes every operation and its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from enas.kernels import augmentation, descent, mixed, native, recurrent, reference
from enas.kernels.augmentation import Changes, normalise
from enas.kernels.choice import in_use, reference_only, select
from enas.kernels.interface import (
    AVERAGE_POOL_3,
    DILATED_3,
    DILATED_5,
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
from enas.kernels.mixed import Convolution, MixedWeights
from enas.kernels.recurrent import PolicyWeights, Program, Tables

__all__ = [
    "AVERAGE_POOL_3",
    "DILATED_3",
    "DILATED_5",
    "IDENTITY",
    "MAX_POOL_3",
    "SEPARABLE_3",
    "SEPARABLE_5",
    "ZERO",
    "CellWeights",
    "Changes",
    "Convolution",
    "MixedWeights",
    "Pointwise",
    "PolicyWeights",
    "Program",
    "Separable",
    "Statistics",
    "Tables",
    "augment",
    "cell",
    "convolution_norm",
    "descend",
    "in_use",
    "mixed_cell",
    "normalise",
    "null",
    "pointwise_norm",
    "policy",
    "reduction_norm",
    "reference_only",
    "select",
    "separable",
    "sepconv_half",
]


def null(x: Tensor) -> Tensor:
    """A copy of x: the template of an operation."""
    return native.null(x) if _native(x) else reference.null(x)


def augment(
    images: Tensor,
    indices: Tensor,
    changes: Changes | None,
    mean: Tensor,
    std: Tensor,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Random changes of stored images, normalised; see `augmentation.augment`."""
    compute = native.augment if _native(images) else augmentation.augment
    return compute(images, indices, changes, mean, std, dtype)


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


def mixed_cell(
    input0: Tensor,
    input1: Tensor,
    mixing: Tensor,
    operations: Sequence[int],
    weights: MixedWeights,
    statistics: Tensor | None = None,
    stride: int = 1,
) -> tuple[Tensor, Statistics]:
    """Compute one mixed cell for M children; see `mixed.mixed_cell`."""
    compute = native.mixed_cell if _native(input1) else mixed.mixed_cell
    return compute(input0, input1, mixing, operations, weights, statistics, stride)


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


def policy(
    weights: PolicyWeights,
    program: Program,
    tables: Tables,
    choices: Tensor,
    noise: Tensor | None = None,
    active: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Sample or evaluate rows of a recurrent policy; see `recurrent.policy`.

    Where rows are sampled and some decisions may take no part, the reference computes: the space has to be asked after
    each decision.
    """
    asked = noise is not None and active is not None
    compute = native.policy if _native(choices) and not asked else recurrent.policy
    return compute(weights, program, tables, choices, noise, active)


def descend(
    weights: Sequence[Tensor],
    momenta: Tensor,
    gradients: Sequence[Tensor | None],
    decays: Sequence[float],
    rate: Tensor,
    momentum: float = 0.0,
    nesterov: bool = False,
    clip: float | None = None,
) -> Tensor:
    """Move weights by a step of gradient descent; see `descent.descend`."""
    compute = native.descend if _native(momenta) else descent.descend
    return compute(weights, momenta, gradients, decays, rate, momentum, nesterov, clip)


def _native(x: Tensor) -> bool:
    return in_use(x.device) == "native"
