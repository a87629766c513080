"""The candidate operations of cells whose nodes join two of them: name, weights, forward and cost side by side.

Convolutions are ReLU, convolution, batch norm (Zoph et al. 2018, appendix A.4). Weights stand in rows; an operation is
computed with one row. Images are those of one child, [1, B, H, W, C].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from enas import kernels
from enas.kernels import Pointwise, Statistics, parts
from enas.space.layers import batch_norm, dense_convolution_norm
from enas.space.operations import UnitCost, pointwise_cost
from enas.space.rows import he_normal
from enas.space.stacking import halve

Shapes = Mapping[str, tuple[tuple[int, ...], int]]
"""Name of a weight -> shape of one row and fan-in; gains and biases of batch norms have fan-in 0."""
Result = tuple[Tensor, Statistics | None]

NORMS = 2
"""Batch norms of an operation, at most."""


@dataclass(frozen=True)
class PairOperation(ABC):
    """One alternative of an edge.

    dropped  whether drop-path acts on it: on everything but the identity, with whatever stride
    strided  whether only edges that read an input have weights, since these alone can have stride 2
    """

    name: str
    dropped = True
    strided = False

    def shapes(self, channels: int, stride: int) -> Shapes:
        """The weights of one row; `stride` is that of the cell's edges that read an input."""
        return {}

    @abstractmethod
    def compute(self, weights: Mapping[str, Tensor], x: Tensor, stride: int, statistics: Tensor | None) -> Result:
        """[1, B, H, W, C] -> [1, B, ceil(H/stride), ceil(W/stride), C] and the statistics used, [1, n, 2, C].

        `statistics` is None or [1, NORMS, 2, C], of which the operation takes what it needs.
        """

    def cost(self, channels: int, stride: int, height: int, width: int) -> UnitCost:
        """Cost with `channels` in and out; height and width are those of what it reads."""
        return UnitCost(0, 0)


@dataclass(frozen=True)
class Zero(PairOperation):
    """No edge."""

    def compute(self, weights: Mapping[str, Tensor], x: Tensor, stride: int, statistics: Tensor | None) -> Result:
        return parts.zeros(x[0], stride).unsqueeze(0), None


@dataclass(frozen=True)
class Identity(PairOperation):
    """What it reads. With stride 2 it is ReLU, 1x1 convolution of stride 2, batch norm (NASNet's code) or, `reduced`,
    a factorised reduction without ReLU and a batch norm (as in a mixed cell of the kernels)."""

    reduced: bool = False
    dropped = False
    strided = True

    def shapes(self, channels: int, stride: int) -> Shapes:
        if stride == 1:
            return {}
        return {"pointwise": ((channels, channels), channels), **_norms(channels)}

    def compute(self, weights: Mapping[str, Tensor], x: Tensor, stride: int, statistics: Tensor | None) -> Result:
        if stride == 1:
            return x, None
        pointwise, gain, bias = weights["pointwise"], weights["gain"], weights["bias"]
        given = _first(statistics, 1)
        if self.reduced:
            reduced = parts.reduce(parts.widen(x[0]), pointwise).to(x.dtype)
            return batch_norm(reduced.unsqueeze(0), gain, bias, given)
        own = Pointwise(pointwise.unsqueeze(0), gain.unsqueeze(0), bias.unsqueeze(0))
        return kernels.pointwise_norm(x[:, :, ::stride, ::stride], own, given)

    def cost(self, channels: int, stride: int, height: int, width: int) -> UnitCost:
        if stride == 1:
            return UnitCost(0, 0)
        return pointwise_cost(channels, channels, halve(height, stride) * halve(width, stride))


@dataclass(frozen=True)
class Separable(PairOperation):
    """A doubled separable convolution: (ReLU, depthwise, pointwise, batch norm) twice, the stride in the first."""

    kernel: int

    def shapes(self, channels: int, stride: int) -> Shapes:
        return {
            "depthwise": ((2, self.kernel, self.kernel, channels), self.kernel**2),
            "pointwise": ((2, channels, channels), channels),
            **_norms(2, channels),
        }

    def compute(self, weights: Mapping[str, Tensor], x: Tensor, stride: int, statistics: Tensor | None) -> Result:
        own = (weights["depthwise"], weights["pointwise"], weights["gain"], weights["bias"])
        return kernels.separable(x, *own, _first(statistics, 2), stride)

    def cost(self, channels: int, stride: int, height: int, width: int) -> UnitCost:
        one = self.kernel**2 * channels + channels**2
        return UnitCost(2 * (one + 2 * channels), 2 * one * halve(height, stride) * halve(width, stride))


@dataclass(frozen=True)
class DilatedSeparable(PairOperation):
    """A separable convolution with dilation 2, once: ReLU, depthwise, pointwise, batch norm."""

    kernel: int

    def shapes(self, channels: int, stride: int) -> Shapes:
        return {
            "depthwise": ((1, self.kernel, self.kernel, channels), self.kernel**2),
            "pointwise": ((1, channels, channels), channels),
            **_norms(1, channels),
        }

    def compute(self, weights: Mapping[str, Tensor], x: Tensor, stride: int, statistics: Tensor | None) -> Result:
        depthwise, pointwise = weights["depthwise"][0], weights["pointwise"][0]
        z, _ = kernels.sepconv_half(x, None, depthwise, pointwise, stride, dilation=2)
        return batch_norm(z, weights["gain"][0], weights["bias"][0], _first(statistics, 1))

    def cost(self, channels: int, stride: int, height: int, width: int) -> UnitCost:
        one = self.kernel**2 * channels + channels**2
        return UnitCost(one + 2 * channels, one * halve(height, stride) * halve(width, stride))


@dataclass(frozen=True)
class Dense(PairOperation):
    """A dense k x k convolution: ReLU, convolution, batch norm."""

    kernel: int
    dilation: int = 1

    def shapes(self, channels: int, stride: int) -> Shapes:
        taps = self.kernel**2
        return {"kernel": ((self.kernel, self.kernel, channels, channels), taps * channels), **_norms(channels)}

    def compute(self, weights: Mapping[str, Tensor], x: Tensor, stride: int, statistics: Tensor | None) -> Result:
        kernel, gain, bias = weights["kernel"], weights["gain"], weights["bias"]
        given = _first(statistics, 1)
        if self.kernel == 1:
            own = Pointwise(kernel[0], gain.unsqueeze(0), bias.unsqueeze(0))
            return kernels.pointwise_norm(x[:, :, ::stride, ::stride], own, given)
        if stride == 1 and self.dilation == 1:
            return kernels.convolution_norm(x.relu(), kernel, gain, bias, given)
        steps, dilation = (stride, stride), self.dilation
        return dense_convolution_norm(x.relu(), kernel, gain, bias, given, stride=steps, dilation=dilation)

    def cost(self, channels: int, stride: int, height: int, width: int) -> UnitCost:
        weights = self.kernel**2 * channels**2
        return UnitCost(weights + 2 * channels, weights * halve(height, stride) * halve(width, stride))


@dataclass(frozen=True)
class Stacked(PairOperation):
    """A 1 x k and a k x 1 convolution, each ReLU, convolution, batch norm; each takes the stride along its filter."""

    kernel: int

    def shapes(self, channels: int, stride: int) -> Shapes:
        return {"kernel": ((2, self.kernel, channels, channels), self.kernel * channels), **_norms(2, channels)}

    def compute(self, weights: Mapping[str, Tensor], x: Tensor, stride: int, statistics: Tensor | None) -> Result:
        used = []
        for half, (step, axis) in enumerate((((1, stride), 0), ((stride, 1), 1))):
            kernel, gain, bias = weights["kernel"][half].unsqueeze(axis), weights["gain"][half], weights["bias"][half]
            given = None if statistics is None else statistics[:, half, None]
            x, own = dense_convolution_norm(x.relu(), kernel, gain, bias, given, stride=step)
            used.append(own)
        return x, Statistics(lambda: torch.cat([own.tensor() for own in used], dim=1))

    def cost(self, channels: int, stride: int, height: int, width: int) -> UnitCost:
        weights, narrow = self.kernel * channels**2, halve(width, stride)
        return UnitCost(2 * (weights + 2 * channels), weights * narrow * (height + halve(height, stride)))


@dataclass(frozen=True)
class Pool(PairOperation):
    """Maximum or average over the pixels of a square that are inside the image; `normed`: and a batch norm without
    weights, as DARTS searches."""

    kind: Literal["average", "max"]
    kernel: int
    normed: bool = False

    def compute(self, weights: Mapping[str, Tensor], x: Tensor, stride: int, statistics: Tensor | None) -> Result:
        planes, around = x[0].permute(0, 3, 1, 2), self.kernel // 2
        if self.kind == "max":
            pooled = functional.max_pool2d(planes, self.kernel, stride, around)
        else:
            pooled = functional.avg_pool2d(planes, self.kernel, stride, around, count_include_pad=False)
        out = pooled.permute(0, 2, 3, 1).unsqueeze(0)
        if not self.normed:
            return out, None
        blank = parts.widen(out.new_zeros(out.shape[-1]))
        return batch_norm(out, blank + 1, blank, _first(statistics, 1))


class OperationTable(nn.Module):
    """The rows of weights that one operation has in a cell: He-normal, gains 1, biases 0. Without rows, nothing."""

    def __init__(self, rows: int, shapes: Shapes, generator: torch.Generator):
        super().__init__()
        for name, (shape, fan_in) in shapes.items() if rows else ():
            whole = (rows, *shape)
            if fan_in:
                parameter = he_normal(whole, fan_in, generator)
            else:
                parameter = nn.Parameter(torch.ones(whole) if name == "gain" else torch.zeros(whole))
            self.register_parameter(name, parameter)

    def gather(self, rows: Sequence[int]) -> list[dict[str, Tensor]]:
        """The weights of each of `rows`, gathered at once: their gradients are then one scatter a table."""
        gathered: list[dict[str, Tensor]] = [{} for _ in rows]
        for name, table in self.named_parameters() if rows else ():
            chosen: Tensor = table
            if list(rows) != list(range(table.shape[0])):  # an index made on the device would make the host wait
                chosen = table.index_select(0, torch.tensor(rows).to(table.device, non_blocking=True))
            for weights, row in zip(gathered, chosen.unbind(), strict=True):
                weights[name] = row
        return gathered

    def inherit(self, table: OperationTable, rows: Sequence[int]) -> None:
        for name, parameter in self.named_parameters():
            parameter.copy_(table.get_parameter(name)[list(rows)])


def _norms(*shape: int) -> Shapes:
    return {"gain": (shape, 0), "bias": (shape, 0)}


def _first(statistics: Tensor | None, count: int) -> Tensor | None:
    return None if statistics is None else statistics[:, :count]
