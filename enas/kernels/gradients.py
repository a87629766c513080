"""The gradients of the native operations, as autograd sees them: one node a cell, and what it keeps.

Statistics and the tensors kept for backward are outputs of the operations and carry no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def register() -> None:
    """Tell autograd; the library has to be loaded."""
    for name, gradient in GRADIENTS.items():
        torch.library.register_autograd(f"enas::{name}", gradient.backward, setup_context=gradient.keep)


def call(name: str, *inputs: Any) -> Any:
    """Do what `torch.ops.enas.<name>(*inputs)` does, with a graph that is made faster.

    The graph of an operation with registered gradients costs 0.06 ms a pass (torch 2.13), a tenth of a small separable
    convolution; a function of our own costs a third of that. Tracers are given the registered operation.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return getattr(torch.ops.enas, name)(*inputs)
    return _Node.apply(*_spread(inputs, GRADIENTS[name].weights), name, len(inputs))  # type: ignore[no-untyped-call]


class _Node(torch.autograd.Function):
    """Any of the operations. Autograd looks for tensors among the arguments, not within lists: these are spread out."""

    @staticmethod
    def forward(ctx: Any, *spread: Any) -> Any:
        *flat, name, count = spread
        ctx.gradient = GRADIENTS[name]
        inputs = _gathered(flat, ctx.gradient.weights, count)
        outputs = getattr(torch.ops.enas, name)(*inputs)
        ctx.gradient.keep(ctx, inputs, outputs)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        return (*_spread(ctx.gradient.backward(ctx, *grads), ctx.gradient.weights), None, None)


def _spread(values: tuple[Any, ...], place: int | None) -> tuple[Any, ...]:
    """`values` with the list at `place` written out."""
    return values if place is None else (*values[:place], *values[place], *values[place + 1 :])


def _gathered(values: list[Any], place: int | None, count: int) -> tuple[Any, ...]:
    """The `count` values that were spread."""
    if place is None:
        return tuple(values)
    end = len(values) - (count - place - 1)
    return (*values[:place], values[place:end], *values[end:])


def _keep(ctx: Any, tensors: tuple[Tensor | None, ...], constant: tuple[Tensor, ...]) -> None:
    """Save `tensors`; gradients of the outputs `constant` are neither asked for nor made up as zeros."""
    ctx.save_for_backward(*tensors)
    ctx.mark_non_differentiable(*constant)
    ctx.set_materialize_grads(False)


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass


def _null(ctx: Any, grad: Tensor) -> tuple[Tensor]:
    return (grad,)


def _keep_cell(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    input0, input1, routes, weights, ctx.block, ctx.loose_row, scale, statistics, ctx.stride, _ = inputs
    _, saved, used = output
    _keep(ctx, (input0, input1, routes, scale, saved, used, *weights), (saved, used))
    ctx.given = statistics is not None


def _cell(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Any, ...]:
    input0, input1, routes, scale, saved, used, *weights = ctx.saved_tensors
    if grad is None:
        return (None, None, None, [None] * len(weights), None, None, None, None, None, None)
    dinput0, dinput1, dscale, dweights = torch.ops.enas.cell_backward(
        grad.contiguous(), input0, input1, routes, weights, ctx.block, ctx.loose_row, scale, ctx.stride, saved, used,
        ctx.given,
    )  # fmt: skip
    return dinput0, dinput1, None, dweights, None, None, None if scale is None else dscale, None, None, None


def _keep_mixed_cell(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    input0, input1, mixing, weights, ctx.operations, statistics, ctx.stride, _ = inputs
    _, saved, used = output
    _keep(ctx, (input0, input1, mixing, saved, used, *weights), (saved, used))
    ctx.given = statistics is not None


def _mixed_cell(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Any, ...]:
    input0, input1, mixing, saved, used, *weights = ctx.saved_tensors
    if grad is None:
        return None, None, None, [None] * len(weights), None, None, None, None
    dinput0, dinput1, dmixing, dweights = torch.ops.enas.mixed_cell_backward(
        grad.contiguous(), input0, input1, mixing, weights, ctx.operations, ctx.stride, saved, used, ctx.given
    )
    return dinput0, dinput1, dmixing, dweights, None, None, None, None


def _keep_sepconv_half(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, affine, depthwise, pointwise, ctx.stride, ctx.dilation = inputs
    _keep(ctx, (x, affine, depthwise, pointwise), (output[1],))


def _sepconv_half(ctx: Any, grad: Tensor | None, _: None) -> tuple[Any, ...]:
    if grad is None:
        return (None,) * 6
    x, affine, depthwise, pointwise = ctx.saved_tensors
    dx, daffine, ddepthwise, dpointwise = torch.ops.enas.sepconv_half_backward(
        grad.contiguous(), x, affine, depthwise, pointwise, ctx.stride, ctx.dilation
    )
    return dx, None if affine is None else daffine, ddepthwise, dpointwise, None, None


def _keep_separable(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, depthwise, pointwise, gain, bias, statistics, ctx.stride, _ = inputs
    _, saved, used = output
    _keep(ctx, (x, depthwise, pointwise, gain, bias, saved, used), (saved, used))
    ctx.given = statistics is not None


def _separable(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Any, ...]:
    if grad is None:
        return (None,) * 8
    *inputs, saved, used = ctx.saved_tensors
    gradients = torch.ops.enas.separable_backward(grad.contiguous(), *inputs, ctx.stride, saved, used, ctx.given)
    return (*gradients, None, None, None)


def _keep_pointwise_norm(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, gain, _, statistics, ctx.reduced = inputs
    _, z, used = output
    _keep(ctx, (x, weight, gain, z, used), (z, used))
    ctx.given = statistics is not None


def _pointwise_norm(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Any, ...]:
    if grad is None:
        return (None,) * 6
    gradients = torch.ops.enas.pointwise_norm_backward(grad.contiguous(), *ctx.saved_tensors, ctx.given, ctx.reduced)
    return (*gradients, None, None)


def _keep_convolution_norm(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, kernel, gain, _, statistics = inputs
    _, z, used = output
    _keep(ctx, (x, kernel, gain, z, used), (z, used))
    ctx.given = statistics is not None


def _convolution_norm(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Any, ...]:
    if grad is None:
        return (None,) * 5
    wanted = ctx.needs_input_grad[0]  # the first convolution of a network reads images
    dx, *gradients = torch.ops.enas.convolution_norm_backward(grad.contiguous(), *ctx.saved_tensors, ctx.given, wanted)
    return (dx if wanted else None, *gradients, None)


def _keep_policy(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, ctx.nodes, ctx.queries, _, active, _, _ = inputs
    _, chosen, saved = output
    _keep(ctx, (*tensors, chosen, active, saved), (chosen, saved))


def _policy(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Any, ...]:
    if grad is None:
        return (None,) * 16
    *tensors, chosen, active, saved = ctx.saved_tensors
    gradients = torch.ops.enas.policy_backward(
        grad.contiguous(), *tensors, ctx.nodes, ctx.queries, chosen, active, saved
    )
    return (*gradients, *(None,) * 9)


class Gradient(NamedTuple):
    """What an operation keeps for backward, its backward pass, and which of its arguments is a list of weights."""

    keep: Callable[..., None]
    backward: Callable[..., Any]
    weights: int | None = None


GRADIENTS = {
    "null": Gradient(_keep_nothing, _null),
    "cell": Gradient(_keep_cell, _cell, weights=3),
    "mixed_cell": Gradient(_keep_mixed_cell, _mixed_cell, weights=3),
    "sepconv_half": Gradient(_keep_sepconv_half, _sepconv_half),
    "separable": Gradient(_keep_separable, _separable),
    "pointwise_norm": Gradient(_keep_pointwise_norm, _pointwise_norm),
    "convolution_norm": Gradient(_keep_convolution_norm, _convolution_norm),
    "policy": Gradient(_keep_policy, _policy),
}
