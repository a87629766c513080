"""The cell space of NAS-Bench-101 (Ying et al., ICML 2019, arXiv:1902.09635)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from enas.draw import Drawing, Part
from enas.space.base import Cost, Decision, Resident, SearchSpace
from enas.space.nasbench101_cell import (
    CONVOLUTION_1,
    CONVOLUTION_3,
    EDGES,
    FIRST,
    INNER,
    OPERATIONS,
    OUTPUT,
    VERTICES,
    is_legal,
    make_legal,
    prune,
    renumber,
    used_vertices,
)
from enas.space.nasbench101_network import STACKS, ModuleNetwork, divide
from enas.space.scale import Scale
from enas.space.stacking import halve

NAMES = ("input", *(f"vertex{vertex}" for vertex in range(1, OUTPUT)), "output")
DRAWN_AT_ONCE = 64
"""Rows that `random` draws at least: three of four are legal."""


class NasBench101(SearchSpace):
    """One cell: seven vertices, any edges forward, at most nine of which count, one of three operations a vertex.

    The first vertex is the cell's input, the last its output. A vertex adds what it reads; the output concatenates.
    What is on no way from input to output does not count. A row is the 21 bits of the matrix of edges and the five
    operations. `scale.layers` is the number of cells in each of three stacks (3 as published), `scale.filters` the
    channels of the first (128 as published).

    The channels of a vertex follow from the edges, so that weights cannot be shared.
    """

    name = "nasbench101"
    enumerated: Tensor | None = None
    """uint8 [N, 26]: a row of every cell, where a table has given them."""
    static = False
    shareable = False
    constrained = True

    def __init__(self) -> None:
        self.decisions = (
            *(
                Decision(
                    f"{NAMES[vertex]}/{NAMES[source]}",
                    "skip",
                    ("absent", NAMES[source]),
                    "skip",
                    2 * vertex,
                    NAMES[vertex],
                )
                for source, vertex in EDGES
            ),
            *(
                Decision(
                    f"{NAMES[vertex]}/operation", "operation", OPERATIONS, "operation", 2 * vertex + 1, NAMES[vertex]
                )
                for vertex in range(1, OUTPUT)
            ),
        )
        order = sorted(range(len(self.decisions)), key=lambda place: self.decisions[place].step)
        self.sampling_order = tuple(order)

    @property
    def arguments(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _powers(self) -> Resident:
        return Resident(2 ** torch.arange(len(EDGES)))

    @cached_property
    def _ends(self) -> Resident:
        return Resident(torch.tensor(EDGES))

    def matrices(self, choices: Tensor) -> Tensor:
        """Rows [n, 26] -> int64 [n]: the bits of the matrix of edges as one number."""
        return (choices[:, : len(EDGES)] * self._powers.on(choices.device)).sum(dim=1)

    def rows(self, edges: Tensor, operations: Tensor) -> Tensor:
        """Matrices int64 [n] and operations [n, 5] -> rows [n, 26]."""
        bits = (edges[:, None] & self._powers.on(edges.device)) != 0
        return torch.cat([bits.long(), operations], dim=1)

    def legal(self, choices: Tensor) -> Tensor:
        inside = ((choices >= 0) & (choices < self.sizes(choices.device))).all(dim=1)
        return inside & is_legal(self.matrices(choices.clamp(0, 1)))

    def repair(self, choices: Tensor) -> Tensor:
        """The nearest legal cell, by `make_legal`: input and output are connected, edges beyond nine removed."""
        return self.rows(make_legal(self.matrices(choices)), choices[:, len(EDGES) :])

    def canonical(self, choices: Tensor) -> Tensor:
        """One row for all isomorphic cells, without what does not count.

        The benchmark holds these to be one, though where channels cannot be divided evenly the first vertices get one
        more, so that the parameters of isomorphic cells may differ a little.
        """
        repaired = self.repair(choices)
        return self.rows(*renumber(self.matrices(repaired), repaired[:, len(EDGES) :]))

    def random(self, count: int, generator: torch.Generator) -> Tensor:
        """Uniform among the legal rows, not among cells: rows are drawn until `count` are legal, as published.

        Where `enumerated` holds a row of every cell, uniform among those.
        """
        if self.enumerated is not None:
            size, device = len(self.enumerated), generator.device
            places = torch.randint(size, (count,), generator=generator, device=device)
            return self.enumerated.to(device)[places].long()
        found = torch.empty(0, len(self.decisions), dtype=torch.int64, device=generator.device)
        sizes = self.sizes(generator.device)
        while len(found) < count:
            shape = (max(count, DRAWN_AT_ONCE), len(sizes))
            uniform = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
            rows = (uniform * sizes).long()
            found = torch.cat([found, rows[is_legal(self.matrices(rows))]])
        return found[:count]

    def mutate(self, choices: Tensor, generator: torch.Generator) -> Tensor:
        """Flip one edge or change one operation, uniformly among the decisions whose change leaves a legal cell."""
        flipped = self.matrices(choices)[:, None] ^ self._powers.on(choices.device)
        operations = torch.ones(len(choices), INNER, dtype=torch.bool, device=choices.device)
        free = torch.cat([is_legal(flipped), operations], dim=1)
        place = torch.multinomial(free.double(), 1, generator=generator)
        sizes = self.sizes(choices.device)[place]
        uniform = torch.rand(place.shape, generator=generator, device=choices.device, dtype=torch.float64)
        other = (choices.gather(1, place) + 1 + (uniform * (sizes - 1)).long()) % sizes
        return choices.scatter(1, place, other)

    def route(self, choices: Tensor) -> Tensor:
        """[M, 26] -> [M, 26, 3]: of each edge (source, vertex, whether it is there and counts); of each inner vertex
        (vertex, place in OPERATIONS, 0)."""
        counts = (prune(self.matrices(choices))[:, None] & self._powers.on(choices.device) != 0).long()
        ends = self._ends.on(choices.device).expand(len(choices), -1, -1)
        operations = choices[:, len(EDGES) :]
        vertices = ends[:, FIRST[1:OUTPUT], 1]
        inner = torch.stack([vertices, operations, torch.zeros_like(operations)], dim=2)
        return torch.cat([torch.cat([ends, counts[..., None]], dim=2), inner], dim=1).to(torch.int32)

    def module(self, row: Sequence[int]) -> tuple[list[list[int]], list[str]]:
        """The matrix and the operations of what counts, as the benchmark's own API takes them."""
        counts = int(prune(self.matrices(torch.tensor([list(row)])))[0])
        edges = [edge for bit, edge in enumerate(EDGES) if counts >> bit & 1]
        vertices = sorted({end for edge in edges for end in edge})
        matrix = [[int((source, vertex) in edges) for vertex in vertices] for source in vertices]
        inner = [OPERATIONS[row[len(EDGES) + vertex - 1]] for vertex in vertices[1:-1]]
        return matrix, ["input", *inner, "output"]

    def describe(self, row: Sequence[int]) -> dict[str, Any]:
        inputs = self._inputs(row)
        vertices = [
            {"name": NAMES[vertex], "operation": OPERATIONS[row[len(EDGES) + vertex - 1]], "inputs": inputs[vertex]}
            for vertex in range(1, OUTPUT)
        ]
        matrix, operations = self.module(row)
        counted = {"matrix": matrix, "operations": operations}
        return {"vertices": vertices, "output": inputs[OUTPUT], "counted": counted}

    def text(self, row: Sequence[int]) -> str:
        inputs, used = self._inputs(row), int(used_vertices(self.matrices(torch.tensor([list(row)])))[0])
        lines = [
            f"{NAMES[vertex]} = {OPERATIONS[row[len(EDGES) + vertex - 1]]}({' + '.join(inputs[vertex])})"
            + ("" if used >> vertex & 1 else ", does not count")
            for vertex in range(1, OUTPUT)
        ]
        inner = [name for name in inputs[OUTPUT] if name != NAMES[0]]
        terms = [f"concat({', '.join(inner)})"] * bool(inner) + [NAMES[0]] * (NAMES[0] in inputs[OUTPUT])
        return "\n".join([*lines, f"output = {' + '.join(terms)}"])

    def _inputs(self, row: Sequence[int]) -> list[list[str]]:
        """What each vertex reads, by name, whether it counts or not."""
        inputs: list[list[str]] = [[] for _ in range(VERTICES)]
        for bit, (source, vertex) in enumerate(EDGES):
            if row[bit]:
                inputs[vertex].append(NAMES[source])
        return inputs

    def drawings(self, row: Sequence[int]) -> dict[str, Drawing]:
        counts = self.rows(prune(self.matrices(torch.tensor([list(row)]))), torch.tensor([list(row)[len(EDGES) :]]))
        inputs = self._inputs(counts[0].tolist())
        nodes = {
            NAMES[vertex]: [
                Part(NAMES[vertex], source, OPERATIONS[row[len(EDGES) + vertex - 1]]) for source in inputs[vertex]
            ]
            for vertex in range(1, OUTPUT)
        }
        note = "A vertex adds what it reads; what is on no way from input to output gives nothing."
        combine = "concat + input" if NAMES[0] in inputs[OUTPUT] else "concat"
        return {"cell": Drawing("cell", note, {NAMES[0]: "previous cell"}, nodes, inputs[OUTPUT], combine)}

    def cost(self, choices: Tensor, scale: Scale) -> Cost:
        """Parameters equal the table's; multiply-adds leave out the classifier's bias, as everywhere here."""
        edges, operations = prune(self.matrices(choices)), choices[:, len(EDGES) :]
        taps = torch.where(operations == CONVOLUTION_3, 9, torch.where(operations == CONVOLUTION_1, 1, 0))
        stem = 9 * scale.channels * scale.filters
        height, width = scale.height, scale.width
        params = torch.full_like(edges, stem + 2 * scale.filters)
        macs = torch.full_like(edges, stem * height * width)
        inputs = channels = scale.filters
        for stack in range(STACKS):
            if stack > 0:
                channels, height, width = 2 * channels, halve(height, 2), halve(width, 2)
            vertices = divide(edges, channels)
            for _ in range(scale.layers):
                norms, weights = torch.zeros_like(edges), torch.zeros_like(edges)
                for vertex in range(1, VERTICES):
                    own = vertices[vertex]
                    projected = (edges >> FIRST[vertex]) & 1
                    norms, weights = norms + 2 * projected * own, weights + projected * inputs * own
                    if vertex < OUTPUT:
                        norms = norms + 2 * own * (taps[:, vertex - 1] > 0)
                        weights = weights + taps[:, vertex - 1] * own**2
                params, macs = params + norms + weights, macs + weights * height * width
                inputs = channels
        return Cost(params + (channels + 1) * scale.classes, macs + channels * scale.classes)

    def network(
        self,
        scale: Scale,
        generator: torch.Generator,
        row: Sequence[int] | None = None,
        auxiliary: bool = False,
    ) -> ModuleNetwork:
        self.refuse_auxiliary(auxiliary)
        routes = self.routes_of(row)
        if routes is None:
            raise ValueError(f"space {self.name} has networks of one row alone, no supernet")
        return ModuleNetwork(scale, routes, generator)
