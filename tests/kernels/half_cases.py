"""Halves of separable convolutions with hostile arguments, and what must come out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from kernels.operations import Case, Results, convert, images, normal


def _half(
    stored: torch.dtype,
    x: Tensor,
    affine: Tensor | None,
    depthwise: Tensor,
    pointwise: Tensor,
    stride: int,
    dilation: int,
) -> tuple[Tensor, Tensor]:
    size, _, channels = depthwise.shape
    if affine is not None:
        x = x * affine[:, 0].reshape(-1, 1, 1, 1, channels) + affine[:, 1].reshape(-1, 1, 1, 1, channels)
    planes = functional.conv2d(
        functional.relu(x).flatten(0, 1).permute(0, 3, 1, 2),
        depthwise.permute(2, 0, 1).unsqueeze(1),
        stride=stride,
        dilation=dilation,
        padding=dilation * (size // 2),
        groups=channels,
    )
    z = (planes.permute(0, 2, 3, 1) @ pointwise).unflatten(0, x.shape[:2])
    kept = z.detach().to(stored).double()
    mean = kept.mean((1, 2, 3))
    return z, torch.stack([mean, (kept - mean[:, None, None, None]).square().mean((1, 2, 3))], 1)


def _half_backward(stored: torch.dtype, dz: Tensor, x: Tensor, affine: Tensor | None, *rest: Any) -> Results:
    leaves = [tensor.clone().requires_grad_() for tensor in (x, affine, *rest[:2]) if tensor is not None]
    z, _ = _half(stored, leaves[0], None if affine is None else leaves[1], *leaves[-2:], *rest[2:])
    dx, *others = torch.autograd.grad(z, leaves, dz)
    daffine = x.new_zeros(0, 2, x.shape[-1]) if affine is None else others[0]
    return dx, daffine, *others[-2:]


def _halves() -> Iterator[Case]:
    shapes: list[tuple[tuple[int, ...], int, int, int, int, bool]] = [
        # x, outputs, kernel, stride, dilation, affine
        ((2, 3, 9, 11, 20), 20, 3, 1, 1, False),
        ((1, 2, 16, 8, 20), 20, 5, 1, 1, True),
        ((2, 2, 13, 7, 33), 33, 5, 2, 1, True),
        ((1, 2, 17, 9, 24), 44, 7, 1, 1, True),
        ((1, 1, 11, 10, 12), 84, 7, 2, 2, False),
        ((2, 1, 9, 9, 7), 3, 3, 1, 2, True),
        ((1, 2, 8, 8, 80), 80, 3, 2, 1, True),
        ((2, 1, 1, 1, 1), 1, 5, 1, 1, True),
        ((1, 3, 1, 2, 4), 5, 3, 2, 1, False),
        ((0, 2, 5, 5, 4), 4, 3, 1, 1, True),
        ((1, 300, 3, 3, 2), 2, 3, 1, 1, True),  # more tiles than chunks
    ]
    for shape, outputs, size, stride, dilation, affine in shapes:
        children, channels = shape[0], shape[-1]
        weights = (normal(size, size, channels, seed=1, scale=0.3), normal(channels, outputs, seed=2, scale=0.3))
        given = normal(children, 2, channels, seed=3) if affine else None
        arguments = (images(*shape), given, *weights, stride, dilation)
        name = f"{'x'.join(map(str, shape))}-{outputs}k{size}s{stride}d{dilation}"
        yield Case(f"sepconv_half/{name}", "sepconv_half", partial(convert, arguments), _half)
        out = [(extent + stride - 1) // stride for extent in shape[2:4]]
        dz = normal(*shape[:2], *out, outputs, seed=4)
        backward = partial(convert, (dz, *arguments))
        yield Case(f"sepconv_half_backward/{name}", "sepconv_half_backward", backward, _half_backward)


HALF_CASES: list[Case] = [*_halves()]
