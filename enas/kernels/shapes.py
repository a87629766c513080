"""The shapes of what the native operations give, for torch's tracers: csrc/ops.cpp without the numbers.

`cell_slots` depends on the numbers in its routes, which a tracer does not have: it is told the most that there can be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from enas.kernels.mixed import count_nodes


def register() -> None:
    """Tell torch; the library has to be loaded."""
    functions: dict[str, Callable[..., Any]] = {
        "null": _null,
        "augment": _augment,
        "descend": _descend,
        "cell": _cell,
        "cell_slots": _cell_slots,
        "cell_backward": _cell_backward,
        "mixed_cell": _mixed_cell,
        "mixed_cell_backward": _mixed_cell_backward,
        "sepconv_half": _sepconv_half,
        "sepconv_half_backward": _sepconv_half_backward,
        "separable": _separable,
        "separable_backward": _separable_backward,
        "pointwise_norm": _pointwise_norm,
        "pointwise_norm_backward": _pointwise_norm_backward,
        "convolution_norm": _convolution_norm,
        "convolution_norm_backward": _convolution_norm_backward,
        "policy": _policy,
        "policy_backward": _policy_backward,
    }
    for name, function in functions.items():
        torch.library.register_fake(f"enas::{name}", function)


def _arithmetic(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _new(x: Tensor, *shape: int) -> Tensor:
    """Images of this shape, in the type of `x`."""
    return x.new_empty(shape)


def _statistics(x: Tensor, *shape: int) -> Tensor:
    return x.new_empty(shape, dtype=_arithmetic(x))


def _strided(x: Tensor, stride: int) -> tuple[int, int]:
    return (x.shape[2] + stride - 1) // stride, (x.shape[3] + stride - 1) // stride


def _like(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(tensor) for tensor in tensors)


def _null(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def _augment(
    images: Tensor,
    indices: Tensor,
    shifts: Tensor | None,
    flips: Tensor | None,
    corners: Tensor | None,
    cutout: int,
    mean: Tensor,
    std: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    return images.new_empty(indices.shape[0], *images.shape[1:], dtype=dtype)


def _descend(weights: Sequence[Tensor], momenta: Tensor, *_: Any) -> Tensor:
    return momenta.new_empty(())


def full_slots(routes: Tensor) -> int:
    """The tensors a cell keeps for backward where nobody has looked at its routes: csrc/layout.h, FullSlots::count."""
    edges = routes.shape[1]
    return 2 * edges + edges // 2 + 3


def _cell_slots(routes: Tensor, stride: int) -> int:
    return full_slots(routes)


def _cell(
    input0: Tensor,
    input1: Tensor,
    routes: Tensor,
    weights: Sequence[Tensor],
    block: Sequence[int],
    loose_row: Sequence[int],
    scale: Tensor | None,
    statistics: Tensor | None,
    stride: int,
    slots: int,
) -> tuple[Tensor, Tensor, Tensor]:
    children, edges, _ = routes.shape
    batch, channels, projected = input1.shape[1], input1.shape[4], len(weights) == 17
    size = _strided(input1, stride)
    return (
        _new(input1, children, batch, *size, channels if projected else (max(block) + 1) * channels),
        _new(input1, children, slots, batch, *size, channels),
        _statistics(input1, children, 2 * edges + 3, 2, channels),
    )


def _cell_backward(
    grad: Tensor,
    input0: Tensor,
    input1: Tensor,
    routes: Tensor,
    weights: Sequence[Tensor],
    block: Sequence[int],
    loose_row: Sequence[int],
    scale: Tensor | None,
    stride: int,
    saved: Tensor,
    used: Tensor,
    given: bool,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    dscale = _statistics(input1, 0) if scale is None else torch.empty_like(scale)
    return *_like(input0, input1), dscale, list(_like(*weights))  # type: ignore[return-value]


def _mixed_cell(
    input0: Tensor,
    input1: Tensor,
    mixing: Tensor,
    weights: Sequence[Tensor],
    operations: Sequence[int],
    statistics: Tensor | None,
    stride: int,
    slots: int,
) -> tuple[Tensor, Tensor, Tensor]:
    children = input1.shape[0] if input0.shape[0] == 1 else input0.shape[0]
    batch, channels, size = input1.shape[1], input1.shape[4], _strided(input1, stride)
    edges, norms = weights[-1].shape[:2]
    return (
        _new(input1, children, batch, *size, count_nodes(edges) * channels),
        _new(input1, children, slots, batch, *size, channels),
        _statistics(input1, children, edges * norms, 2, channels),
    )


def _mixed_cell_backward(
    grad: Tensor,
    input0: Tensor,
    input1: Tensor,
    mixing: Tensor,
    weights: Sequence[Tensor],
    operations: Sequence[int],
    stride: int,
    saved: Tensor,
    used: Tensor,
    given: bool,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    return *_like(input0, input1, mixing), list(_like(*weights))  # type: ignore[return-value]


def _sepconv_half(
    x: Tensor, affine: Tensor | None, depthwise: Tensor, pointwise: Tensor, stride: int, dilation: int
) -> tuple[Tensor, Tensor]:
    children, batch, outputs = x.shape[0], x.shape[1], pointwise.shape[1]
    return _new(x, children, batch, *_strided(x, stride), outputs), _statistics(x, children, 2, outputs)


def _sepconv_half_backward(
    dz: Tensor,
    x: Tensor,
    affine: Tensor | None,
    depthwise: Tensor,
    pointwise: Tensor,
    stride: int,
    dilation: int,
) -> tuple[Tensor, ...]:
    daffine = _statistics(x, 0 if affine is None else x.shape[0], 2, x.shape[4])
    dx, ddepthwise, dpointwise = _like(x, depthwise, pointwise)
    return dx, daffine, ddepthwise, dpointwise


def _separable(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    gain: Tensor,
    bias: Tensor,
    statistics: Tensor | None,
    stride: int,
    slots: int,
) -> tuple[Tensor, Tensor, Tensor]:
    children, batch, _, _, channels = x.shape
    size = _strided(x, stride)
    return (
        _new(x, children, batch, *size, channels),
        _new(x, children, slots, batch, *size, channels),
        _statistics(x, children, 2, 2, channels),
    )


def _separable_backward(
    grad: Tensor,
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    gain: Tensor,
    bias: Tensor,
    stride: int,
    saved: Tensor,
    used: Tensor,
    given: bool,
) -> tuple[Tensor, ...]:
    return _like(x, depthwise, pointwise, gain, bias)


def _pointwise_norm(
    x: Tensor, weight: Tensor, gain: Tensor, bias: Tensor, statistics: Tensor | None, reduced: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _normed(x, _strided(x, 2 if reduced else 1), weight.shape[1])


def _pointwise_norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, gain: Tensor, z: Tensor, used: Tensor, given: bool, reduced: bool
) -> tuple[Tensor, ...]:
    return _like(x, weight, gain, gain)


def _convolution_norm(
    x: Tensor, kernel: Tensor, gain: Tensor, bias: Tensor, statistics: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    return _normed(x, _strided(x, 1), kernel.shape[3])


def _convolution_norm_backward(
    grad: Tensor, x: Tensor, kernel: Tensor, gain: Tensor, z: Tensor, used: Tensor, given: bool, wanted: bool
) -> tuple[Tensor, ...]:
    dx = torch.empty_like(x) if wanted else _new(x, 0)
    return dx, *_like(kernel, gain, gain)


def _policy(
    recurrent: Tensor,
    key: Tensor,
    query: Tensor,
    value: Tensor,
    inputs: Tensor,
    softmax: Tensor,
    bias: Tensor,
    numbers: Tensor,
    steps: Tensor,
    decisions: Tensor,
    nodes: int,
    queries: int,
    choices: Tensor,
    active: Tensor | None,
    noise: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    rows, hidden = choices.shape[0], key.shape[0]
    kept = (6 * steps.shape[0] + 2 * nodes + 2 * queries) * hidden + 2 * numbers.shape[0] * (numbers.shape[1] - 3)
    saved = recurrent.new_empty(rows, kept if keep else 0)
    return recurrent.new_empty(3, rows), torch.empty_like(choices), saved


def _policy_backward(
    grad: Tensor,
    recurrent: Tensor,
    key: Tensor,
    query: Tensor,
    value: Tensor,
    inputs: Tensor,
    softmax: Tensor,
    bias: Tensor,
    *_: Any,
) -> tuple[Tensor, ...]:
    return _like(recurrent, key, query, value, inputs, softmax, bias)


def _normed(x: Tensor, size: tuple[int, int], outputs: int) -> tuple[Tensor, Tensor, Tensor]:
    children, batch = x.shape[:2]
    out, z = (_new(x, children, batch, *size, outputs) for _ in range(2))
    return out, z, _statistics(x, children, 1, 2, outputs)
