"""The cell space of NAS-Bench-201 (Dong and Yang, ICLR 2020; also the topology space of NATS-Bench)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from enas.draw import Drawing, Part
from enas.errors import UserError
from enas.space.base import Cost, Decision, Resident
from enas.space.nasbench201_network import (
    AVERAGE_POOL,
    CONVOLUTION_1,
    CONVOLUTION_3,
    EDGES,
    NODES,
    NONE,
    OPERATIONS,
    SKIP,
    STAGES,
    CompleteCellNetwork,
)
from enas.space.relaxable import Edge, RelaxableSpace
from enas.space.scale import Scale
from enas.space.stacking import halve


class NasBench201(RelaxableSpace):
    """One cell, a complete graph of four nodes: each of six edges has one of five operations, 15,625 rows.

    A node sums what its edges give; node 0 is the input, node 3 the output. `scale.layers` is the number of cells in
    each of three stages (5 as published), `scale.filters` the channels of the first (16 as published).
    """

    name = "nasbench201"
    static = False
    partial = True

    def __init__(self) -> None:
        self.decisions = tuple(
            Decision(f"node{node}/node{source}", "operation", OPERATIONS, "operation", step, f"node{node}")
            for step, (node, source) in enumerate(EDGES)
        )
        self.sampling_order = tuple(range(len(EDGES)))
        self.edges = tuple(Edge(f"node{node}", f"node{source}") for node, source in EDGES)
        self.candidates = OPERATIONS

    @property
    def arguments(self) -> dict[str, Any]:
        return {}

    def sources_of(self, decision: Decision) -> tuple[tuple[str, ...], ...]:
        """The operation of an edge reads its source, which its name ends with."""
        return ((decision.name.rpartition("/")[2],),) * len(decision.alternatives)

    @cached_property
    def _sources(self) -> Resident:
        return Resident(torch.tensor([source for _, source in EDGES]))

    @cached_property
    def _rows(self) -> Resident:
        return Resident(torch.arange(len(EDGES)))

    def route(self, choices: Tensor) -> Tensor:
        """[M, 6] -> [M, 6, 3]: (source node, place in OPERATIONS, the edge's own row of weights)."""
        source, row = (own.on(choices.device).expand_as(choices) for own in (self._sources, self._rows))
        return torch.stack([source, choices, row], dim=2).to(torch.int32)

    def canonical(self, choices: Tensor) -> Tensor:
        """Edges that can only give zeros, and edges that nothing reads, become `none`.

        A convolution of zeros is not zero: its batch norm adds a bias.
        """
        row = choices.clone()
        alive = {0: torch.ones_like(row[:, 0], dtype=torch.bool)}
        for node in range(1, NODES):
            alive[node] = torch.zeros_like(alive[0])
            for place, (reader, source) in enumerate(EDGES):
                if reader == node:
                    passes = (row[:, place] == SKIP) | (row[:, place] == AVERAGE_POOL)
                    row[:, place] = torch.where(passes & ~alive[source], NONE, row[:, place])
                    alive[node] |= row[:, place] != NONE
        read = {NODES - 1: torch.ones_like(alive[0])}
        for source in reversed(range(NODES - 1)):
            read[source] = torch.zeros_like(alive[0])
            for place, (node, own) in enumerate(EDGES):
                if own == source:
                    row[:, place] = torch.where(read[node], row[:, place], NONE)
                    read[source] |= row[:, place] != NONE
        return row

    def to_mixing(self, row: Sequence[int]) -> Tensor:
        return functional.one_hot(torch.tensor(list(row)), len(OPERATIONS)).float()

    def discretise(self, mixing: Tensor) -> list[int]:
        """The strongest operation of each edge, none among them, as the benchmark's authors read off theirs."""
        row: list[int] = mixing.argmax(dim=1).tolist()
        return row

    def describe(self, row: Sequence[int]) -> dict[str, Any]:
        nodes: list[dict[str, Any]] = [{"name": f"node{node}", "edges": []} for node in range(1, NODES)]
        for (node, source), choice in zip(EDGES, row, strict=True):
            nodes[node - 1]["edges"].append({"source": f"node{source}", "operation": OPERATIONS[choice]})
        return {"nodes": nodes, "string": self.text(row)}

    def text(self, row: Sequence[int]) -> str:
        """The official string: |nor_conv_3x3~0|+|none~0|skip_connect~1|+|..."""
        nodes = []
        for node in range(1, NODES):
            edges = [
                f"{OPERATIONS[choice]}~{source}"
                for (reader, source), choice in zip(EDGES, row, strict=True)
                if reader == node
            ]
            nodes.append(f"|{'|'.join(edges)}|")
        return "+".join(nodes)

    def parse(self, text: str) -> list[int]:
        """The row of an official string. Raises UserError where it is none."""
        edges = [re.fullmatch(r"(\w+)~(\d)", edge) for edge in re.split(r"\|\+?\|?", text.strip())[1:-1]]
        found = [(edge[1], int(edge[2])) for edge in edges if edge is not None and edge[1] in OPERATIONS]
        row = [OPERATIONS.index(operation) for operation, _ in found]
        if len(edges) != len(EDGES) or len(found) != len(EDGES) or self.text(row) != text.strip():
            raise UserError(f"{text!r} is no cell of NAS-Bench-201; one is written {self.text([3, 0, 1, 0, 1, 3])}")
        return row

    def drawings(self, row: Sequence[int]) -> dict[str, Drawing]:
        nodes = {
            f"node{node}": [
                Part(f"node{source}", f"node{source}", OPERATIONS[choice])
                for (reader, source), choice in zip(EDGES, row, strict=True)
                if reader == node and choice != NONE
            ]
            for node in range(1, NODES)
        }
        note = "A node adds what its edges give; edges with the operation none are left out."
        return {
            "cell": Drawing("cell", note, {"node0": "previous cell"}, nodes, [f"node{NODES - 1}"], "node 3 as it is")
        }

    def cost(self, choices: Tensor, scale: Scale) -> Cost:
        """In the table's convention: biases of the classifier are among the multiply-adds."""
        ones, threes = ((choices == code).sum(dim=1) for code in (CONVOLUTION_1, CONVOLUTION_3))
        stem = 9 * scale.channels * scale.filters
        height, width = scale.height, scale.width
        params = torch.full_like(ones, stem + 2 * scale.filters)
        macs = torch.full_like(ones, stem * height * width)
        for stage in range(STAGES):
            channels = scale.filters * 2**stage
            if stage > 0:
                height, width = halve(height, 2), halve(width, 2)
                weights = (channels // 2) * channels * (9 + 1) + 9 * channels**2
                params += weights + 4 * channels
                macs += weights * height * width
            operated = channels // scale.partial
            for count, taps in ((ones, 1), (threes, 9)):
                params += scale.layers * count * (taps * operated**2 + 2 * operated)
                macs += scale.layers * count * taps * operated**2 * height * width
        classifier = (channels + 1) * scale.classes
        return Cost(params + 2 * channels + classifier, macs + classifier)

    def network(
        self,
        scale: Scale,
        generator: torch.Generator,
        row: Sequence[int] | None = None,
        auxiliary: bool = False,
    ) -> CompleteCellNetwork:
        self.refuse_auxiliary(auxiliary)
        return CompleteCellNetwork(scale, self.routes_of(row), generator)
