"""What the kernels exchange: operation codes of a route, the weights of a cell, batch-norm statistics.

Tensors are channels-last: images are `[M, B, H, W, C]`, M children of B images each. Images are float32, float64 or
bfloat16; bfloat16 is a type of storage only: weights, statistics and all arithmetic beside it are float32.

A cell is told what to compute by `routes` int32 `[M, E, 3]`: for each edge (source slot, operation code, weight row).
Slots 0 and 1 are the cell's inputs, slot 2 + i is node i; node i sums edges 2i and 2i + 1 (ENAS paper, section 2.4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

SEPARABLE_3, SEPARABLE_5, AVERAGE_POOL_3, MAX_POOL_3, IDENTITY, ZERO = range(6)
"""Operation codes of a route: the published ones in their order (authors' README), and the edge that gives nothing."""

DILATED_3, DILATED_5 = 6, 7
"""What only a mixed cell has: one half of a separable convolution with dilation 2."""

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
    block: tuple[int, ...]  # slot -> its block of `project` or of the concatenation; -1 where it is left out
    loose_row: tuple[int, ...]  # input slot -> its row of `loose`; -1 where it has none

    def tensors(self) -> list[Tensor]:
        """All tensors, in the order the native cell takes and gives them."""
        tables = [self.separable3, self.separable5, self.identity, self.loose]
        tables += [] if self.project is None else [self.project]
        return [tensor for table in tables for tensor in table]

    @property
    def out_blocks(self) -> int:
        """How many times the cell's channels its output has."""
        return 1 if self.project is not None else max(self.block) + 1


class Statistics:
    """The batch-norm statistics of one call: a tensor, or what makes it when somebody asks."""

    def __init__(self, made: Tensor | Callable[[], Tensor]):
        self._made = made

    def tensor(self) -> Tensor:
        """Mean and biased variance of each child and normalisation, `[M, N, 2, C]`; (0, 1) where one was unused."""
        return (self._made if isinstance(self._made, Tensor) else self._made()).detach()
