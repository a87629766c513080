"""The graph that a row of any space stands for: its layers, what they are, and how far they are from both ends.

It is made from the space's own words. An operation is a layer, `none` and `absent` are none; an owner that has numbers
or ways to combine but no operation is a layer, too. An owner joins what its operations give and what its skips name.
What is read is what `SearchSpace.sources_of` says; an owner that says nothing of it reads the owner before it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from enas.space import SearchSpace

Booleans = NDArray[np.bool_]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

VOID = ("absent", "none")
"""Operations that make no layer."""
INPUT = 0
INACTIVE = -1
"""In place of the choice of an inactive decision."""


class Feature(NamedTuple):
    """What describes a layer, one word of `words`; `part` is group, operation or attribute."""

    part: str
    words: tuple[str, ...]


class Graphs(NamedTuple):
    """n graphs of at most L layers each, in an order of computation, padded at the end. L is one for all of a space.

    words    int64 [n, L, F]      place of the word that each feature has for the layer, -1 where it has none
    size     int64 [n]            how many layers there are
    lengths  float64 [n, L, 6]    the number of layers on the shortest, the longest and the mean random path from the
                                  input to the layer, itself included, then the same three to the output
    edges    bool [n, L+2, L+2]   [reader, read]: 0 is the input, 1 + l layer l, 1 + size the output
    """

    words: Integers
    size: Integers
    lengths: Floats
    edges: Booleans

    def part(self, which: slice) -> Graphs:
        """The graphs at `which`."""
        return Graphs(self.words[which], self.size[which], self.lengths[which], self.edges[which])


class _Edge(NamedTuple):
    """A possible edge: it is there where the decision at `place` has one of `choices`."""

    read: int
    reader: int
    place: int
    choices: tuple[int, ...]


class Blueprint:
    """All graphs that rows of a space can become: vertices in an order of computation, and the edges there may be.

    Cells and motifs, whose owners have names like `normal/node2`, stand side by side between one input and one output:
    a layer's group is the first part of the name. What nobody reads leads to the output, but for nodes that operations
    name as their source: in such complete graphs it is no part of the network.
    """

    def __init__(self, space: SearchSpace):
        self.space = space
        self._vertices = 1
        self._joints: dict[str, int] = {}  # node -> the vertex that gives its result
        self._edges: list[_Edge] = []
        self._layers: dict[int, tuple[list[int], int]] = {}  # vertex -> the places that describe it, and its group
        self._void: dict[int, tuple[int, ...]] = {}  # vertex -> choices at the first of those places that make no layer
        self._fed: list[int] = []  # vertices that read the input where they read nothing else
        owners: dict[str, list[int]] = {}
        for place, decision in enumerate(space.decisions):
            owners.setdefault(decision.owner, []).append(place)
        named = {node: None for decision in space.decisions for nodes in space.sources_of(decision) for node in nodes}
        for node in named:
            if node not in owners:
                self._joints[node] = self._vertex()
                self._edges.append(self._always(INPUT, self._joints[node]))
        groups = list(dict.fromkeys(_prefix(owner) for owner in owners))
        previous = INPUT
        for owner, places in owners.items():
            previous = self._build(owner, places, groups.index(_prefix(owner)), previous)
        self._output = self._vertex()
        complete = {
            node
            for decision in space.decisions
            if decision.kind == "operation"
            for nodes in space.sources_of(decision)
            for node in nodes
        }
        self._ends = [self._joints[owner] for owner in owners if owner not in complete]
        self.features = (Feature("group", tuple(groups)), *self._compile_features())
        self._compile_edges()

    def _vertex(self) -> int:
        self._vertices += 1
        return self._vertices - 1

    def _always(self, read: int, reader: int) -> _Edge:
        return _Edge(read, reader, 0, tuple(range(INACTIVE, len(self.space.decisions[0].alternatives))))

    def _build(self, owner: str, places: list[int], group: int, previous: int) -> int:
        """Add the vertices of an owner and the edges to them; gives the vertex of its result."""
        decisions = self.space.decisions
        operations = [place for place in places if decisions[place].kind == "operation"]
        skips = [place for place in places if decisions[place].kind == "skip"]
        sources = [p for p in places if p not in operations + skips and any(self.space.sources_of(decisions[p]))]
        attributes = [p for p in places if p not in sources and decisions[p].kind in ("number", "combine")]
        layers = {place: self._vertex() for place in operations}
        joint = self._vertex()
        for number, (place, layer) in enumerate(layers.items()):
            self._layers[layer] = [place, *attributes], group
            words = decisions[place].alternatives
            self._void[layer] = INACTIVE, *(choice for choice, word in enumerate(words) if word in VOID)
            own = [p for p in sources if _prefix(decisions[p].name) in (owner, _prefix(decisions[place].name))]
            for source in [*own, place]:
                self._read(source, layer, (number, len(operations)))
            self._edges.append(self._always(layer, joint))
            if not own and not any(self.space.sources_of(decisions[place])):
                self._edges.append(self._always(previous, layer))
                self._edges.append(_Edge(previous, joint, place, self._void[layer]))
        if not operations and attributes:
            self._layers[joint], self._void[joint] = (attributes, group), (INACTIVE,)
        for place in skips if operations else skips + sources:
            self._read(place, joint)
        if not operations and skips:
            self._fed.append(joint)
        elif not operations and not sources:
            self._edges.append(self._always(previous, joint))
        self._joints[owner] = joint
        return joint

    def _read(self, place: int, reader: int, dealt: tuple[int, int] = (0, 0)) -> None:
        """Add the edges that a decision may make to `reader`. Where it names as many nodes as there are readers, the
        second number of `dealt`, each has one of them: this one that at the first number."""
        for choice, nodes in enumerate(self.space.sources_of(self.space.decisions[place])):
            number, readers = dealt
            for node in nodes[number : number + 1] if len(nodes) == readers else nodes:
                if node in self._joints:  # an owner that comes later cannot be read
                    self._edges.append(_Edge(self._joints[node], reader, place, (choice,)))

    def _compile_features(self) -> list[Feature]:
        """Fill `_places` [layers, F]: where the word of each feature but the group is in a row, -1 where nowhere."""
        features: dict[tuple[str, int], Feature] = {}
        table: list[dict[tuple[str, int], int]] = []
        for places, _ in self._layers.values():
            own: dict[tuple[str, int], int] = {}
            for place in places:
                decision = self.space.decisions[place]
                key = decision.vocabulary, sum(name == decision.vocabulary for name, _ in own)
                own[key] = place
                part = "operation" if decision.kind == "operation" else "attribute"
                features.setdefault(key, Feature(part, decision.alternatives))
            table.append(own)
        found = [[own.get(key, -1) for key in features] for own in table]
        self._places: Integers = np.array(found, dtype=np.int64).reshape(len(table), len(features))
        self._groups: Integers = np.array([group for _, group in self._layers.values()], dtype=np.int64)
        return list(features.values())

    def _compile_edges(self) -> None:
        size = 1 + max(len(decision.alternatives) for decision in self.space.decisions)

        def table(choices: list[tuple[int, ...]]) -> Booleans:
            """[k, 1 + choices]: whether the choice, counted from the inactive one, is among those of each entry."""
            found = np.zeros((len(choices), size), dtype=np.bool_)
            for entry, own in enumerate(choices):
                found[entry, [choice - INACTIVE for choice in own]] = True
            return found

        edges = sorted(self._edges, key=lambda edge: (edge.reader, edge.read))
        ends = [edge[:2] for edge in edges]
        self._starts = np.array([place for place, end in enumerate(ends) if place == 0 or end != ends[place - 1]])
        self._read_at, self._reader_at = np.array(ends)[self._starts].T
        self._edge_places = np.array([edge.place for edge in edges])
        self._edge_table = table([edge.choices for edge in edges])
        self._void_places = np.array([places[0] for places, _ in self._layers.values()], dtype=np.int64)
        self._void_table = table(list(self._void.values()))

    def graphs(self, rows: Integers) -> Graphs:
        """The graphs of rows [n, D]."""
        choices = rows
        if self.space.conditional:
            choices = np.where(self.space.active(torch.from_numpy(rows)).numpy(), rows, INACTIVE)
        there = self._edge_table[np.arange(len(self._edge_places)), choices[:, self._edge_places] - INACTIVE]
        adjacent = np.zeros((len(rows), self._vertices, self._vertices), dtype=np.bool_)
        adjacent[:, self._reader_at, self._read_at] = np.logical_or.reduceat(there, self._starts, axis=1)
        layers = np.array(list(self._layers), dtype=np.int64)
        void = self._void_table[np.arange(len(layers)), choices[:, self._void_places] - INACTIVE]
        present = np.ones((len(rows), self._vertices), dtype=np.bool_)
        present[:, layers] = ~void
        adjacent &= present[:, :, None] & present[:, None, :]
        for vertex in self._fed:
            adjacent[:, vertex, INPUT] = ~adjacent[:, vertex].any(axis=1) & present[:, vertex]
        ends = np.array(self._ends)
        adjacent[:, self._output, ends] = ~adjacent[:, :, ends].any(axis=1) & present[:, ends]
        reached = _reached(_both_ways(adjacent))
        alive = reached[: len(rows)] & reached[len(rows) :, ::-1]
        adjacent &= alive[:, :, None] & alive[:, None, :]
        weight = np.isin(np.arange(self._vertices), layers).astype(np.float64)
        found = _lengths(_both_ways(adjacent), np.repeat([weight, weight[::-1]], len(rows), axis=0))
        places = np.where(self._places < 0, 0, self._places)
        words = np.where(self._places < 0, -1, choices[:, places])
        groups = np.broadcast_to(self._groups[:, None], (*words.shape[:2], 1))
        words = np.concatenate([groups, words], axis=2)
        count = alive[:, layers].sum(axis=1)
        order = np.argsort(~alive[:, layers], axis=1, kind="stable")
        kept = np.arange(order.shape[1]) < count[:, None]
        lengths = np.concatenate([found[: len(rows)], found[len(rows) :, ::-1]], axis=2)[:, layers]
        return Graphs(
            np.where(kept[:, :, None], np.take_along_axis(words, order[:, :, None], axis=1), -1),
            count,
            np.where(kept[:, :, None], np.take_along_axis(lengths, order[:, :, None], axis=1), 0.0),
            self._contracted(adjacent, layers, order, count),
        )

    def _contracted(self, adjacent: Booleans, layers: Integers, order: Integers, count: Integers) -> Booleans:
        """The edges between layers, input and output alone: vertices that only join are passed through."""
        number = len(layers)
        column = {int(vertex): place for place, vertex in enumerate((INPUT, *layers))}
        given = np.zeros((*adjacent.shape[:2], 1 + number), dtype=np.bool_)  # the layers whose results a vertex gives
        taken = np.zeros_like(given)  # those that it reads
        given[:, INPUT, 0] = True
        for vertex in range(1, adjacent.shape[1]):
            read = adjacent[:, vertex, :vertex, None] & given[:, :vertex]
            taken[:, vertex] = read.any(axis=1)
            if vertex in column:
                given[:, vertex, column[vertex]] = True
            else:
                given[:, vertex] = taken[:, vertex]
        size = order.shape[1]
        edges = np.zeros((len(adjacent), size + 2, size + 2), dtype=np.bool_)
        columns = np.concatenate([np.zeros_like(order[:, :1]), 1 + order], axis=1)
        readers = np.concatenate([layers[order], np.full_like(order[:, :1], self._output)], axis=1)
        found = np.take_along_axis(np.take_along_axis(taken, readers[:, :, None], axis=1), columns[:, None, :], axis=2)
        here = np.arange(size + 1) <= count[:, None]  # columns of the input and of layers that there are
        body = found & here[:, None, :]
        edges[:, 1 : size + 1, : size + 1] = body[:, :size] & (np.arange(size) < count[:, None])[:, :, None]
        edges[np.arange(len(edges)), 1 + count, : size + 1] = body[:, size]
        return edges


def _prefix(name: str) -> str:
    """The name without its last part: that of the cell of a node, or of the side of a decision."""
    return name.rpartition("/")[0]


def _both_ways(adjacent: Booleans) -> Booleans:
    """[2n, V, V]: graphs, and then the same from the output to the input."""
    return np.concatenate([adjacent, adjacent[:, ::-1, ::-1].swapaxes(1, 2)])


def _reached(adjacent: Booleans) -> Booleans:
    """[n, V]: which vertices are reached from the first one."""
    reached = np.zeros(adjacent.shape[:2], dtype=np.bool_)
    reached[:, 0] = True
    for vertex in range(1, adjacent.shape[1]):
        reached[:, vertex] = (adjacent[:, vertex, :vertex] & reached[:, :vertex]).any(axis=1)
    return reached


def _lengths(adjacent: Booleans, weight: Floats) -> Floats:
    """[n, V, 3]: the weight [n, V] of the shortest, the longest and the mean random path from the first vertex.

    A random path goes back from a vertex, to each that it reads with the same chance.
    """
    lengths = np.zeros((*adjacent.shape[:2], 3))
    for vertex in range(1, adjacent.shape[1]):
        read, before = adjacent[:, vertex, :vertex], lengths[:, :vertex]
        count = read.sum(axis=1)
        lengths[:, vertex, 0] = np.where(read, before[..., 0], np.inf).min(axis=1)
        lengths[:, vertex, 1] = (read * before[..., 1]).max(axis=1)
        lengths[:, vertex, 2] = (read * before[..., 2]).sum(axis=1) / np.maximum(count, 1)
        lengths[:, vertex] = np.where(count[:, None] > 0, lengths[:, vertex] + weight[:, vertex, None], 0)
    return lengths
