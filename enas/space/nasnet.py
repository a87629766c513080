"""The cell spaces of NASNet (Zoph et al. 2018), AmoebaNet (Real et al. 2019) and PNASNet (Liu et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from enas.errors import UserError
from enas.space.base import Decision
from enas.space.pair_cell import ABSENT
from enas.space.pair_operations import Dense, DilatedSeparable, Identity, PairOperation, Pool, Separable, Stacked
from enas.space.pair_space import JOINS, SIDES, PairSpace, check_nodes, slot_name
from enas.space.pair_stacking import PairStack, Stacking, stack_among, stack_between
from enas.space.scale import Scale
from enas.space.stacking import Kind

IDENTITY = Identity("identity")
AVERAGE_3 = Pool("average_pool_3x3", "average", 3)
MAX_3 = Pool("max_pool_3x3", "max", 3)
SEPARABLE_3, SEPARABLE_5, SEPARABLE_7 = (Separable(f"separable_{size}x{size}", size) for size in (3, 5, 7))
STACKED_3, STACKED_7 = (Stacked(f"convolution_1x{size}_{size}x1", size) for size in (3, 7))


class _Family(PairSpace):
    """A row holds the searched cells one after the other; each node is `source, operation, source, operation` and,
    where a row says so, how the node joins them. The sources of a node are sampled first.

    nodes     computed nodes of a cell ("blocks")
    output    what leaves a cell, concatenated: "unused", the slots that no node reads; "nodes", all nodes; or the names
              of slots, the cells parted by a stroke: "input0 node3 / node3 node4"
    stacking  how cells are stacked: "cifar", or for ImageNet "mobile" and "large"
    """

    def __init__(self, nodes: int = 5, output: str = "unused", stacking: Stacking = "cifar"):
        check_nodes(nodes)
        if stacking not in get_args(Stacking):
            raise UserError(f"space.stacking={stacking}: allowed are {', '.join(get_args(Stacking))}")
        self.nodes, self.output, self.stacking = nodes, output, stacking
        self.outputs = self._parse(output)
        kinds = ("source", "operation", "join") if self.joins else ("source", "operation")
        self.decisions = tuple(
            decision for cell in self.cells for node in range(2, nodes + 2) for decision in self._node(cell, node)
        )
        names = {decision.name: place for place, decision in enumerate(self.decisions)}
        self.sampling_order = tuple(
            names[f"{cell}/node{node}/{entry}"]
            for cell in self.cells
            for node in range(2, nodes + 2)
            for kind in kinds
            for entry in (["join"] if kind == "join" else [f"{side}/{kind}" for side in SIDES])
        )

    def _node(self, cell: str, node: int) -> list[Decision]:
        owner, first = f"{cell}/node{node}", (self.cells.index(cell) * self.nodes + node) * 5
        sources = tuple(f"{cell}/{slot_name(slot)}" for slot in range(node))
        operations = tuple(operation.name for operation in self.operations)
        decisions = []
        for place, side in enumerate(SIDES):
            # Sampled as source, source, operation, operation: a step of its own for each.
            decisions.append(Decision(f"{owner}/{side}/source", "source", sources, cell, first + place, owner))
            step = first + 2 + place
            decisions.append(Decision(f"{owner}/{side}/operation", "operation", operations, "operation", step, owner))
        if self.joins:
            decisions.append(Decision(f"{owner}/join", "combine", JOINS, "join", first + 4, owner))
        return decisions

    def _parse(self, output: str) -> Mapping[Kind, tuple[int, ...] | None]:
        """What `output` says, for each kind of cell."""
        if output in ("unused", "nodes"):
            return dict.fromkeys(self.searched, None if output == "unused" else tuple(range(2, self.nodes + 2)))
        slots = [slot_name(slot) for slot in range(self.nodes + 2)]
        cells = [cell.split() for cell in output.split("/")] if isinstance(output, str) else []
        if len(cells) != len(self.cells) or not all(
            cell and len(set(cell)) == len(cell) and set(cell) <= {*slots} for cell in cells
        ):
            named = f"for each of {len(self.cells)} cell(s), parted by /, some of {' '.join(slots)}"
            raise UserError(f"space.output={output}: allowed are unused, nodes, or, {named}")
        return {kind: tuple(sorted(map(slots.index, cells[place]))) for kind, place in self.searched.items()}

    @property
    def arguments(self) -> dict[str, Any]:
        return {"nodes": self.nodes, "output": self.output, "stacking": self.stacking}

    def pairs(self, choices: Tensor) -> Tensor:
        pairs = choices.reshape(-1, len(self.cells), self.nodes, 5 if self.joins else 4)
        return pairs if self.joins else torch.cat([pairs, torch.zeros_like(pairs[..., :1])], dim=3)

    def choices_of(self, pairs: Tensor) -> Tensor:
        return pairs[..., : 5 if self.joins else 4].flatten(1)

    def stack(self, scale: Scale) -> PairStack:
        return stack_between(scale, self.stacking, skip=self.stacking == "large")


class NasNet(_Family):
    """NASNet's space: 13 operations, a sum or a concatenation, a normal and a reduction cell.

    `scale.layers` is the number of normal cells, 3N; `scale.filters` the filters of the first. A concatenation is
    brought back to the cell's filters by a 1x1 convolution, so that every node has as many.
    """

    name = "nasnet"
    joins = True
    operations: ClassVar[tuple[PairOperation, ...]] = (
        IDENTITY,
        STACKED_3,
        STACKED_7,
        Dense("dilated_3x3", 3, dilation=2),
        AVERAGE_3,
        MAX_3,
        Pool("max_pool_5x5", "max", 5),
        Pool("max_pool_7x7", "max", 7),
        Dense("convolution_1x1", 1),
        Dense("convolution_3x3", 3),
        SEPARABLE_3,
        SEPARABLE_5,
        SEPARABLE_7,
    )


class Amoeba(_Family):
    """AmoebaNet's space: NASNet's cells with 8 operations and sums only. `scale` as in NasNet."""

    name = "amoeba"
    operations: ClassVar[tuple[PairOperation, ...]] = (
        IDENTITY,
        SEPARABLE_3,
        SEPARABLE_5,
        SEPARABLE_7,
        AVERAGE_3,
        MAX_3,
        DilatedSeparable("dilated_separable_3x3", 3),
        STACKED_7,
    )


class Pnas(_Family):
    """PNASNet's space: one cell, which has stride 2 where it reduces; 8 operations, sums only.

    `scale.layers` counts all cells, those with stride 2 too (but not those of the stem).

    growing  whether a cell may have fewer than `nodes` nodes, as in the progressive search: each node but the first has
             a decision before its others whether it is there; if it is not, no later one is. Raises UserError unless
             `output` is "unused": other slots need not exist
    """

    name = "pnas"
    searched: ClassVar[Mapping[Kind, int]] = {"normal": 0, "reduction": 0}
    operations: ClassVar[tuple[PairOperation, ...]] = (
        IDENTITY,
        SEPARABLE_3,
        SEPARABLE_5,
        SEPARABLE_7,
        STACKED_7,
        AVERAGE_3,
        MAX_3,
        Dense("dilated_3x3", 3, dilation=2),
    )

    def __init__(self, nodes: int = 5, output: str = "unused", stacking: Stacking = "cifar", growing: bool = False):
        super().__init__(nodes, output, stacking)
        self.conditional = growing
        if not growing:
            return
        if output != "unused":
            raise UserError(f"space.output={output}: with space.growing=true allowed is unused")
        first = 5  # of the decisions of a node, its growth
        decisions = list(self.decisions[: first - 1])
        for node in range(1, nodes):
            own = self.decisions[(first - 1) * node : (first - 1) * (node + 1)]
            owner, step = own[0].owner, own[0].step - 1  # the step of the join that nodes of this space do not have
            decisions += [Decision(f"{owner}/growth", "number", ("absent", "present"), "growth", step, owner), *own]
        self.decisions = tuple(decisions)
        self.sampling_order = tuple(sorted(range(len(decisions)), key=lambda place: decisions[place].step))

    @property
    def arguments(self) -> dict[str, Any]:
        return {**super().arguments, **({"growing": True} if self.conditional else {})}

    def active(self, choices: Tensor) -> Tensor:
        if not self.conditional:
            return super().active(choices)
        there = choices[:, 4::5].cumprod(dim=1).bool()  # the growth of each node but the first
        before = torch.cat([torch.ones_like(there[:, :1]), there[:, :-1]], dim=1)[:, : self.nodes - 1]
        nodes = torch.cat([before[..., None], there[..., None].expand(-1, -1, 4)], dim=2).flatten(1)
        return torch.cat([torch.ones_like(choices[:, :4], dtype=torch.bool), nodes], dim=1)

    def pairs(self, choices: Tensor) -> Tensor:
        if not self.conditional:
            return super().pairs(choices)
        whole = torch.cat([torch.ones_like(choices[:, :1]), choices], dim=1).reshape(-1, self.nodes, 5)
        absent = torch.where(whole[..., :1].cumprod(dim=1) > 0, 0, ABSENT)
        return torch.cat([torch.where(absent == 0, whole[..., 1:], 0), absent], dim=2).unsqueeze(1)

    def choices_of(self, pairs: Tensor) -> Tensor:
        if not self.conditional:
            return super().choices_of(pairs)
        cell = pairs[:, 0]
        growth = (cell[..., 4:] != ABSENT).to(cell.dtype)
        return torch.cat([growth, cell[..., :4]], dim=2).flatten(1)[:, 1:]

    def stack(self, scale: Scale) -> PairStack:
        return stack_among(scale, self.stacking, auxiliary="before")
