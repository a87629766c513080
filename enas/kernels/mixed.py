"""The definition of a mixed cell, in plain torch: every operation of every edge, weighted (Liu et al. 2018, DARTS).

Node i has an edge from each slot before it, the two inputs and the nodes before: 2 + i edges. Every edge has the same
candidate operations, whose outputs are added with the edge's weights; a node is the sum of its edges, and the cell
gives its nodes side by side. Every operation that computes ends in a batch norm, pools too, as the authors have it.
Under weights that are 0 or 1 the cell is the path.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from enas.kernels import parts
from enas.kernels.interface import (
    AVERAGE_POOL_3,
    DILATED_3,
    DILATED_5,
    IDENTITY,
    MAX_POOL_3,
    SEPARABLE_3,
    SEPARABLE_5,
    ZERO,
    Statistics,
)
from enas.kernels.parts import Moment, stored, widen
from enas.kernels.reference import child_of, join

HALVES = {SEPARABLE_3: 2, SEPARABLE_5: 2, DILATED_3: 1, DILATED_5: 1}
"""How many times (ReLU, depthwise, pointwise, BN) a convolution is; a dilated one has dilation 2."""


class Convolution(NamedTuple):
    """A candidate that is a convolution of h halves, on all edges."""

    depthwise: Tensor  # [E, h, k, k, C]
    pointwise: Tensor  # [E, h, C, C]  (input, output)


class MixedWeights(NamedTuple):
    """All weights of one mixed cell of E edges with N batch norms each."""

    convolutions: tuple[Convolution, ...]  # of the convolutions among the operations, in their order
    identity: Tensor  # [2 * nodes, C, C]: factorised reductions of the inputs; no rows with stride 1
    gain: Tensor  # [E, N, C], in the order of the operations; DARTS searches with ones
    bias: Tensor  # [E, N, C]; DARTS searches with zeros

    def tensors(self) -> list[Tensor]:
        """All tensors, in the order the native cell takes and gives them."""
        return [*(tensor for table in self.convolutions for tensor in table), self.identity, self.gain, self.bias]


def count_nodes(edges: int) -> int:
    """The nodes of a cell of so many edges; ValueError where node i has not 2 + i."""
    nodes = 0
    while nodes * (nodes + 3) // 2 < edges:
        nodes += 1
    if edges < 1 or nodes * (nodes + 3) // 2 != edges:
        raise ValueError(f"{edges} edges: node i must have 2 + i of them")
    return nodes


def count_norms(operations: Sequence[int], stride: int) -> int:
    """N, the batch norms of one edge: two of a separable convolution, none of zero or a plain identity."""
    return sum(_norms(operation, stride) for operation in operations)


def count_slots(edges: int, operations: Sequence[int], stride: int) -> int:
    """The tensors [B, H', W', C] that are kept of each child for backward: csrc/mixed.h, MixedCell::slots."""
    nodes = count_nodes(edges)
    halves = sum(HALVES.get(operation, 0) for operation in operations)
    return edges * halves + (2 * nodes if stride > 1 and IDENTITY in operations else 0) + nodes - 1


def mixed_cell(
    input0: Tensor,
    input1: Tensor,
    mixing: Tensor,
    operations: Sequence[int],
    weights: MixedWeights,
    statistics: Tensor | None = None,
    stride: int = 1,
) -> tuple[Tensor, Statistics]:
    """Compute one mixed cell for M children, which differ in their images only.

    input0, input1  [M or 1, B, H, W, C], the outputs of the cell before the previous one and of the previous one
    mixing          [E, O], the weight of each operation on each edge; edges in the order of their nodes, then sources
    operations      O codes, IDENTITY once at most
    statistics      None: each child normalises by its own batch; else [M, E * N, 2, C] as `Statistics.tensor` gives
    stride          stride of the edges that read an input; their identity is a factorised reduction and a batch norm

    Returns the output [M, B, H', W', nodes * C], H' = ceil(H / stride), and the statistics used.
    """
    nodes = count_nodes(mixing.shape[0])
    children = input1.shape[0] if input0.shape[0] == 1 else input0.shape[0]
    outputs, moments = [], []
    for child in range(children):
        one = _MixedCell(mixing, operations, weights, None if statistics is None else statistics[child], stride)
        outputs.append(one.output(nodes, (child_of(input0, child), child_of(input1, child))))
        moments.append(one.moments)
    batch, height, width, channels = input1.shape[1:]
    shape = (batch, -(-height // stride), -(-width // stride), nodes * channels)
    blank = widen(input1.new_empty(0)).new_zeros(channels)
    norms = mixing.shape[0] * count_norms(operations, stride)
    out = join(outputs, shape, input1.dtype, (input0, input1, mixing, *weights.tensors()))
    return out, Statistics(partial(parts.stack_moments, moments, norms, blank))


class _MixedCell:
    """The mixed cell of one child; `moments` are its normalisations, filled in as they are computed."""

    def __init__(
        self,
        mixing: Tensor,
        operations: Sequence[int],
        weights: MixedWeights,
        statistics: Tensor | None,
        stride: int,
    ):
        self.mixing, self.operations, self.weights = mixing, operations, weights
        self.statistics, self.stride = statistics, stride
        self.norms = count_norms(operations, stride)
        self.moments: list[Moment | None] = [None] * (mixing.shape[0] * self.norms)

    def output(self, nodes: int, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """[B, H, W, C] twice -> the output in the type of the inputs."""
        dtype = inputs[1].dtype
        slots = [widen(x) for x in inputs]
        edge = 0
        for node in range(nodes):
            given = [
                self._edge(edge + source, 2 * node + source, slots[source], source < 2, dtype)
                for source in range(2 + node)
            ]
            edge += len(given)
            slots.append(stored(sum(given[1:], given[0]), dtype))
        return torch.cat(slots[2:], dim=-1).to(dtype)

    def _edge(self, edge: int, row: int, x: Tensor, reads_input: bool, dtype: torch.dtype) -> Tensor:
        """The weighted sum of all operations on x; `row` is that of its factorised reduction."""
        stride = self.stride if reads_input else 1
        norm, convolutions = edge * self.norms, iter(self.weights.convolutions)
        total = torch.zeros_like(x[:, ::stride, ::stride])
        for weight, operation in zip(self.mixing[edge], self.operations, strict=True):
            if operation in HALVES:
                out = self._convolve(x, operation, next(convolutions), edge, norm, stride, dtype)
            elif operation in (AVERAGE_POOL_3, MAX_POOL_3):
                pool = parts.average_pool if operation == AVERAGE_POOL_3 else parts.max_pool
                out = self._norm(pool(x, stride), norm, dtype)
            elif operation == ZERO:
                out = parts.zeros(x, stride)
            elif operation != IDENTITY:
                raise ValueError(f"operation code {operation} is unknown")
            elif stride > 1:
                out = self._norm(parts.reduce(x, self.weights.identity[row]), norm, dtype)
            else:
                out = x
            total = total + weight * out
            norm += _norms(operation, self.stride)
        return total

    def _convolve(
        self, x: Tensor, operation: int, weights: Convolution, edge: int, norm: int, stride: int, dtype: torch.dtype
    ) -> Tensor:
        dilation = 2 if operation in (DILATED_3, DILATED_5) else 1
        for half in range(HALVES[operation]):
            depthwise, pointwise = weights.depthwise[edge, half], weights.pointwise[edge, half]
            z = parts.separable_half(x, None, depthwise, pointwise, stride if half == 0 else 1, dilation)
            x = self._norm(z, norm + half, dtype)
        return x

    def _norm(self, x: Tensor, place: int, dtype: torch.dtype) -> Tensor:
        edge, norm = divmod(place, self.norms)
        given = None if self.statistics is None else self.statistics[place]
        gain, bias = self.weights.gain[edge, norm], self.weights.bias[edge, norm]
        out, self.moments[place] = parts.normalise(stored(x, dtype), gain, bias, given)
        return out


def _norms(operation: int, stride: int) -> int:
    if operation == IDENTITY:
        return 1 if stride > 1 else 0
    return HALVES.get(operation, 0 if operation == ZERO else 1)
