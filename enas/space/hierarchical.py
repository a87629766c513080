"""Motifs of motifs: Liu et al. 2017, "Hierarchical Representations for Efficient Architecture Search"."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from enas.draw import Drawing, Part
from enas.errors import UserError
from enas.space.base import Cost, Decision, Resident, SearchSpace
from enas.space.hierarchical_network import (
    CONVOLUTION_1,
    DEPTHWISE_3,
    NONE,
    PRIMITIVES,
    SEPARABLE_3,
    STAGES,
    Edges,
    MotifNetwork,
    complete,
)
from enas.space.mutation import stepwise
from enas.space.network import Network
from enas.space.scale import Scale
from enas.space.stacking import halve

ALLOWED = {"motifs": (0, 20), "motif_nodes": (2, 6), "nodes": (2, 12)}
"""With six nodes, a motif is still one integer of 64 bits."""


class Hierarchical(SearchSpace):
    """One cell, a complete graph of `nodes` nodes whose edges are motifs or `none`; a motif is a complete graph of
    `motif_nodes` nodes whose edges are primitives or `none`. All cells of a network are this cell.

    A node adds what its edges give; node 0 is the input, the last the output; a 1x1 convolution follows a motif. A row
    holds the motifs, then the cell, each as the rows of its triangular matrix: 1<-0, 2<-0, 2<-1, ... A motif that the
    cell does not use stays in the row, as in the published genotype; `canonical` drops it.

    motifs  0 is the flat variant: the cell's own edges are primitives (published with 11 nodes)

    `scale.layers` is the number of cells in each of three stages, `scale.filters` the channels of the first.
    """

    name = "hierarchical"
    static = False

    def __init__(self, motifs: int = 6, motif_nodes: int = 4, nodes: int = 5):
        for key, value in (("motifs", motifs), ("motif_nodes", motif_nodes), ("nodes", nodes)):
            least, most = ALLOWED[key]
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise UserError(f"space.{key}={value}: allowed are {least} to {most}")
        self.motifs, self.motif_nodes, self.nodes = motifs, motif_nodes, nodes
        self._inner: Edges = complete(motif_nodes) if motifs else ()
        self._outer: Edges = complete(nodes)
        names = tuple(f"motif{motif}" for motif in range(1, motifs + 1))
        graphs = [(name, self._inner, PRIMITIVES, "primitive") for name in names]
        of_the_cell = (("none", *names), "motif") if motifs else (PRIMITIVES, "primitive")
        decisions: list[Decision] = []
        for graph, edges, words, vocabulary in [*graphs, ("cell", self._outer, *of_the_cell)]:
            for node, source in edges:
                owner = f"{graph}/node{node}"
                name = f"{owner}/node{source}"
                decisions.append(Decision(name, "operation", words, vocabulary, len(decisions), owner))
        self.decisions = tuple(decisions)
        self.sampling_order = tuple(range(len(self.decisions)))

    @property
    def arguments(self) -> dict[str, Any]:
        return {"motifs": self.motifs, "motif_nodes": self.motif_nodes, "nodes": self.nodes}

    def sources_of(self, decision: Decision) -> tuple[tuple[str, ...], ...]:
        """The operation of an edge reads its source, which its name ends with; motifs are graphs beside the cell."""
        graph, _, source = decision.name.split("/")
        return ((f"{graph}/{source}",),) * len(decision.alternatives)

    def _split(self, choices: Tensor) -> tuple[Tensor, Tensor]:
        """[n, D] -> motifs [n, motifs, edges of a motif], cell [n, edges of the cell]."""
        inside = self.motifs * len(self._inner)
        return choices[:, :inside].reshape(len(choices), self.motifs, len(self._inner)), choices[:, inside:]

    @cached_property
    def _constants(self) -> tuple[Resident, Resident, Resident, Resident]:
        """Sources and rows of the cell's edges [c], and of the edges of the motifs on them [c, e]."""
        outer, inner = len(self._outer), len(self._inner)
        sources = torch.tensor([source for _, source in self._outer])
        inside = torch.tensor([source for _, source in self._inner], dtype=torch.int64).expand(outer, -1)
        rows = torch.arange(outer * inner).reshape(outer, inner)
        return Resident(sources), Resident(torch.arange(outer)), Resident(inside.contiguous()), Resident(rows)

    def route(self, choices: Tensor) -> Tensor:
        """[M, D] -> [M, E, 3]: for each edge of the cell, (source, motif, row) and then, for each edge of that motif,
        (source within the motif, primitive, row). Without motifs, (source, primitive, row) of the cell's edges."""
        motifs, cell = self._split(choices)
        sources, rows, inside, inside_rows = (own.on(choices.device) for own in self._constants)
        count = len(choices)
        triples = torch.stack([sources.expand_as(cell), cell, rows.expand_as(cell)], dim=2).unsqueeze(2)
        if self.motifs:
            table = torch.cat([torch.zeros_like(motifs[:, :1]), motifs], dim=1)
            chosen = table.gather(1, cell.unsqueeze(2).expand(-1, -1, table.shape[2]))
            expanded = [own.expand(count, -1, -1) for own in (inside, inside_rows)]
            triples = torch.cat([triples, torch.stack([expanded[0], chosen, expanded[1]], dim=3)], dim=2)
        return triples.flatten(1, 2).to(torch.int32)

    def _pruned(self, choices: Tensor) -> tuple[Tensor, Tensor]:
        """Motifs and cell with `none` on every edge that is on no way from the input to the output."""
        motifs, cell = self._split(choices)
        if self.motifs:
            motifs = _prune(motifs, self._inner, self.motif_nodes)
            connects = torch.cat([torch.zeros_like(motifs[:, :1, 0]), (motifs != NONE).any(dim=2).long()], dim=1)
            cell = cell * connects.gather(1, cell)
        return motifs, _prune(cell, self._outer, self.nodes)

    def canonical(self, choices: Tensor) -> Tensor:
        """Edges that do nothing become `none`; motifs are numbered as the cell first uses them, equal ones once.

        Orders of the nodes within a graph are not merged.
        """
        motifs, cell = self._pruned(choices)
        if not self.motifs:
            return cell
        powers = len(PRIMITIVES) ** torch.arange(len(self._inner), device=choices.device)
        keys = torch.cat([torch.zeros_like(motifs[:, :1, 0]), (motifs * powers).sum(dim=2)], dim=1).gather(1, cell)
        numbers, kept = torch.zeros_like(cell), torch.zeros_like(keys[:, :1]).repeat(1, self.motifs + 1)
        for place in range(cell.shape[1]):
            key = keys[:, place, None]
            known = (keys[:, :place] == key).long()
            number = torch.where(
                known.any(dim=1), (numbers[:, :place] * known).amax(dim=1) if place else 0, numbers.amax(dim=1) + 1
            )
            numbers[:, place] = torch.where(key[:, 0] == 0, 0, number)
            kept = kept.scatter(1, numbers[:, place, None], key)
        contents = kept[:, 1:, None] // powers % len(PRIMITIVES)
        return torch.cat([contents.flatten(1), numbers], dim=1)

    def picked(self) -> Tensor:
        """As published: the level, then the motif, the node, the node it reads."""
        steps: list[tuple[str, ...]] = []
        for decision in self.decisions:
            graph, node, source = decision.name.split("/")
            steps.append(("cell" if graph == "cell" else "motifs", graph, node, source))
        return stepwise(steps)

    def _graphs(self, row: Sequence[int]) -> dict[str, dict[str, list[tuple[str, str]]]]:
        """Graph -> node -> its edges, each (source, operation)."""
        graphs: dict[str, dict[str, list[tuple[str, str]]]] = {}
        for decision, choice in zip(self.decisions, row, strict=True):
            graph, node, source = decision.name.split("/")
            graphs.setdefault(graph, {}).setdefault(node, []).append((source, decision.alternatives[choice]))
        return graphs

    def describe(self, row: Sequence[int]) -> dict[str, Any]:
        return {
            graph: [
                {"name": node, "edges": [{"source": source, "operation": name} for source, name in edges]}
                for node, edges in nodes.items()
            ]
            for graph, nodes in self._graphs(row).items()
        }

    def text(self, row: Sequence[int]) -> str:
        graphs, lines = self._graphs(row), list[str]()
        for graph, nodes in graphs.items():
            lines.append(f"{graph}{'' if self._uses(row, graph) else ' (not used)'}:")
            for node, edges in nodes.items():
                terms = [f"{name}({source})" for source, name in edges if name != "none"]
                lines.append(f"  {node} = {' + '.join(terms) or 'nothing'}")
        return "\n".join(lines)

    def _uses(self, row: Sequence[int], graph: str) -> bool:
        """Whether the graph is the cell, or a motif on one of its edges."""
        _, cell = self._split(torch.tensor([list(row)]))
        return graph == "cell" or int(graph.removeprefix("motif")) in cell[0].tolist()

    def drawings(self, row: Sequence[int]) -> dict[str, Drawing]:
        drawings = {}
        for graph, nodes in self._graphs(row).items():
            last = list(nodes)[-1]
            drawn = {
                node: [Part(source, source, name) for source, name in edges if name != "none"]
                for node, edges in nodes.items()
            }
            title = graph.replace("motif", "motif ") + ("" if self._uses(row, graph) else " (not used)")
            motif = graph != "cell"
            inputs = {"node0": "of the motif" if motif else "previous cell"}
            combine = f"{last}, 1×1 conv" if motif else last
            note = "A node adds what its edges give; a node that nothing reaches gives nothing."
            drawings[graph] = Drawing(title, note, inputs, drawn, [last], combine)
        return drawings

    def cost(self, choices: Tensor, scale: Scale) -> Cost:
        motifs, cell = self._pruned(choices)
        primitives, projections = cell, torch.zeros_like(cell[:, 0])
        if self.motifs:
            table = torch.cat([torch.zeros_like(motifs[:, :1]), motifs], dim=1)
            primitives = table.gather(1, cell.unsqueeze(2).expand(-1, -1, table.shape[2])).flatten(1)
            projections = (cell != NONE).sum(dim=1)
        count = {code: (primitives == code).sum(dim=1) for code in (CONVOLUTION_1, DEPTHWISE_3, SEPARABLE_3)}
        dense = count[CONVOLUTION_1] + count[SEPARABLE_3] + projections  # products of channels
        taps = count[DEPTHWISE_3] + count[SEPARABLE_3]
        norms = count[CONVOLUTION_1] + count[DEPTHWISE_3] + count[SEPARABLE_3] + projections
        height, width, channels = scale.height, scale.width, scale.filters
        stem = 9 * scale.channels * channels
        params = torch.full_like(dense, stem + 2 * channels)
        macs = torch.full_like(dense, stem * height * width)
        for stage in range(STAGES):
            if stage > 0:
                height, width = halve(height), halve(width)
                weights = 9 * channels + 2 * channels**2
                channels *= 2
                params += weights + 2 * channels
                macs += weights * height * width
            each = scale.layers * (dense * channels**2 + 9 * taps * channels)
            params += each + scale.layers * norms * 2 * channels
            macs += each * height * width
        return Cost(params + channels * scale.classes, macs + channels * scale.classes)

    def network(
        self,
        scale: Scale,
        generator: torch.Generator,
        row: Sequence[int] | None = None,
        auxiliary: bool = False,
    ) -> Network:
        self.refuse_auxiliary(auxiliary)
        return MotifNetwork(scale, self.nodes, self.motif_nodes if self.motifs else 0, self.routes_of(row), generator)


def _prune(codes: Tensor, edges: Edges, nodes: int) -> Tensor:
    """Codes [..., edges] with `none` on every edge that is on no way from the first node to the last."""
    reached = {0: torch.ones_like(codes[..., 0], dtype=torch.bool)}
    useful = {nodes - 1: reached[0]}
    for place, (node, source) in enumerate(edges):
        passes = (codes[..., place] != NONE) & reached[source]
        reached[node] = reached[node] | passes if node in reached else passes
    for place, (node, source) in reversed(list(enumerate(edges))):
        passes = (codes[..., place] != NONE) & useful[node]
        useful[source] = useful[source] | passes if source in useful else passes
    alive = [reached[source] & useful[node] for node, source in edges]
    return torch.where(torch.stack(alive, dim=-1), codes, NONE)
