"""The definition of every kernel, in plain torch and in any floating-point type.

Tensors are channels-last: images are `[M, B, H, W, C]`, M children of B images each. A shared input may have M = 1.
Children are computed one after the other and never folded into one batch: batch-norm statistics belong to one child,
and whatever happens to child 2 leaves every bit of child 1 alone.

A cell is told what to compute by `routes` int32 `[M, E, 3]`: for each edge (source slot, operation code, weight row).
Slots 0 and 1 are the cell's inputs, slot 2 + i is node i; node i sums edges 2i and 2i + 1 (ENAS paper, section 2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

SEPARABLE_3, SEPARABLE_5, AVERAGE_POOL_3, MAX_POOL_3, IDENTITY = range(5)
"""Operation codes of a route, in the published order (authors' README)."""

EPSILON = 1e-5
"""Added to a variance before the square root (authors' image_ops.py)."""


class Separable(NamedTuple):
    """R rows of a doubled separable convolution, (ReLU, depthwise k x k, pointwise, BN) twice."""

    depthwise: Tensor  # [R, 2, k, k, C]
    pointwise: Tensor  # [R, 2, C, C]  (input, output)
    gain: Tensor  # [R, 2, C]
    bias: Tensor  # [R, 2, C]


class Pointwise(NamedTuple):
    """R rows of a 1x1 convolution and its batch norm; also the two halves of a factorised reduction."""

    weight: Tensor  # [R, C, C']  (input, output)
    gain: Tensor  # [R, C']
    bias: Tensor  # [R, C']


class CellWeights(NamedTuple):
    """All weights of one cell. A supernet has a row for each (node, side, source), an extracted child one an edge.

    `project` is None where the output is the concatenation of the loose ends.
    """

    separable3: Separable
    separable5: Separable
    identity: Pointwise  # the identity with stride 2; no rows in a normal cell
    loose: Pointwise  # brings an unused input of a stride-2 cell to the output's size; no rows in a normal cell
    project: Pointwise | None  # weight [S, C, C], one block a slot; gain and bias [1, C]
    block: tuple[int, ...]  # slot -> its block of `project` or of the concatenation; -1 where it has none
    loose_row: tuple[int, ...]  # input slot -> its row of `loose`; -1 where it has none


class Moment(NamedTuple):
    """What one batch norm was computed with: mean and 1 / sqrt(variance + epsilon), each [C]."""

    mean: Tensor
    inverse: Tensor


class Statistics:
    """The batch-norm statistics of one call, converted only when somebody asks for them."""

    def __init__(self, moments: Sequence[Sequence[Moment | None]], blank: Tensor):
        """`blank` [C] has the type and device of the statistics; a cell of pools and identities has used none."""
        self.moments = moments
        self._blank = blank

    def tensor(self) -> Tensor:
        """Mean and biased variance of each child and normalisation, `[M, N, 2, C]`; (0, 1) where one was unused."""
        blank = torch.stack([torch.zeros_like(self._blank), torch.ones_like(self._blank)])
        children = []
        for child in self.moments:
            pairs = [
                blank
                if moment is None
                else torch.stack([moment.mean, (moment.inverse.square().reciprocal() - EPSILON).clamp_min(0.0)])
                for moment in child
            ]
            children.append(torch.stack(pairs))
        return torch.stack(children).detach()


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
    slots that some node of the child reads), H' = ceil(H / stride), and the statistics used.
    """
    outputs, moments = [], []
    for child, edges in enumerate(routes.tolist()):
        output, moment = _cell_of_child(
            (_child(input0, child), _child(input1, child)),
            edges,
            weights,
            None if scale is None else scale[child],
            None if statistics is None else statistics[child],
            stride,
        )
        outputs.append(output)
        moments.append(moment)
    return _join(outputs), Statistics(moments, input1[0, 0, 0, 0])


def pointwise_norm(inputs: Tensor, weights: Pointwise, statistics: Tensor | None = None) -> tuple[Tensor, Statistics]:
    """ReLU, 1x1 convolution, batch norm: [M, B, H, W, C] -> [M, B, H, W, C'] with row 0 of `weights`.

    `statistics` is None or [M, 1, 2, C'].
    """

    def one(x: Tensor, given: Tensor | None) -> tuple[Tensor, Moment]:
        return normalise(functional.relu(x) @ weights.weight[0], weights.gain[0], weights.bias[0], given)

    return _each(inputs, statistics, one)


def reduction_norm(inputs: Tensor, weights: Pointwise, statistics: Tensor | None = None) -> tuple[Tensor, Statistics]:
    """ReLU, factorised reduction, batch norm: [M, B, H, W, C] -> [M, B, ceil(H/2), ceil(W/2), C'], row 0 of `weights`.

    `statistics` is None or [M, 1, 2, C'].
    """

    def one(x: Tensor, given: Tensor | None) -> tuple[Tensor, Moment]:
        reduced = reduce(functional.relu(x), weights.weight[0])
        return normalise(reduced, weights.gain[0], weights.bias[0], given)

    return _each(inputs, statistics, one)


def convolution_norm(
    inputs: Tensor, kernel: Tensor, gain: Tensor, bias: Tensor, statistics: Tensor | None = None
) -> tuple[Tensor, Statistics]:
    """Dense k x k convolution, padded "same", and batch norm: the stem. kernel [k, k, C, C'], gain and bias [C']."""

    def one(x: Tensor, given: Tensor | None) -> tuple[Tensor, Moment]:
        planes = functional.conv2d(_planes(x), kernel.permute(3, 2, 0, 1), padding=kernel.shape[0] // 2)
        return normalise(_pixels(planes), gain, bias, given)

    return _each(inputs, statistics, one)


def normalise(x: Tensor, gain: Tensor, bias: Tensor, given: Tensor | None) -> tuple[Tensor, Moment]:
    """Batch norm of [B, H, W, C] by its own statistics, or by `given` [2, C] (mean, biased variance)."""
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


def separable(x: Tensor, depthwise: Tensor, pointwise: Tensor, stride: int) -> Tensor:
    """ReLU, depthwise k x k, pointwise: one half of a separable convolution before its batch norm.

    x [B, H, W, C], depthwise [k, k, C], pointwise [C, C'] -> [B, ceil(H/stride), ceil(W/stride), C'].
    """
    size, _, channels = depthwise.shape
    planes = functional.conv2d(
        _planes(functional.relu(x)),
        depthwise.permute(2, 0, 1).unsqueeze(1),
        stride=stride,
        padding=size // 2,
        groups=channels,
    )
    return _pixels(planes) @ pointwise


def average_pool(x: Tensor, stride: int) -> Tensor:
    """3x3 average over the pixels inside the image; padding does not count (TensorFlow's "SAME")."""
    return _pixels(functional.avg_pool2d(_planes(x), 3, stride, 1, count_include_pad=False))


def max_pool(x: Tensor, stride: int) -> Tensor:
    """3x3 maximum over the pixels inside the image."""
    return _pixels(functional.max_pool2d(_planes(x), 3, stride, 1))


class _EdgeWeights(NamedTuple):
    """The rows that the edges of one child use, gathered at once: a row's gradient is then one scatter a table."""

    depthwise: Sequence[Tensor]
    pointwise: Sequence[Tensor]
    gain: Sequence[Tensor]
    bias: Sequence[Tensor]


def _cell_of_child(
    inputs: tuple[Tensor, Tensor],
    edges: list[list[int]],
    weights: CellWeights,
    scale: Tensor | None,
    statistics: Tensor | None,
    stride: int,
) -> tuple[Tensor, list[Moment | None]]:
    moments: list[Moment | None] = [None] * (2 * len(edges) + 3)

    def norm(x: Tensor, gain: Tensor, bias: Tensor, place: int) -> Tensor:
        out, moments[place] = normalise(x, gain, bias, None if statistics is None else statistics[place])
        return out

    tables = {}
    for code, table in ((SEPARABLE_3, weights.separable3), (SEPARABLE_5, weights.separable5)):
        order = [row for _, operation, row in edges if operation == code]
        if order:
            tables[code] = (order, _EdgeWeights(*(_rows(weight, order) for weight in table)))

    def separable_edge(x: Tensor, code: int, row: int, edge: int, edge_stride: int) -> Tensor:
        order, table = tables[code]
        at = order.index(row)
        for half in (0, 1):
            z = separable(x, table.depthwise[at][half], table.pointwise[at][half], edge_stride if half == 0 else 1)
            x = norm(z, table.gain[at][half], table.bias[at][half], 2 * edge + half)
        return x

    slots = list(inputs)
    for first in range(0, len(edges), 2):
        sides = []
        for edge in (first, first + 1):
            source, code, row = edges[edge]
            edge_stride = stride if source < 2 else 1
            x = slots[source]
            if code in (SEPARABLE_3, SEPARABLE_5):
                x = separable_edge(x, code, row, edge, edge_stride)
            elif code == AVERAGE_POOL_3:
                x = average_pool(x, edge_stride)
            elif code == MAX_POOL_3:
                x = max_pool(x, edge_stride)
            elif code != IDENTITY:
                raise ValueError(f"operation code {code} of edge {edge} is unknown")
            elif edge_stride > 1:
                strided = weights.identity
                x = norm(reduce(x, strided.weight[row]), strided.gain[row], strided.bias[row], 2 * edge)
            if scale is not None:
                x = x * scale[edge].reshape(-1, 1, 1, 1)
            sides.append(x)
        slots.append(sides[0] + sides[1])

    read = {source for source, _, _ in edges}
    ends = {slot: slots[slot] for slot in range(len(slots)) if slot not in read}
    for slot in ends:
        if slot < 2 and stride > 1:
            row, loose = weights.loose_row[slot], weights.loose
            reduced = reduce(ends[slot], loose.weight[row])
            ends[slot] = norm(reduced, loose.gain[row], loose.bias[row], 2 * len(edges) + slot)
    if weights.project is None:
        return _concatenate(ends, weights.block), moments
    blocks = torch.cat(list(_rows(weights.project.weight, [weights.block[slot] for slot in ends])))
    z = functional.relu(torch.cat(list(ends.values()), dim=-1)) @ blocks
    return norm(z, weights.project.gain[0], weights.project.bias[0], 2 * len(edges) + 2), moments


def _concatenate(ends: dict[int, Tensor], block: tuple[int, ...]) -> Tensor:
    """Each loose end at its block; the blocks of slots that are no loose ends of this child stay zero."""
    some = next(iter(ends.values()))
    parts = [torch.zeros_like(some)] * (max(block) + 1)
    for slot, end in ends.items():
        parts[block[slot]] = end
    return torch.cat(parts, dim=-1)


def _rows(table: Tensor, order: list[int]) -> Sequence[Tensor]:
    if order == list(range(table.shape[0])):
        return table.unbind()
    return table.index_select(0, torch.tensor(order, device=table.device)).unbind()


def _each(
    inputs: Tensor,
    statistics: Tensor | None,
    one: Callable[[Tensor, Tensor | None], tuple[Tensor, Moment]],
) -> tuple[Tensor, Statistics]:
    results = [one(x, None if statistics is None else statistics[child, 0]) for child, x in enumerate(inputs.unbind())]
    outputs, moments = zip(*results, strict=True)
    return _join(list(outputs)), Statistics([[moment] for moment in moments], moments[0].mean)


def _child(x: Tensor, child: int) -> Tensor:
    return x[child if x.shape[0] > 1 else 0]


def _join(children: list[Tensor]) -> Tensor:
    return children[0].unsqueeze(0) if len(children) == 1 else torch.stack(children)


def _planes(x: Tensor) -> Tensor:
    """[B, H, W, C] seen as [B, C, H, W] in channels-last memory, as torch's convolutions want it."""
    return x.permute(0, 3, 1, 2)


def _pixels(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)
