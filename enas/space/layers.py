"""What the networks of several spaces are made of: batch norms by name, dropout, the classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from enas import kernels
from enas.kernels import Statistics, parts
from enas.space.base import Noise


class Norms:
    """Hands every kernel its given statistics by name, and remembers what it used."""

    def __init__(self, given: Mapping[str, Tensor] | None, collect: bool):
        self._given = given
        self._used: dict[str, kernels.Statistics] | None = {} if collect else None

    def __call__(self, name: str, function: Callable[..., tuple[Tensor, kernels.Statistics]], *inputs: Any) -> Tensor:
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
    pooled = x.relu().mean(dim=(2, 3), dtype=dtype)
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
    """Dense k x k convolution of stride 2 and batch norm: [M, B, H, W, C] -> [M, B, ceil(H/2), ceil(W/2), C'].

    kernel [k, k, C, C'], gain and bias [C'], statistics None or [M, 1, 2, C'].
    """
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
    """What the kernels' convolution does not cover: a dense convolution of any shape and step, and its batch norm.

    x [M, B, H, W, C], kernel [h, w, C, C'], gain and bias [C'], statistics None or [M, 1, 2, C']. Padding is "same",
    or none where not `padded`.
    """
    weight = kernel.permute(3, 2, 0, 1).contiguous()
    padding = [side // 2 * dilation if padded else 0 for side in kernel.shape[:2]]

    def convolve(child: Tensor) -> Tensor:
        planes = functional.conv2d(child.permute(0, 3, 1, 2), weight, stride=stride, padding=padding, dilation=dilation)
        return planes.permute(0, 2, 3, 1)

    return _each(x, convolve, gain, bias, statistics)


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
