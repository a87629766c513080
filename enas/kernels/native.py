"""The native kernels, called as the reference is. The library is loaded when it is first needed, never on import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from enas.kernels import gradients, shapes
from enas.kernels.augmentation import Changes
from enas.kernels.interface import CellWeights, Pointwise, Statistics
from enas.kernels.mixed import MixedWeights, count_slots
from enas.kernels.recurrent import PolicyWeights, Program, Tables

LIBRARY = Path(__file__).with_name("native_library.so")
"""Where `setup.py` puts the library."""

FORWARD_ONLY = ("augment", "descend", "null")
OPERATIONS = ("cell", "convolution_norm", "mixed_cell", "pointwise_norm", "policy", "sepconv_half", "separable")
"""What a device needs kernels for; those of the second row have a `_backward` too."""

SEPARABLE_SLOTS = 2


@cache
def load() -> str | None:
    """Load the library and give its operations gradients and shapes; returns why there is none, or None."""
    if not LIBRARY.exists():
        return "the native kernels are not installed (when enas was, there was no C++ compiler, or it failed)"
    try:
        torch.ops.load_library(LIBRARY)  # type: ignore[no-untyped-call]
    except OSError as error:
        return f"the native kernels cannot be loaded ({' '.join(str(error).split())})"
    if not all(hasattr(torch.ops.enas, name) for name in _names()):
        return "the native kernels are those of another version of enas, which has to be installed again"
    shapes.register()
    gradients.register()
    return None


@cache
def absence(device_type: str) -> str | None:
    """Why the native kernels cannot run on "cpu" or "cuda"; None where they can."""
    reason = load()
    if reason is not None:
        return reason
    key = device_type.upper()
    if all(torch._C._dispatch_has_kernel_for_dispatch_key(f"enas::{name}", key) for name in _names()):
        return None
    return f"the native kernels were built without those for {device_type}"


def _names() -> list[str]:
    return [*FORWARD_ONLY, *OPERATIONS, *(f"{name}_backward" for name in OPERATIONS)]


def null(x: Tensor) -> Tensor:
    """See `reference.null`."""
    copy: Tensor = gradients.call("null", x)
    return copy


def augment(
    images: Tensor,
    indices: Tensor,
    changes: Changes | None,
    mean: Tensor,
    std: Tensor,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """See `augmentation.augment`."""
    shifts, flips, corners, cutout = changes or (None, None, None, 0)
    changed: Tensor = torch.ops.enas.augment(
        images.contiguous(),
        indices.contiguous(),
        _contiguous(shifts),
        _contiguous(flips),
        _contiguous(corners),
        cutout,
        mean.contiguous(),
        std.contiguous(),
        dtype or mean.dtype,
    )
    return changed


def cell(
    input0: Tensor,
    input1: Tensor,
    routes: Tensor,
    weights: CellWeights,
    scale: Tensor | None = None,
    statistics: Tensor | None = None,
    stride: int = 1,
) -> tuple[Tensor, Statistics]:
    """See `reference.cell`."""
    tensors = [tensor.contiguous() for tensor in weights.tensors()]
    routes = routes.contiguous()
    slots = 0
    if _differentiable(input0, input1, scale, *tensors):
        slots = torch.ops.enas.cell_slots(routes, stride) if routes.device.type == "cpu" else shapes.full_slots(routes)
    out, _, used = gradients.call(
        "cell",
        input0.contiguous(),
        input1.contiguous(),
        routes,
        tensors,
        weights.block,
        weights.loose_row,
        _contiguous(scale),
        _contiguous(statistics),
        stride,
        slots,
    )
    return out, Statistics(used)


def mixed_cell(
    input0: Tensor,
    input1: Tensor,
    mixing: Tensor,
    operations: Sequence[int],
    weights: MixedWeights,
    statistics: Tensor | None = None,
    stride: int = 1,
) -> tuple[Tensor, Statistics]:
    """See `mixed.mixed_cell`."""
    tensors = [tensor.contiguous() for tensor in weights.tensors()]
    wanted = _differentiable(input0, input1, mixing, *tensors)
    out, _, used = gradients.call(
        "mixed_cell",
        input0.contiguous(),
        input1.contiguous(),
        mixing.contiguous(),
        tensors,
        operations,
        _contiguous(statistics),
        stride,
        count_slots(mixing.shape[0], operations, stride) if wanted else 0,
    )
    return out, Statistics(used)


def sepconv_half(
    x: Tensor, affine: Tensor | None, depthwise: Tensor, pointwise: Tensor, stride: int = 1, dilation: int = 1
) -> tuple[Tensor, Tensor]:
    """See `reference.sepconv_half`."""
    z, statistics = gradients.call(
        "sepconv_half",
        x.contiguous(),
        _contiguous(affine),
        depthwise.contiguous(),
        pointwise.contiguous(),
        stride,
        dilation,
    )
    return z, statistics


def separable(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    gain: Tensor,
    bias: Tensor,
    statistics: Tensor | None = None,
    stride: int = 1,
) -> tuple[Tensor, Statistics]:
    """See `reference.separable`."""
    weights = [tensor.contiguous() for tensor in (depthwise, pointwise, gain, bias)]
    slots = SEPARABLE_SLOTS if _differentiable(x, *weights) else 0
    out, _, used = gradients.call("separable", x.contiguous(), *weights, _contiguous(statistics), stride, slots)
    return out, Statistics(used)


def pointwise_norm(inputs: Tensor, weights: Pointwise, statistics: Tensor | None = None) -> tuple[Tensor, Statistics]:
    """See `reference.pointwise_norm`."""
    return _pointwise(inputs, weights, statistics, reduced=False)


def reduction_norm(inputs: Tensor, weights: Pointwise, statistics: Tensor | None = None) -> tuple[Tensor, Statistics]:
    """See `reference.reduction_norm`."""
    return _pointwise(inputs, weights, statistics, reduced=True)


def convolution_norm(
    inputs: Tensor, kernel: Tensor, gain: Tensor, bias: Tensor, statistics: Tensor | None = None
) -> tuple[Tensor, Statistics]:
    """See `reference.convolution_norm`."""
    weights = (tensor.contiguous() for tensor in (kernel, gain, bias))
    out, _, used = gradients.call("convolution_norm", inputs.contiguous(), *weights, _contiguous(statistics))
    return out, Statistics(used)


def policy(
    weights: PolicyWeights,
    program: Program,
    tables: Tables,
    choices: Tensor,
    noise: Tensor | None = None,
    active: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """See `recurrent.policy`. It cannot ask what is active while it samples: that is the reference's."""
    assert noise is None or active is None
    tensors = [tensor.contiguous() for tensor in weights]
    scores, chosen, _ = gradients.call(
        "policy",
        *tensors,
        tables.numbers,
        tables.steps,
        tables.choices,
        program.nodes,
        program.queries,
        choices.contiguous(),
        None if active is None else active(choices).contiguous(),
        _contiguous(noise),
        _differentiable(*tensors),
    )
    return scores, chosen


@torch.no_grad()
def descend(
    weights: Sequence[Tensor],
    momenta: Tensor,
    gradients: Sequence[Tensor | None],
    decays: Sequence[float],
    rate: Tensor,
    momentum: float,
    nesterov: bool,
    clip: float | None,
) -> Tensor:
    """See `descent.descend`."""
    moved = [weight.contiguous() for weight in weights]
    dense = [_contiguous(gradient) for gradient in gradients]
    norm: Tensor = torch.ops.enas.descend(
        moved, momenta, dense, decays, rate.to(momenta.dtype), momentum, nesterov, clip
    )
    torch.autograd.graph.increment_version([*weights, momenta])  # the schema alone does not tell autograd
    for weight, own in zip(weights, moved, strict=True):
        if own is not weight:  # it lies otherwise in memory
            weight.copy_(own)
    return norm


def _pointwise(
    inputs: Tensor, weights: Pointwise, statistics: Tensor | None, reduced: bool
) -> tuple[Tensor, Statistics]:
    row = (tensor.squeeze(0).contiguous() for tensor in weights)  # a view, whose gradient is one too
    out, _, used = gradients.call("pointwise_norm", inputs.contiguous(), *row, _contiguous(statistics), reduced)
    return out, Statistics(used)


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _differentiable(*tensors: Any) -> bool:
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)
