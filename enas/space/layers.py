"""What the networks of several spaces are made of: batch norms by name, dropout, the classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from enas import kernels
from enas.kernels import Statistics, parts
from enas.space.network import Noise

Result = TypeVar("Result")


class Norms:
    """Hands every kernel its given statistics by name, and remembers what it used."""

    def __init__(self, given: Mapping[str, Tensor] | None, collect: bool):
        self._given = given
        self._used: dict[str, kernels.Statistics] | None = {} if collect else None

    def __call__(self, name: str, function: Callable[..., tuple[Result, kernels.Statistics]], *inputs: Any) -> Result:
        out, statistics = function(*inputs, statistics=None if self._given is None else self._given[name])
        if self._used is not None:
            self._used[name] = statistics
        return out

    def collected(self) -> dict[str, Tensor]:
        return {} if self._used is None else {name: used.tensor() for name, used in self._used.items()}


def keep(shape: Sequence[int], probability: float, generator: torch.Generator, like: Tensor) -> Tensor:
    """1 / probability with that probability, else 0: expectation one."""
    uniform = torch.rand(*shape, generator=generator, device=like.device, dtype=like.dtype)
    return (uniform < probability).to(like.dtype) / probability


def pool(x: Tensor, dtype: torch.dtype, noise: Noise | None) -> Tensor:
    """What the classifier reads: ReLU, mean over pixels, dropout; [M, B, H, W, C] -> [M, B, C] of type `dtype`."""
    return drop_features(x.relu().mean(dim=(2, 3), dtype=dtype), noise)


def drop_features(pooled: Tensor, noise: Noise | None) -> Tensor:
    """Dropout in front of the classifier: [M, B, C] -> [M, B, C]."""
    if noise is not None and noise.dropout > 0:
        pooled = pooled * keep(pooled.shape, 1 - noise.dropout, noise.generator, pooled)
    return pooled


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """[M, B, C] @ [C, K], one child after the other: a child's bits must not depend on how many there are."""
    children = [child @ weight for child in x.unbind()]
    return torch.stack(children)


def unused(like: Tensor) -> Tensor:
    """The statistics [2, C] of a batch norm that was not computed: mean 0, variance 1. `like` is [..., C]."""
    blank = like.new_zeros(like.shape[-1])
    return torch.stack([blank, blank + 1])


def batch_norm(x: Tensor, gain: Tensor, bias: Tensor, statistics: Tensor | None = None) -> tuple[Tensor, Statistics]:
    """Batch norm of each child's own images: x [M, B, H, W, C], statistics None or [M, 1, 2, C]."""
    return _each(x, lambda child: child, gain, bias, statistics)


def strided_convolution_norm(
    x: Tensor, kernel: Tensor, gain: Tensor, bias: Tensor, statistics: Tensor | None = None
) -> tuple[Tensor, Statistics]:
    """`dense_convolution_norm` of stride 2."""
    return dense_convolution_norm(x, kernel, gain, bias, statistics, stride=(2, 2))


def dense_convolution_norm(
    x: Tensor,
    kernel: Tensor,
    gain: Tensor,
    bias: Tensor,
    statistics: Tensor | None = None,
    *,
    stride: tuple[int, int] = (1, 1),
    dilation: int = 1,
    padded: bool = True,
) -> tuple[Tensor, Statistics]:
    """A dense convolution of any shape and step, by torch, and its batch norm.

    x [M, B, H, W, C], kernel [h, w, C, C'], gain and bias [C'], statistics None or [M, 1, 2, C']. Padding is "same",
    or none where not `padded`. `kernels.convolution_norm` is the faster one for squares of stride 1 where channels are
    few.
    """
    weight = kernel.permute(3, 2, 0, 1).contiguous()
    padding = [side // 2 * dilation if padded else 0 for side in kernel.shape[:2]]

    def convolve(child: Tensor) -> Tensor:
        planes = functional.conv2d(child.permute(0, 3, 1, 2), weight, stride=stride, padding=padding, dilation=dilation)
        return planes.permute(0, 2, 3, 1)

    return _each(x, convolve, gain, bias, statistics)


def separable_norm(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    gain: Tensor,
    bias: Tensor,
    statistics: Tensor | None = None,
    stride: int = 1,
) -> tuple[Tensor, Statistics]:
    """ReLU, separable k x k convolution and batch norm: [M, B, H, W, C] -> [M, B, ceil(H/stride), ceil(W/stride), C'].

    depthwise [k, k, C], pointwise [C, C'], gain and bias [C'], statistics None or [M, 1, 2, C'], stride 1 or 2.
    """
    z, _ = kernels.sepconv_half(x, None, depthwise, pointwise, stride)
    return batch_norm(z, gain, bias, statistics)


def depthwise_norm(
    x: Tensor, depthwise: Tensor, gain: Tensor, bias: Tensor, statistics: Tensor | None = None
) -> tuple[Tensor, Statistics]:
    """ReLU, depthwise k x k convolution and batch norm: [M, B, H, W, C] -> the same shape.

    depthwise [k, k, C], gain and bias [C], statistics None or [M, 1, 2, C].
    """
    weight = depthwise.permute(2, 0, 1).unsqueeze(1)

    def convolve(child: Tensor) -> Tensor:
        planes = child.relu().permute(0, 3, 1, 2)
        return functional.conv2d(planes, weight, padding=weight.shape[2] // 2, groups=weight.shape[0]).permute(
            0, 2, 3, 1
        )

    return _each(x, convolve, gain, bias, statistics)


def reduction_norm(
    x: Tensor, weight: Tensor, gain: Tensor, bias: Tensor, statistics: Tensor | None = None
) -> tuple[Tensor, Statistics]:
    """Factorised reduction without a ReLU, and batch norm: [M, B, H, W, C] -> [M, B, ceil(H/2), ceil(W/2), C'].

    weight [C, C'], gain and bias [C'], statistics None or [M, 1, 2, C'].
    """
    return _each(x, lambda child: parts.reduce(child, weight), gain, bias, statistics)


def average_pool(x: Tensor) -> Tensor:
    """3x3 average of stride 1 over the pixels inside the image; [M, B, H, W, C], rounded where it is stored."""
    return parts.average_pool(parts.widen(x.flatten(0, 1)), 1).to(x.dtype).view_as(x)


def max_pool(x: Tensor) -> Tensor:
    """3x3 maximum of stride 1 over the pixels inside the image; [M, B, H, W, C]."""
    return parts.max_pool(x.flatten(0, 1), 1).view_as(x)


def _each(
    x: Tensor, compute: Callable[[Tensor], Tensor], gain: Tensor, bias: Tensor, statistics: Tensor | None
) -> tuple[Tensor, Statistics]:
    """One child after the other: its bits must not depend on how many there are."""
    results, moments = [], []
    for number, child in enumerate(x.unbind()):
        given = None if statistics is None else statistics[number, 0]
        result, moment = parts.normalise(parts.stored(compute(parts.widen(child)), x.dtype), gain, bias, given)
        results.append(result.to(x.dtype))
        moments.append(moment)
    return torch.stack(results), Statistics(lambda: torch.stack([moment.tensor() for moment in moments]).unsqueeze(1))
