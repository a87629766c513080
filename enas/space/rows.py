"""The weight rows of a cell: which of the supernet's a child keeps, and the tables they stand in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from enas import kernels
from enas.space.stacking import Kind


class KeptRows(NamedTuple):
    """Which of the supernet's weight rows a cell has: all of them in a supernet, those its edges use in a child."""

    separable3: tuple[int, ...]
    separable5: tuple[int, ...]
    identity: tuple[int, ...]  # identity with stride 2, reduction cells only
    loose: tuple[int, ...]  # input slots that can be loose ends of a reduction cell
    ends: tuple[int, ...]  # slots that can be loose ends
    slots: int

    @classmethod
    def shared(cls, nodes: int, kind: Kind) -> KeptRows:
        separable = tuple(range(sum(2 * (node + 2) for node in range(nodes))))
        identity = tuple(range(4 * nodes)) if kind == "reduction" else ()
        loose = (0, 1) if kind == "reduction" else ()
        return cls(separable, separable, identity, loose, tuple(range(nodes + 2)), nodes + 2)

    @classmethod
    def of(cls, routes: Tensor, kind: Kind) -> KeptRows:
        """The rows that one cell's routes [E, 3] use, in edge order."""
        edges = routes.tolist()
        slots = len(edges) // 2 + 2
        ends = tuple(slot for slot in range(slots) if slot not in {source for source, _, _ in edges})
        reduction = kind == "reduction"

        def rows(code: int) -> tuple[int, ...]:
            return tuple(row for _, operation, row in edges if operation == code)

        strided = tuple(row for source, code, row in edges if reduction and code == kernels.IDENTITY and source < 2)
        loose = tuple(slot for slot in ends if reduction and slot < 2)
        return cls(rows(kernels.SEPARABLE_3), rows(kernels.SEPARABLE_5), strided, loose, ends, slots)

    def compact(self, routes: Tensor) -> Tensor:
        """The same routes [E, 3] with supernet rows replaced by the child's own."""
        tables = {
            kernels.SEPARABLE_3: self.separable3,
            kernels.SEPARABLE_5: self.separable5,
            kernels.IDENTITY: self.identity,
        }
        compacted = routes.clone()
        for edge, (_, code, row) in enumerate(routes.tolist()):
            table = tables.get(code, ())
            compacted[edge, 2] = table.index(row) if row in table else 0
        return compacted


class SeparableTable(nn.Module):
    """Rows of doubled separable convolutions; He-normal, gain 1, bias 0."""

    def __init__(self, rows: int, kernel: int, channels: int, generator: torch.Generator):
        super().__init__()
        self.depthwise = he_normal((rows, 2, kernel, kernel, channels), kernel**2, generator)
        self.pointwise = he_normal((rows, 2, channels, channels), channels, generator)
        self.gain = nn.Parameter(torch.ones(rows, 2, channels))
        self.bias = nn.Parameter(torch.zeros(rows, 2, channels))

    def weights(self) -> kernels.Separable:
        return kernels.Separable(self.depthwise, self.pointwise, self.gain, self.bias)

    def inherit(self, table: SeparableTable, rows: Sequence[int]) -> None:
        for name, parameter in self.named_parameters():
            parameter.copy_(table.get_parameter(name)[list(rows)])


class PointwiseTable(nn.Module):
    """Rows of 1x1 convolutions, with a batch norm for each row or, for `norms=1`, one for all; He-normal."""

    def __init__(self, rows: int, inputs: int, outputs: int, generator: torch.Generator, norms: int | None = None):
        super().__init__()
        norms = rows if norms is None else norms
        self.weight = he_normal((rows, inputs, outputs), inputs, generator)
        self.gain = nn.Parameter(torch.ones(norms, outputs))
        self.bias = nn.Parameter(torch.zeros(norms, outputs))

    def weights(self) -> kernels.Pointwise:
        return kernels.Pointwise(self.weight, self.gain, self.bias)

    def joined(self) -> kernels.Pointwise:
        """All rows as the blocks of one wide 1x1 convolution."""
        return kernels.Pointwise(self.weight.flatten(0, 1).unsqueeze(0), self.gain, self.bias)

    def inherit(self, table: PointwiseTable, rows: Sequence[int]) -> None:
        for name, parameter in self.named_parameters():
            source = table.get_parameter(name)
            parameter.copy_(source[list(rows)] if source.shape[0] > 1 else source)


def he_normal(shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> nn.Parameter:
    """He-normal weights (authors' common_ops.py)."""
    return nn.Parameter(torch.randn(shape, generator=generator) * (2.0 / fan_in) ** 0.5)
