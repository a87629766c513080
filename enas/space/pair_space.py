"""What the spaces of cells whose nodes join two operations have in common: NASNet's family and DARTS.

Slots 0 and 1 are a cell's inputs, the outputs of the cell before the previous one and of the previous one; slot 2 + i
is node i. In a reduction cell operations that read an input have stride 2.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from enas.draw import Drawing, Part
from enas.errors import UserError
from enas.space.base import Cost, Resident, SearchSpace
from enas.space.mutation import stepwise
from enas.space.operations import pointwise_cost
from enas.space.pair_cell import ABSENT, CONCAT, ROUTES, KeptPairs, nodes_of, unread
from enas.space.pair_network import PairNetwork
from enas.space.pair_operations import PairOperation
from enas.space.pair_stacking import PairStack, stem_cost
from enas.space.renumbering import smallest_order
from enas.space.scale import Scale
from enas.space.stacking import STEM, Kind

SIDES = ("left", "right")
JOINS = ("add", "concat")
INPUTS = {"input0": "two cells back", "input1": "one cell back"}
NOTES = {
    "normal": "A node adds the results of its two operations.",
    "reduction": "A node adds the results of its two operations; those that read an input have stride 2.",
    "cell": "A node adds the results of its two operations; those that read an input have stride 2 where it reduces.",
}
CONCATENATED = " Where marked ∥ it concatenates them, and a 1×1 conv follows."
"""What a drawing says beside the names."""
SOURCE, OPERATION, JOIN = slice(0, 4, 2), slice(1, 4, 2), 4
"""Places of a node's five numbers: source, operation, source, operation, join."""


def slot_name(slot: int) -> str:
    """Slots 0 and 1 are the cell's inputs, slot 2 + i is computed node i."""
    return f"input{slot}" if slot < 2 else f"node{slot}"


class PairSpace(SearchSpace):
    """Cells of `nodes` nodes; what a row says of them is `pairs`.

    operations  the candidates, by code
    searched    kind of a cell -> number of the searched cell that it is
    outputs     kind of a cell -> the slots whose concatenation it gives; None: those that no node reads
    joins       whether a row says how a node joins its sides, else it adds them
    sided       whether the two sides of a node have weights of their own, else its edges have: (node, source)
    made        the class of its networks
    """

    static = False
    operations: ClassVar[tuple[PairOperation, ...]]
    searched: ClassVar[Mapping[Kind, int]] = {"normal": 0, "reduction": 1}
    joins: ClassVar[bool] = False
    sided: ClassVar[bool] = True
    made: ClassVar[type[PairNetwork]] = PairNetwork
    nodes: int
    outputs: Mapping[Kind, tuple[int, ...] | None]

    @abstractmethod
    def pairs(self, choices: Tensor) -> Tensor:
        """[n, D] -> [n, cells, nodes, 5]: source, operation, source, operation, join of every node.

        Of absent nodes 0, 0, 0, 0 and ABSENT; they stand last.
        """

    @abstractmethod
    def choices_of(self, pairs: Tensor) -> Tensor:
        """[n, cells, nodes, 5], sides in ascending order -> [n, D]; what `pairs` undoes."""

    @abstractmethod
    def stack(self, scale: Scale) -> PairStack:
        """The plan of the network."""

    @property
    def cells(self) -> tuple[str, ...]:
        """The names of the searched cells, in the order of a row."""
        return tuple(self.searched) if len(set(self.searched.values())) > 1 else ("cell",)

    def route(self, choices: Tensor) -> Tensor:
        """[M, D] -> [M, 3 * nodes * cells, 3]: for each node its left side, its right side, how it joins them."""
        pairs = self.pairs(choices)
        source, operation = pairs[..., SOURCE], pairs[..., OPERATION]
        node = torch.arange(self.nodes, device=choices.device)
        side = torch.arange(2, device=choices.device)
        rows = self._rows.on(choices.device)[operation, node[:, None], side, source]
        sides = torch.stack([source, operation, rows], dim=-1)
        join = pairs[..., JOIN]
        join = torch.stack([torch.zeros_like(join), join, node.expand_as(join)], dim=-1)
        return torch.cat([sides, join.unsqueeze(3)], dim=3).flatten(1, 3).to(torch.int32)

    @cached_property
    def _rows(self) -> Resident:
        """[operation, node, side, source] -> the supernet's weight row, 0 where an operation has none.

        Those of operations that have weights with stride 2 only are counted over the inputs.
        """
        table = torch.zeros(len(self.operations), self.nodes, 2, self.nodes + 1, dtype=torch.int64)
        strided = [operation.strided for operation in self.operations]
        counts = {True: 0, False: 0}
        for node in range(self.nodes):
            for side in (0, 1):
                for source in range(node + 2):
                    for kind in (True, False):
                        own = torch.tensor(strided) == kind
                        if side and not self.sided:
                            table[own, node, 1, source] = table[own, node, 0, source]
                        elif not kind or source < 2:
                            table[own, node, side, source] = counts[kind]
                            counts[kind] += 1
        return Resident(table)

    def _shared(self, kind: Kind) -> KeptPairs:
        """All rows: what a supernet's cell has."""
        sides = 2 if self.sided else 1
        everything = tuple(range(sides * sum(node + 2 for node in range(self.nodes))))
        inputs = tuple(range(sides * 2 * self.nodes)) if kind == "reduction" else ()
        ends = self.outputs[kind] or tuple(range(self.nodes + 2))
        return KeptPairs(
            tuple(inputs if operation.strided else everything for operation in self.operations),
            tuple(range(self.nodes)) if self.joins else (),
            ends,
            tuple(slot for slot in ends if slot < 2 and kind == "reduction"),
        )

    def network(
        self,
        scale: Scale,
        generator: torch.Generator,
        row: Sequence[int] | None = None,
        auxiliary: bool = False,
    ) -> PairNetwork:
        routes = self.routes_of(row)
        kept = {kind: self._shared(kind) for kind in self.searched}
        if routes is not None:
            each = ROUTES * self.nodes
            for kind, place in self.searched.items():
                nodes = nodes_of(routes[0, each * place : each * (place + 1)].tolist())
                kept[kind] = KeptPairs.of(nodes, kind, self.operations, self.outputs[kind] or unread(nodes))
        stack = self.stack(scale)
        return self.made(scale, stack, self.operations, self.searched, kept, self.outputs, routes, auxiliary, generator)

    def ends(self, pairs: Tensor) -> dict[Kind, Tensor]:
        """[n, cells, nodes, 5] -> for each kind of cell bool [n, nodes + 2]: the slots that leave it."""
        there = pairs[..., JOIN] != ABSENT
        source = torch.where(there[..., None], pairs[..., SOURCE], self.nodes + 2).flatten(2)
        loose = torch.ones(*source.shape[:2], self.nodes + 3, dtype=torch.bool, device=pairs.device)
        loose = loose.scatter_(2, source, False)[..., :-1]
        loose[..., 2:] &= there
        ends = {}
        for kind, place in self.searched.items():
            ends[kind] = loose[:, place]
            fixed = self.outputs[kind]
            if fixed is not None:
                ends[kind] = torch.zeros_like(ends[kind])
                ends[kind][:, list(fixed)] = True
        return ends

    def cost(self, choices: Tensor, scale: Scale) -> Cost:
        stack, pairs = self.stack(scale), self.pairs(choices)
        ends = self.ends(pairs)
        counts = {kind: leaving.sum(dim=1) for kind, leaving in ends.items()}
        loose = {kind: leaving[:, :2].sum(dim=1) for kind, leaving in ends.items()}
        params = choices.new_zeros(choices.shape[0])
        macs = params.clone()

        def add(count: Tensor | int, unit: tuple[int, int]) -> None:
            nonlocal params, macs
            params, macs = params + count * unit[0], macs + count * unit[1]

        def blocks(producer: int) -> Tensor | int:
            return 1 if producer == STEM else counts[stack.cells[producer].kind]

        add(1, stem_cost(stack, scale))
        for placement in stack.cells:
            channels, kind, size = placement.filters, placement.kind, (placement.height, placement.width)
            inside = placement.output_size
            for feed in placement.feeds:
                add(blocks(feed.producer), pointwise_cost(feed.channels, channels, size[0] * size[1]))
                add(blocks(feed.producer) - 1, (-2 * channels, 0))  # one batch norm, however many blocks
            own = pairs[:, self.searched[kind]]
            reads_input = own[..., SOURCE] < 2
            for code, operation in enumerate(self.operations):
                chosen = (own[..., OPERATION] == code) & (own[..., JOIN, None] != ABSENT)
                outer, inner = ((chosen & mask).flatten(1).sum(dim=1) for mask in (reads_input, ~reads_input))
                add(outer, operation.cost(channels // scale.partial, placement.stride, *size))
                add(inner, operation.cost(channels // scale.partial, 1, *inside))
            pixels = inside[0] * inside[1]
            add((own[..., JOIN] == CONCAT).sum(dim=1), pointwise_cost(2 * channels, channels, pixels))
            if placement.stride > 1:
                add(loose[kind], pointwise_cost(channels, channels, pixels))
        last = len(stack.cells) - 1
        features = stack.cells[last].filters * scale.classes
        add(blocks(last), (features, features))
        return Cost(params + scale.classes, macs)

    def canonical(self, choices: Tensor) -> Tensor:
        """The smallest row, read left to right, among all orders of the nodes and of their two sides.

        Where `outputs` names slots, only nodes that leave the cell change places with nodes that do. Exact but for
        nodes that nobody reads and that do not leave the cell.
        """
        pairs = self.pairs(choices).clone()
        for place in range(len(self.cells)):
            fixed = next(self.outputs[kind] for kind, own in self.searched.items() if own == place)
            together = None if fixed is None else [slot - 2 for slot in fixed]
            for nodes, rows in self._by_size(pairs[:, place]):
                own = pairs[rows, place, :nodes]
                pairs[rows, place, :nodes] = smallest_order(own, len(self.operations), together, self._simplified)
        return self.choices_of(pairs)

    def _by_size(self, cells: Tensor) -> list[tuple[int, Tensor | slice]]:
        """Numbers of nodes, each with the index of those of cells [n, nodes, 5] that have as many."""
        if not self.conditional:
            return [(self.nodes, slice(None))]
        sizes = (cells[..., JOIN] != ABSENT).sum(dim=1)
        return [(nodes, (sizes == nodes).nonzero()[:, 0]) for nodes in range(1, self.nodes + 1)]

    def picked(self) -> Tensor:
        """As published (Real et al. 2019): the cell, then what a node reads or what it does, the node, the side.

        How a node joins its sides counts as a third thing that it does, and so does whether it is there.
        """
        steps: list[tuple[str, ...] | None] = []
        for decision in self.decisions:
            cell, node, *element = decision.name.split("/")
            what = "reads" if element[-1] in ("source", "sources") else "does"
            steps.append((cell, what, node, element[0]) if len(decision.alternatives) > 1 else None)
        return stepwise(steps)

    def _simplified(self, source: Tensor, operation: Tensor) -> Tensor:
        """Sources [n, nodes, 2] with those that make no difference set to the least that they may be."""
        return source

    def describe(self, row: Sequence[int]) -> dict[str, Any]:
        pairs = self.pairs(torch.tensor([list(row)]))
        ends = self.ends(pairs)
        graph = {}
        for place, cell in enumerate(self.cells):
            nodes = []
            for node, numbers in enumerate(pairs[0, place].tolist()):
                if numbers[JOIN] == ABSENT:
                    break
                entry: dict[str, Any] = {"name": slot_name(node + 2)}
                for side, name in enumerate(SIDES):
                    source, code = numbers[2 * side : 2 * side + 2]
                    entry[name] = {"source": slot_name(source), "operation": self.operations[code].name}
                if self.joins:
                    entry["join"] = JOINS[numbers[JOIN]]
                nodes.append(entry)
            kind = next(kind for kind, own in self.searched.items() if own == place)
            output = [slot_name(slot) for slot in ends[kind][0].nonzero().flatten().tolist()]
            graph[cell] = {"nodes": nodes, "output": output}
        return graph

    def drawings(self, row: Sequence[int]) -> dict[str, Drawing]:
        drawings = {}
        for cell, graph in self.describe(row).items():
            nodes = {
                node["name"]: [
                    Part(side, node[side]["source"], node[side]["operation"])
                    for side in SIDES
                    if node[side]["operation"] != "none"
                ]
                for node in graph["nodes"]
            }
            concatenated = frozenset(node["name"] for node in graph["nodes"] if node.get("join") == JOINS[CONCAT])
            note = NOTES[cell] + (CONCATENATED if concatenated else "")
            title = f"{cell} cell" if cell in self.searched else cell
            drawings[cell] = Drawing(title, note, INPUTS, nodes, graph["output"], "concat", concatenated=concatenated)
        return drawings

    def text(self, row: Sequence[int]) -> str:
        lines = []
        for cell, graph in self.describe(row).items():
            lines.append(f"{cell} cell:" if cell in self.searched else f"{cell}:")
            for node in graph["nodes"]:
                sides = [f"{node[side]['operation']}({node[side]['source']})" for side in SIDES]
                joined = " + ".join(sides) if node.get("join") != JOINS[CONCAT] else f"concat({', '.join(sides)})"
                lines.append(f"  {node['name']} = {joined}")
            lines.append(f"  output = concat({', '.join(graph['output'])})")
        return "\n".join(lines)


def check_nodes(nodes: int) -> None:
    """Raises UserError where a cell cannot have so many."""
    if not isinstance(nodes, int) or isinstance(nodes, bool) or not 1 <= nodes <= 7:  # from a file, perhaps
        raise UserError(f"space.nodes={nodes}: allowed are 1 to 7 nodes a cell")
