"""One cell whose nodes each join two operations: its weights, which of them a child keeps, and its computation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from enas import kernels
from enas.kernels import Pointwise, Statistics
from enas.space.layers import unused
from enas.space.pair_operations import NORMS, OperationTable, PairOperation, Zero
from enas.space.partial import beside, narrow, shuffle
from enas.space.rows import PointwiseTable
from enas.space.stacking import Kind, Placement

ADD, CONCAT, ABSENT = range(3)
"""How a node joins its two sides, or that there is no such node and none behind it: codes of its third route."""
ROUTES = 3
"""Routes of a node: its left side, its right side, how it joins them."""


class Node(NamedTuple):
    """A node as its routes tell it: (source slot, operation code, weight row) of each side, (0, code, row) to join."""

    left: Sequence[int]
    right: Sequence[int]
    join: Sequence[int]


def nodes_of(routes: Sequence[Sequence[int]]) -> list[Node]:
    """The nodes of one cell from its routes."""
    return [Node(*routes[first : first + ROUTES]) for first in range(0, len(routes), ROUTES)]


def present(nodes: Sequence[Node]) -> list[Node]:
    """The nodes that exist."""
    return [node for node in nodes if node.join[1] != ABSENT]


def unread(nodes: Sequence[Node]) -> tuple[int, ...]:
    """The slots that exist and that no node reads."""
    existing = present(nodes)
    read = {side[0] for node in existing for side in (node.left, node.right)}
    return tuple(slot for slot in range(len(existing) + 2) if slot not in read)


class KeptPairs(NamedTuple):
    """Which weight rows a cell has: all of the supernet's, or those that a child's routes use."""

    operations: tuple[tuple[int, ...], ...]  # rows of each operation
    joins: tuple[int, ...]  # nodes that may concatenate
    ends: tuple[int, ...]  # slots that may leave the cell
    loose: tuple[int, ...]  # inputs that may leave a reduction cell

    @classmethod
    def of(
        cls, nodes: Sequence[Node], kind: Kind, operations: Sequence[PairOperation], ends: tuple[int, ...]
    ) -> KeptPairs:
        rows: list[list[int]] = [[] for _ in operations]
        for node in present(nodes):
            for source, code, row in (node.left, node.right):
                if not operations[code].strided or (source < 2 and kind == "reduction"):
                    rows[code].append(row)
        joins = tuple(place for place, node in enumerate(nodes) if node.join[1] == CONCAT)
        loose = tuple(slot for slot in ends if slot < 2 and kind == "reduction")
        return cls(tuple(map(tuple, rows)), joins, ends, loose)


class PairCell(nn.Module):
    """The weights of one cell and of what brings its two inputs to its filters and size.

    producers  for each input, which blocks (slots of the cell that gives them; one of a stem) it is made of
    partial    of a side's channels one in so many passes its operation; more than 1 only where all nodes add
    """

    def __init__(
        self,
        placement: Placement,
        operations: Sequence[PairOperation],
        kept: KeptPairs,
        producers: Sequence[tuple[int, ...]],
        generator: torch.Generator,
        partial: int = 1,
    ):
        super().__init__()
        channels, self.channels = placement.filters, placement.filters // partial
        self.placement, self.operations, self.kept = placement, operations, kept
        self.producers = tuple(producers)
        self.calibrations = nn.ModuleList(
            PointwiseTable(len(blocks), feed.channels, channels, generator, norms=1)
            for feed, blocks in zip(placement.feeds, producers, strict=True)
        )
        self.tables = nn.ModuleList(
            OperationTable(len(rows), operation.shapes(self.channels, placement.stride), generator)
            for operation, rows in zip(operations, kept.operations, strict=True)
        )
        self.joins = PointwiseTable(len(kept.joins), 2 * channels, self.channels, generator)
        self.loose = PointwiseTable(len(kept.loose), channels, channels, generator)

    def calibrate(
        self, x: Tensor, side: int, blocks: Sequence[int], statistics: Tensor | None = None
    ) -> tuple[Tensor, Statistics]:
        """Bring an input [M, B, H, W, blocks * C'] to [M, B, H', W', C]."""
        table, own = self._typed_calibrations()[side], self.producers[side]
        places = [own.index(block) for block in blocks]
        weight = table.weight if tuple(blocks) == own else table.weight[places]
        joined = Pointwise(weight.flatten(0, 1).unsqueeze(0), table.gain, table.bias)
        pointwise = self.placement.feeds[side].calibration == "pointwise"
        function = kernels.pointwise_norm if pointwise else kernels.reduction_norm
        return function(x, joined, statistics)

    def compute(
        self,
        inputs: Sequence[Tensor],
        nodes: Sequence[Node],
        ends: Sequence[int],
        masks: Tensor | None,
        statistics: Tensor | None = None,
    ) -> tuple[Tensor, Statistics]:
        """One child's cell: inputs [1, B, H, W, C] twice -> [1, B, H', W', len(ends) * C].

        masks       None or [2 * nodes, B], what drop-path multiplies the sides with, left and right of each node
        statistics  None or [1, N, 2, C], N = 5 * nodes + 2: two for each side, then one for each node that
                    concatenates, then one for each input that leaves a reduction cell; absent nodes have theirs too
        """
        slots, used = list(inputs), _Used(5 * len(nodes) + 2, statistics)
        weights = self._gather(nodes)
        for place, node in enumerate(present(nodes)):
            sides = []
            for edge, (source, code, _) in enumerate((node.left, node.right), 2 * place):
                operation = self.operations[code]
                own = next(weights[code]) if self._weighted(source, code) else {}
                stride = self.placement.stride if source < 2 else 1
                read = narrow(slots[source], self.channels)
                out, moment = operation.compute(own, read, stride, used.given(NORMS * edge, NORMS))
                used.keep(NORMS * edge, moment)
                if masks is not None and operation.dropped:
                    out = out * masks[edge].to(out.dtype).view(1, -1, 1, 1, 1)
                passing = 0.0 if isinstance(operation, Zero) else 1.0
                sides.append(beside(out, slots[source], self.channels, stride, passing))
            if node.join[1] == ADD:
                slots.append(shuffle(sides[0] + sides[1], self.channels))
            else:
                row = self.kept.joins.index(node.join[2])
                norm = 4 * len(nodes) + place
                slots.append(used.compute(norm, kernels.pointwise_norm, torch.cat(sides, dim=-1), self.joins, row))
        for slot in ends:
            if slot < 2 and self.placement.stride > 1:
                row, norm = self.kept.loose.index(slot), 5 * len(nodes) + slot
                slots[slot] = used.compute(norm, kernels.reduction_norm, slots[slot], self.loose, row)
        out = torch.cat([slots[slot] for slot in ends], dim=-1)
        return out, Statistics(partial(used.tensor, self.joins.gain))

    def _weighted(self, source: int, code: int) -> bool:
        return not self.operations[code].strided or (source < 2 and self.placement.stride > 1)

    def _gather(self, nodes: Sequence[Node]) -> list[Iterator[Mapping[str, Tensor]]]:
        """For each operation an iterator over the weights of its edges, in edge order."""
        orders: list[list[int]] = [[] for _ in self.operations]
        for node in present(nodes):
            for source, code, row in (node.left, node.right):
                if self._weighted(source, code):
                    orders[code].append(self.kept.operations[code].index(row))
        return [iter(table.gather(order)) for table, order in zip(self._typed_tables(), orders, strict=True)]

    def _typed_tables(self) -> list[OperationTable]:
        return [table for table in self.tables if isinstance(table, OperationTable)]

    def _typed_calibrations(self) -> list[PointwiseTable]:
        return [table for table in self.calibrations if isinstance(table, PointwiseTable)]

    def inherit(self, shared: PairCell) -> None:
        """Copy this cell's rows out of the supernet's cell at the same place."""
        for table, whole, rows in zip(self._typed_tables(), shared._typed_tables(), self.kept.operations, strict=True):
            table.inherit(whole, rows)
        self.joins.inherit(shared.joins, [shared.kept.joins.index(node) for node in self.kept.joins])
        self.loose.inherit(shared.loose, [shared.kept.loose.index(slot) for slot in self.kept.loose])
        calibrations = zip(self._typed_calibrations(), shared._typed_calibrations(), strict=True)
        for side, (own, theirs) in enumerate(calibrations):
            own.inherit(theirs, [shared.producers[side].index(block) for block in self.producers[side]])


class _Used:
    """The batch norms of one cell by place: those that are given, and those that were computed."""

    def __init__(self, count: int, given: Tensor | None):
        self._count, self._given = count, given
        self._kept: dict[int, Statistics] = {}

    def given(self, place: int, count: int = 1) -> Tensor | None:
        return None if self._given is None else self._given[:, place : place + count]

    def keep(self, place: int, statistics: Statistics | None) -> None:
        if statistics is not None:
            self._kept[place] = statistics

    def compute(
        self, place: int, function: Callable[..., tuple[Tensor, Statistics]], x: Tensor, table: PointwiseTable, row: int
    ) -> Tensor:
        own = Pointwise(*(tensor[row, None] for tensor in table.weights()))
        out, statistics = function(x, own, self.given(place))
        self.keep(place, statistics)
        return out

    def tensor(self, like: Tensor) -> Tensor:
        """[1, N, 2, C]; mean 0 and variance 1 where one was not computed."""
        rows = list(unused(like).unsqueeze(0).expand(self._count, -1, -1).unbind())
        for place, statistics in self._kept.items():
            for offset, row in enumerate(statistics.tensor()[0]):
                rows[place + offset] = row
        return torch.stack(rows).unsqueeze(0)
