"""The definition of every kernel, in plain torch and in any floating-point type.

Children are computed one after the other and never folded into one batch: batch-norm statistics belong to one child,
and whatever happens to child 2 leaves every bit of child 1 alone.

With bfloat16 images everything is computed in float32 and rounded where it is stored: outputs, nodes, and what a batch
norm is applied to, whose statistics are those of the rounded values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from enas.kernels import parts
from enas.kernels.interface import (
    AVERAGE_POOL_3,
    IDENTITY,
    MAX_POOL_3,
    SEPARABLE_3,
    SEPARABLE_5,
    ZERO,
    CellWeights,
    Pointwise,
    Statistics,
)
from enas.kernels.parts import Moment, stored, widen


def null(x: Tensor) -> Tensor:
    """A copy of x: the template of an operation, and the price of calling one."""
    return x.clone()


def cell(
    input0: Tensor,
    input1: Tensor,
    routes: Tensor,
    weights: CellWeights,
    scale: Tensor | None = None,
    statistics: Tensor | None = None,
    stride: int = 1,
) -> tuple[Tensor, Statistics]:
    """Compute one cell for M children; the only way a cell is computed, in search, extraction and final training.

    input0, input1  [M or 1, B, H, W, C], the outputs of the cell before the previous one and of the previous one
    routes          int32 [M, E, 3], E = twice the number of nodes
    scale           None, [M, E] or [M, E, B]: multiplies the output of each edge (drop-path, straight-through)
    statistics      None: each child normalises by its own batch; else [M, N, 2, C] as `Statistics.tensor` gives them,
                    N = 2E + 3: two for each edge, one for each unused input of a stride-2 cell, one for the output
    stride          stride of the edges that read an input; edges between nodes have stride 1

    Returns the output [M, B, H', W', C] (or, without `project`, [M, B, H', W', blocks * C], zero in the blocks of
    slots that some node of the child reads), H' = ceil(H / stride), and the statistics used. A slot that no node reads
    is a loose end, whatever the edge did with what it read; one whose block is -1 is left out of the output.
    """
    outputs, moments = [], []
    for child, edges in enumerate(routes.tolist()):
        one = _Cell(
            edges,
            weights,
            None if scale is None else scale[child],
            None if statistics is None else statistics[child],
            stride,
        )
        outputs.append(one.output((child_of(input0, child), child_of(input1, child))))
        moments.append(one.moments)
    batch, height, width, channels = input1.shape[1:]
    shape = (batch, -(-height // stride), -(-width // stride), weights.out_blocks * channels)
    leaves = (input0, input1, *weights.tensors(), *([] if scale is None else [scale]))
    blank = widen(input1.new_empty(0)).new_zeros(channels)
    norms = 2 * routes.shape[1] + 3
    return join(outputs, shape, input1.dtype, leaves), Statistics(partial(parts.stack_moments, moments, norms, blank))


def sepconv_half(
    x: Tensor, affine: Tensor | None, depthwise: Tensor, pointwise: Tensor, stride: int = 1, dilation: int = 1
) -> tuple[Tensor, Tensor]:
    """One half of a separable convolution: [affine,] ReLU, depthwise k x k, pointwise, for plain networks and tests.

    x [M, B, H, W, C], affine [M, 2, C] (factor, offset) or None, depthwise [k, k, C], pointwise [C, C'], stride and
    dilation 1 or 2. Returns z [M, B, H', W', C'] and its statistics [M, 2, C'] (mean, biased variance), which carry no
    gradient.
    """
    outputs = [
        parts.separable_half(
            widen(child), None if affine is None else affine[m], depthwise, pointwise, stride, dilation
        ).to(x.dtype)
        for m, child in enumerate(x.unbind())
    ]
    height, width = (-(-side // stride) for side in x.shape[2:4])
    leaves = (x, depthwise, pointwise, *([] if affine is None else [affine]))
    z = join(outputs, (x.shape[1], height, width, pointwise.shape[1]), x.dtype, leaves)
    wide = widen(z.detach())
    mean = wide.mean(dim=(1, 2, 3), keepdim=True)
    variance = (wide - mean).square().mean(dim=(1, 2, 3))
    return z, torch.stack([mean.flatten(1), variance], dim=1)


def separable(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    gain: Tensor,
    bias: Tensor,
    statistics: Tensor | None = None,
    stride: int = 1,
) -> tuple[Tensor, Statistics]:
    """A doubled separable convolution, (ReLU, depthwise, pointwise, batch norm) twice, for plain networks and tests.

    x [M, B, H, W, C], depthwise [2, k, k, C], pointwise [2, C, C], gain and bias [2, C], `statistics` None or
    [M, 2, 2, C] -> [M, B, ceil(H/stride), ceil(W/stride), C] and the statistics used.
    """

    def one(pixels: Tensor, given: Tensor | None) -> tuple[Tensor, list[Moment]]:
        moments = []
        for half in (0, 1):
            z = parts.separable_half(pixels, None, depthwise[half], pointwise[half], stride if half == 0 else 1)
            own = None if given is None else given[half]
            pixels, moment = parts.normalise(stored(z, x.dtype), gain[half], bias[half], own)
            moments.append(moment)
        return pixels, moments

    height, width = (-(-side // stride) for side in x.shape[2:4])
    leaves = (depthwise, pointwise, gain, bias)
    return _each(x, (height, width, x.shape[4]), leaves, statistics, one, norms=2)


def pointwise_norm(inputs: Tensor, weights: Pointwise, statistics: Tensor | None = None) -> tuple[Tensor, Statistics]:
    """ReLU, 1x1 convolution, batch norm: [M, B, H, W, C] -> [M, B, H, W, C'] with row 0 of `weights`.

    `statistics` is None or [M, 1, 2, C'].
    """
    weight, gain, bias = (tensor[0] for tensor in weights)
    return _normed(inputs, lambda x: functional.relu(x) @ weight, 1, (weight, gain, bias), statistics)


def reduction_norm(inputs: Tensor, weights: Pointwise, statistics: Tensor | None = None) -> tuple[Tensor, Statistics]:
    """ReLU, factorised reduction, batch norm: [M, B, H, W, C] -> [M, B, ceil(H/2), ceil(W/2), C'], row 0 of `weights`.

    `statistics` is None or [M, 1, 2, C'].
    """
    weight, gain, bias = (tensor[0] for tensor in weights)
    return _normed(inputs, lambda x: parts.reduce(functional.relu(x), weight), 2, (weight, gain, bias), statistics)


def convolution_norm(
    inputs: Tensor, kernel: Tensor, gain: Tensor, bias: Tensor, statistics: Tensor | None = None
) -> tuple[Tensor, Statistics]:
    """Dense k x k convolution, padded "same", and batch norm: the stem. kernel [k, k, C, C'], gain and bias [C'].

    `statistics` is None or [M, 1, 2, C'].
    """
    return _normed(inputs, lambda x: parts.convolve(x, kernel), 1, (kernel, gain, bias), statistics)


def _normed(
    inputs: Tensor,
    product: Callable[[Tensor], Tensor],
    stride: int,
    weights: tuple[Tensor, Tensor, Tensor],
    statistics: Tensor | None,
) -> tuple[Tensor, Statistics]:
    """The batch norm of a product of pixels with the first of `weights`; the others are gain and bias."""
    _, gain, bias = weights

    def one(x: Tensor, given: Tensor | None) -> tuple[Tensor, list[Moment]]:
        z = stored(product(x), inputs.dtype)
        out, moment = parts.normalise(z, gain, bias, None if given is None else given[0])
        return out, [moment]

    height, width = (-(-side // stride) for side in inputs.shape[2:4])
    return _each(inputs, (height, width, gain.shape[0]), weights, statistics, one)


class _EdgeWeights(NamedTuple):
    """The rows that the edges of one child use, gathered at once: a row's gradient is then one scatter a table."""

    depthwise: Sequence[Tensor]
    pointwise: Sequence[Tensor]
    gain: Sequence[Tensor]
    bias: Sequence[Tensor]


class _Cell:
    """The cell of one child; `moments` are its normalisations, filled in as they are computed."""

    def __init__(
        self,
        edges: list[list[int]],
        weights: CellWeights,
        scale: Tensor | None,
        statistics: Tensor | None,
        stride: int,
    ):
        self.edges, self.weights, self.scale, self.statistics, self.stride = edges, weights, scale, statistics, stride
        self.moments: list[Moment | None] = [None] * (2 * len(edges) + 3)
        self.tables = {}
        for code, table in ((SEPARABLE_3, weights.separable3), (SEPARABLE_5, weights.separable5)):
            order = [row for _, operation, row in edges if operation == code]
            if order:
                self.tables[code] = (order, _EdgeWeights(*(_rows(weight, order) for weight in table)))

    def output(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """[B, H, W, C] twice -> the output in the type of the inputs."""
        dtype = inputs[1].dtype
        slots = [widen(x) for x in inputs]
        for first in range(0, len(self.edges), 2):
            left, right = (self._edge(edge, slots, dtype) for edge in (first, first + 1))
            slots.append(stored(left + right, dtype))

        weights, last = self.weights, 2 * len(self.edges)
        read = {source for source, _, _ in self.edges}
        ends = {slot: x for slot, x in enumerate(slots) if slot not in read and weights.block[slot] >= 0}
        for slot in ends:
            if slot < 2 and self.stride > 1:
                row, loose = weights.loose_row[slot], weights.loose
                z = stored(parts.reduce(ends[slot], loose.weight[row]), dtype)
                ends[slot] = stored(self._norm(z, loose.gain[row], loose.bias[row], last + slot), dtype)
        if weights.project is None:
            return _concatenate(ends, weights, slots[-1]).to(dtype)
        if not ends:
            z = torch.zeros_like(slots[-1])
        else:
            blocks = torch.cat(list(_rows(weights.project.weight, [weights.block[slot] for slot in ends])))
            z = functional.relu(torch.cat(list(ends.values()), dim=-1)) @ blocks
        return self._norm(stored(z, dtype), weights.project.gain[0], weights.project.bias[0], last + 2).to(dtype)

    def _edge(self, edge: int, slots: list[Tensor], dtype: torch.dtype) -> Tensor:
        source, code, row = self.edges[edge]
        stride = self.stride if source < 2 else 1
        x = slots[source]
        if code in (SEPARABLE_3, SEPARABLE_5):
            x = self._separable(x, code, row, edge, stride, dtype)
        elif code == AVERAGE_POOL_3:
            x = parts.average_pool(x, stride)
        elif code == MAX_POOL_3:
            x = parts.max_pool(x, stride)
        elif code == ZERO:
            x = parts.zeros(x, stride)
        elif code != IDENTITY:
            raise ValueError(f"operation code {code} of edge {edge} is unknown")
        elif stride > 1:
            strided = self.weights.identity
            z = stored(parts.reduce(x, strided.weight[row]), dtype)
            x = self._norm(z, strided.gain[row], strided.bias[row], 2 * edge)
        return x if self.scale is None else x * self.scale[edge].reshape(-1, 1, 1, 1)

    def _separable(self, x: Tensor, code: int, row: int, edge: int, stride: int, dtype: torch.dtype) -> Tensor:
        order, table = self.tables[code]
        at = order.index(row)
        for half in (0, 1):
            own_stride = stride if half == 0 else 1
            z = parts.separable_half(x, None, table.depthwise[at][half], table.pointwise[at][half], own_stride)
            x = self._norm(stored(z, dtype), table.gain[at][half], table.bias[at][half], 2 * edge + half)
        return x

    def _norm(self, x: Tensor, gain: Tensor, bias: Tensor, place: int) -> Tensor:
        given = None if self.statistics is None else self.statistics[place]
        out, self.moments[place] = parts.normalise(x, gain, bias, given)
        return out


def _concatenate(ends: dict[int, Tensor], weights: CellWeights, like: Tensor) -> Tensor:
    """Each loose end at its block; the blocks of slots that are no loose ends of this child stay zero."""
    blocks = [torch.zeros_like(like)] * weights.out_blocks
    for slot, end in ends.items():
        blocks[weights.block[slot]] = end
    return torch.cat(blocks, dim=-1)


def _rows(table: Tensor, order: list[int]) -> Sequence[Tensor]:
    if order == list(range(table.shape[0])):
        return table.unbind()
    return table.index_select(0, torch.tensor(order, device=table.device)).unbind()


def _each(
    inputs: Tensor,
    sizes: tuple[int, int, int],
    leaves: Sequence[Tensor],
    statistics: Tensor | None,
    one: Callable[[Tensor, Tensor | None], tuple[Tensor, list[Moment]]],
    norms: int = 1,
) -> tuple[Tensor, Statistics]:
    """`one` for the images of each child, in the type they are computed in.

    sizes   (H', W', C') of its output
    leaves  the weights it uses
    norms   how many normalisations it has
    """
    outputs: list[Tensor] = []
    moments: list[Sequence[Moment]] = []
    for child, x in enumerate(inputs.unbind()):
        out, own = one(widen(x), None if statistics is None else statistics[child])
        outputs.append(out.to(inputs.dtype))
        moments.append(own)
    joined = join(outputs, (inputs.shape[1], *sizes), inputs.dtype, (inputs, *leaves))
    blank = widen(inputs.new_empty(0)).new_zeros(sizes[2])
    return joined, Statistics(partial(parts.stack_moments, moments, norms, blank))


def child_of(x: Tensor, child: int) -> Tensor:
    """The images of one child, of an input that may be shared by all: [M or 1, ...] -> [...]."""
    return x[child if x.shape[0] > 1 else 0]


def join(children: list[Tensor], shape: tuple[int, ...], dtype: torch.dtype, leaves: Sequence[Tensor]) -> Tensor:
    """The children [B, H', W', C'] as one tensor; where there are none, an empty one whose gradients are zero."""
    if not children:
        empty = leaves[0].new_empty(0, *shape, dtype=dtype)
        return empty + torch.stack([leaf.sum().to(dtype) for leaf in leaves]).sum()
    return children[0].unsqueeze(0) if len(children) == 1 else torch.stack(children)
