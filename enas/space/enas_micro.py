"""The ENAS cell search space (Pham et al. 2018, section 2.4 "designing convolutional cells"; authors' micro search)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from enas.draw import Drawing, Part
from enas.errors import UserError
from enas.space.base import Cost, Decision, Resident, SearchSpace
from enas.space.cells import CellNetwork
from enas.space.operations import (
    AVERAGE_POOL_3,
    IDENTITY,
    MAX_POOL_3,
    SEPARABLE_3,
    SEPARABLE_5,
    pointwise_cost,
)
from enas.space.renumbering import smallest_order
from enas.space.rows import KeptRows
from enas.space.scale import Scale
from enas.space.stacking import STEM, Kind, stack_cells

OPERATIONS = (SEPARABLE_3, SEPARABLE_5, AVERAGE_POOL_3, MAX_POOL_3, IDENTITY)
CELLS: tuple[Kind, Kind] = get_args(Kind)
SIDES = ("left", "right")
NOTES = {
    "normal": "A node adds the results of its two operations.",
    "reduction": "A node adds the results of its two operations; those that read an input have stride 2.",
}
INPUTS = {"input0": "two cells back", "input1": "one cell back"}
COMBINE = {"project": "concat, 1×1 conv", "concat": "concat"}
"""What a drawing says beside the names."""


class EnasMicro(SearchSpace):
    """Two cells, normal and reduction, of `nodes` computed nodes each; a node sums two operations on earlier nodes.

    A row holds the normal cell, then the reduction cell; each node is `source, operation, source, operation`, as the
    authors store it: 4 * nodes integers a cell. Sources 0 and 1 are the outputs of the cell before the previous one
    and of the previous one; source 2 + i is node i. The controller samples both sources of a node first.

    output  what leaves a cell: "project" sums a 1x1 convolution of the loose ends (authors' search), "concat"
            concatenates them (authors' final network). The same in search and in the final network.
    """

    name = "enas_micro"

    def __init__(self, nodes: int = 5, output: Literal["project", "concat"] = "project"):
        if not isinstance(nodes, int) or isinstance(nodes, bool) or not 1 <= nodes <= 7:  # from a file, perhaps
            raise UserError(f"space.nodes={nodes}: allowed are 1 to 7 nodes a cell")
        if output not in ("project", "concat"):
            raise UserError(f"space.output={output}: allowed are project and concat")
        self.nodes = nodes
        self.output = output
        self.decisions = tuple(self._decisions())
        names = {decision.name: place for place, decision in enumerate(self.decisions)}
        self.sampling_order = tuple(
            names[f"{cell}/node{node}/{side}/{kind}"]
            for cell in CELLS
            for node in range(2, nodes + 2)
            for kind in ("source", "operation")
            for side in SIDES
        )

    def _decisions(self) -> list[Decision]:
        decisions: list[Decision] = []
        operations = tuple(operation.name for operation in OPERATIONS)
        for cell in CELLS:
            for node in range(2, self.nodes + 2):
                owner = f"{cell}/node{node}"
                sources = tuple(f"{cell}/{slot_name(slot)}" for slot in range(node))
                first = len(decisions)
                for place, side in enumerate(SIDES):
                    # Sampled as source, source, operation, operation: a step of its own for each.
                    step = first + place
                    decisions.append(Decision(f"{owner}/{side}/source", "source", sources, cell, step, owner))
                    decisions.append(
                        Decision(f"{owner}/{side}/operation", "operation", operations, "operation", step + 2, owner)
                    )
        return decisions

    @property
    def arguments(self) -> dict[str, Any]:
        return {"nodes": self.nodes, "output": self.output}

    @property
    def edges(self) -> int:
        """Edges of one cell."""
        return 2 * self.nodes

    def route(self, choices: Tensor) -> Tensor:
        """[M, D] -> [M, 4 * nodes, 3]: the edges of the normal cell, then those of the reduction cell."""
        pairs = choices.reshape(-1, 2 * self.edges, 2)
        source, operation = pairs.unbind(dim=2)
        node, side = self._edge_places.on(choices.device)
        rows = self._row_table.on(choices.device)[operation, node, side, source]
        return torch.stack([source, operation, rows], dim=2).to(torch.int32)

    @cached_property
    def _edge_places(self) -> Resident:
        """int64 [2, 4 * nodes]: the node and the side of each edge."""
        edge = torch.arange(2 * self.edges)
        return Resident(torch.stack([(edge // 2) % self.nodes, edge % 2]))

    @cached_property
    def _row_table(self) -> Resident:
        """[operation, node, side, source] -> the supernet's weight row, 0 where an operation has none."""
        table = torch.zeros(len(OPERATIONS), self.nodes, 2, self.nodes + 1, dtype=torch.int64)
        row = 0
        for node in range(self.nodes):
            for side in (0, 1):
                for source in range(node + 2):
                    table[:2, node, side, source] = row
                    row += 1
                    if source < 2:  # only edges that read an input can have stride 2
                        table[4, node, side, source] = 4 * node + 2 * side + source
        return Resident(table)

    def canonical(self, choices: Tensor) -> Tensor:
        """Exact: the smallest row, read left to right, among all orders of the nodes and of their two sides."""
        cells = choices.reshape(-1, self.nodes, 4)
        return smallest_order(cells, len(OPERATIONS)).reshape(choices.shape)

    def describe(self, row: Sequence[int]) -> dict[str, Any]:
        cells: dict[str, Any] = {}
        for place, cell in enumerate(CELLS):
            nodes, read = [], set()
            for node in range(self.nodes):
                entry: dict[str, Any] = {"name": slot_name(node + 2)}
                for side, name in enumerate(SIDES):
                    at = 4 * (place * self.nodes + node) + 2 * side
                    read.add(row[at])
                    entry[name] = {"source": slot_name(row[at]), "operation": OPERATIONS[row[at + 1]].name}
                nodes.append(entry)
            output = [slot_name(slot) for slot in range(self.nodes + 2) if slot not in read]
            cells[cell] = {"nodes": nodes, "output": output}
        return {**cells, "combine": self.output}

    def drawings(self, row: Sequence[int]) -> dict[str, Drawing]:
        graph = self.describe(row)
        return {
            cell: Drawing(
                f"{cell} cell",
                NOTES[cell],
                INPUTS,
                {
                    node["name"]: [Part(side, node[side]["source"], node[side]["operation"]) for side in SIDES]
                    for node in graph[cell]["nodes"]
                },
                graph[cell]["output"],
                COMBINE[self.output],
            )
            for cell in CELLS
        }

    def text(self, row: Sequence[int]) -> str:
        graph, lines = self.describe(row), []
        for cell in CELLS:
            lines.append(f"{cell} cell:")
            for node in graph[cell]["nodes"]:
                sides = [f"{node[side]['operation']}({node[side]['source']})" for side in SIDES]
                lines.append(f"  {node['name']} = {' + '.join(sides)}")
            lines.append(f"  output = {self.output}({', '.join(graph[cell]['output'])})")
        return "\n".join(lines)

    def loose_ends(self, choices: Tensor) -> Tensor:
        """[n, D] -> bool [n, 2, nodes + 2]: which slots of the normal and of the reduction cell no node reads."""
        source = choices.reshape(-1, 2, self.edges, 2)[..., 0]
        read = torch.zeros(*source.shape[:2], self.nodes + 2, dtype=torch.bool, device=choices.device)
        return ~read.scatter(2, source, True)

    def cost(self, choices: Tensor, scale: Scale) -> Cost:
        stack = stack_cells(scale, self.output == "concat")
        pairs = choices.reshape(-1, 2, self.edges, 2)
        loose = self.loose_ends(choices)
        params = choices.new_zeros(choices.shape[0])
        macs = params.clone()

        def add(count: Tensor | int, unit: tuple[int, int]) -> None:
            nonlocal params, macs
            params, macs = params + count * unit[0], macs + count * unit[1]

        def blocks(producer: int) -> Tensor | int:
            if producer == STEM or self.output == "project":
                return 1
            return loose[:, CELLS.index(stack.cells[producer].kind)].sum(dim=1)

        pixels = scale.height * scale.width
        stem = 9 * scale.channels * stack.stem_channels
        add(1, (stem + 2 * stack.stem_channels, stem * pixels))
        for placement in stack.cells:
            channels, kind = placement.filters, CELLS.index(placement.kind)
            outside, inside = (
                placement.height * placement.width,
                placement.output_size[0] * placement.output_size[1],
            )
            for feed in placement.feeds:
                if feed.calibration != "none":
                    add(blocks(feed.producer), pointwise_cost(feed.channels, channels, outside))
                    add(blocks(feed.producer) - 1, (-2 * channels, 0))  # one batch norm, however many blocks
            reads_input = pairs[:, kind, :, 0] < 2
            for operation in OPERATIONS:
                chosen = pairs[:, kind, :, 1] == operation.code
                add((chosen & reads_input).sum(dim=1), operation.cost(channels, placement.stride, inside))
                add((chosen & ~reads_input).sum(dim=1), operation.cost(channels, 1, inside))
            if placement.stride > 1:
                add(loose[:, kind, :2].sum(dim=1), pointwise_cost(channels, channels, inside))
            if self.output == "project":
                count = loose[:, kind].sum(dim=1)
                add(count, pointwise_cost(channels, channels, inside))
                add(count - 1, (-2 * channels, 0))
        last = len(stack.cells) - 1
        features = stack.cells[last].filters
        add(blocks(last), (features * scale.classes, features * scale.classes))
        return Cost(params, macs)

    def network(
        self,
        scale: Scale,
        generator: torch.Generator,
        row: Sequence[int] | None = None,
        auxiliary: bool = False,
    ) -> CellNetwork:
        kept: Mapping[Kind, KeptRows]
        if row is None:
            routes = None
            kept = {kind: KeptRows.shared(self.nodes, kind) for kind in CELLS}
        else:
            routes = self.route(torch.tensor([list(row)]))[0]
            halves = dict(zip(CELLS, torch.split(routes, self.edges), strict=True))
            kept = {kind: KeptRows.of(half, kind) for kind, half in halves.items()}
            routes = torch.cat([kept[kind].compact(halves[kind]) for kind in CELLS]).unsqueeze(0)
        return CellNetwork(scale, self.output, kept, routes, auxiliary, generator)

    def parse(self, normal: str, reduction: str) -> list[int]:
        """A row from the authors' strings, one for each cell: 4 * nodes integers separated by blanks.

        Raises UserError where a string is too short or too long, or a choice is out of range.
        """
        row: list[int] = []
        for cell, text in zip(CELLS, (normal, reduction), strict=True):
            try:
                integers = [int(word) for word in text.split()]
            except ValueError:
                raise UserError(f"the {cell} cell {text!r} must hold integers separated by blanks") from None
            if len(integers) != 2 * self.edges:
                raise UserError(f"the {cell} cell must have {2 * self.edges} integers, it has {len(integers)}")
            row += integers
        self.check(row)
        return row

    def strings(self, row: Sequence[int]) -> tuple[str, str]:
        """The authors' strings of a row: normal cell, reduction cell."""
        half = 2 * self.edges
        return " ".join(map(str, row[:half])), " ".join(map(str, row[half:]))


def slot_name(slot: int) -> str:
    """Slots 0 and 1 are the cell's inputs, slot 2 + i is computed node i."""
    return f"input{slot}" if slot < 2 else f"node{slot}"
