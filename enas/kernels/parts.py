"""The building blocks of the reference: operations on the images of one child, [B, H, W, C], in plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from enas.kernels.interface import EPSILON


class Moment(NamedTuple):
    """What one batch norm was computed with: mean and 1 / sqrt(variance + epsilon), each [C]."""

    mean: Tensor
    inverse: Tensor

    def tensor(self) -> Tensor:
        """Mean and biased variance, [2, C]."""
        variance = (self.inverse.square().reciprocal() - EPSILON).clamp_min(0.0)
        return torch.stack([self.mean, variance])


def stack_moments(moments: Sequence[Sequence[Moment | None]], norms: int, blank: Tensor) -> Tensor:
    """Those of all children, [M, norms, 2, C], (0, 1) where one was unused; `blank` [C] has their type and device."""
    if not moments or not norms:
        return blank.new_empty(len(moments), norms, 2, blank.shape[0])
    unused = torch.stack([torch.zeros_like(blank), torch.ones_like(blank)])
    return torch.stack(
        [torch.stack([unused if moment is None else moment.tensor() for moment in child]) for child in moments]
    )


def widen(x: Tensor) -> Tensor:
    """Stored images as the numbers that are computed with."""
    return x.float() if x.dtype == torch.bfloat16 else x


def stored(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` as it comes back from storage in `dtype`; its gradient is not rounded, as in the fused kernels."""
    return x if x.dtype == dtype else x + (x.to(dtype).to(x.dtype) - x).detach()


def normalise(x: Tensor, gain: Tensor, bias: Tensor, given: Tensor | None) -> tuple[Tensor, Moment]:
    """Batch norm by its own statistics, or by `given` [2, C] (mean, biased variance)."""
    if given is None:
        planes, mean, inverse = torch.native_batch_norm(_planes(x), gain, bias, None, None, True, 0.0, EPSILON)
        return _pixels(planes), Moment(mean, inverse)
    inverse = (given[1] + EPSILON).rsqrt()
    return (x - given[0]) * (inverse * gain) + bias, Moment(given[0], inverse)


def reduce(x: Tensor, weight: Tensor) -> Tensor:
    """Factorised reduction [B, H, W, C] -> [B, ceil(H/2), ceil(W/2), C'] (authors' `_factorized_reduction`).

    The first half of the output channels sees the even pixels, the second half the image shifted by one pixel.
    """
    half = (weight.shape[1] + 1) // 2
    even = x[:, ::2, ::2]
    shifted = functional.pad(x, (0, 0, 0, 1, 0, 1))[:, 1::2, 1::2]
    return torch.cat([even @ weight[:, :half], shifted @ weight[:, half:]], dim=-1)


def separable_half(
    x: Tensor, affine: Tensor | None, depthwise: Tensor, pointwise: Tensor, stride: int = 1, dilation: int = 1
) -> Tensor:
    """[Affine,] ReLU, depthwise k x k, pointwise: one half of a separable convolution before its batch norm.

    x [B, H, W, C], affine [2, C] (factor, offset), depthwise [k, k, C], pointwise [C, C'] ->
    [B, ceil(H/stride), ceil(W/stride), C'].
    """
    size, _, channels = depthwise.shape
    if affine is not None:
        x = x * affine[0] + affine[1]
    planes = functional.conv2d(
        _planes(functional.relu(x)),
        depthwise.permute(2, 0, 1).unsqueeze(1),
        stride=stride,
        padding=size // 2 * dilation,
        dilation=dilation,
        groups=channels,
    )
    return _pixels(planes) @ pointwise


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Dense k x k convolution, padded by k / 2; kernel [k, k, C, C']."""
    weight = kernel.permute(3, 2, 0, 1).contiguous()  # torch's backward refuses another order for one output
    return _pixels(functional.conv2d(_planes(x), weight, padding=kernel.shape[0] // 2))


def average_pool(x: Tensor, stride: int) -> Tensor:
    """3x3 average over the pixels inside the image; padding does not count (TensorFlow's "SAME")."""
    return _pixels(functional.avg_pool2d(_planes(x), 3, stride, 1, count_include_pad=False))


def max_pool(x: Tensor, stride: int) -> Tensor:
    """3x3 maximum over the pixels inside the image."""
    return _pixels(functional.max_pool2d(_planes(x), 3, stride, 1))


def zeros(x: Tensor, stride: int) -> Tensor:
    """Nothing, of the size that any other operation gives."""
    return torch.zeros_like(x[:, ::stride, ::stride])


def _planes(x: Tensor) -> Tensor:
    """[B, H, W, C] seen as [B, C, H, W] in channels-last memory, as torch's convolutions want it."""
    return x.permute(0, 3, 1, 2)


def _pixels(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)
