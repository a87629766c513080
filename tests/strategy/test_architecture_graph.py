"""The graph of a row: what is a layer, who reads whom, and how long the ways are."""

import numpy as np
import pytest

from conformance import SPACES, Growing, generator
from enas.space import (
    Chain,
    Darts,
    Decision,
    EnasMacro,
    EnasMicro,
    EnasRnn,
    Hierarchical,
    NasBench201,
    NasNet,
    SearchSpace,
)
from enas.strategy.architecture_graph import Blueprint, Graphs

NONE, SKIP, SMALL, LARGE, POOL = range(5)


def graphs(space: SearchSpace, *rows: list[int]) -> Graphs:
    return Blueprint(space).graphs(np.array(rows))


def edges(graph: Graphs, row: int = 0) -> set[tuple[int, int]]:
    """(read, reader): 0 is the input, 1 + l layer l, the last the output."""
    return {(int(read), int(reader)) for reader, read in np.argwhere(graph.edges[row])}


def named(space: SearchSpace, **choices: str) -> list[int]:
    """The row in which decisions have these words, all others their first; / is written __."""
    row = [0] * len(space.decisions)
    for name, word in choices.items():
        place = [decision.name for decision in space.decisions].index(name.replace("__", "/"))
        row[place] = space.decisions[place].alternatives.index(word)
    return row


def test_edges_of_a_complete_cell_are_layers() -> None:
    graph = graphs(NasBench201(), [LARGE] * 6, [LARGE, NONE, POOL, NONE, NONE, SKIP])
    assert graph.size.tolist() == [6, 3]
    whole = {(0, 1), (0, 2), (1, 3), (0, 4), (1, 5), (2, 6), (3, 6), (4, 7), (5, 7), (6, 7)}
    assert edges(graph) == whole
    assert edges(graph, 1) == {(0, 1), (1, 2), (2, 3), (3, 4)}
    assert graph.words[1].tolist() == [[0, LARGE], [0, POOL], [0, SKIP], [-1, -1], [-1, -1], [-1, -1]]


def test_what_leads_nowhere_or_comes_from_nowhere_is_no_part_of_a_complete_cell() -> None:
    # 1<-0 and 2<-1 are not read, then 3<-2 reads nothing
    graph = graphs(NasBench201(), [LARGE, NONE, SMALL, POOL, NONE, NONE], [NONE, NONE, NONE, POOL, SMALL, LARGE])
    for row in (0, 1):
        assert graph.size[row] == 1
        assert graph.words[row, 0].tolist() == [0, POOL]
    assert graphs(NasBench201(), [NONE] * 6).size.tolist() == [0]


def ways(count: int, found: set[tuple[int, int]], end: int, before: bool) -> list[list[tuple[int, float]]]:
    """For each layer all ways to `end`, each its number of layers and its probability, by walking them one by one."""

    def walk(vertex: int) -> list[tuple[int, float]]:
        if vertex == end:
            return [(0, 1.0)]
        steps = [read if before else reader for read, reader in found if (reader if before else read) == vertex]
        own = 1 <= vertex <= count
        return [(own + length, chance / len(steps)) for step in steps for length, chance in walk(step)]

    return [walk(layer) for layer in range(1, count + 1)]


@pytest.mark.parametrize("name", ["nasbench201", "growing", "enas_macro-4-concat", "darts-2", "pnas-2", "chain"])
def test_lengths_are_those_of_all_ways(name: str) -> None:
    """Where vertices that only join have one way to each layer, walking over layers alone is the same."""
    space = SPACES[name]
    graph = Blueprint(space).graphs(space.random(12, generator()).numpy())
    for row in range(12):
        count, found = int(graph.size[row]), edges(graph, row)
        for first, end, before in ((0, 0, True), (3, count + 1, False)):
            for layer, lengths in enumerate(ways(count, found, end, before)):
                shortest, longest, _ = graph.lengths[row, layer, first : first + 3]
                assert shortest == min(length for length, _ in lengths)
                assert longest == max(length for length, _ in lengths)
        assert not graph.lengths[row, count:].any()


def test_random_ways_are_weighted_by_their_chance() -> None:
    graph = graphs(NasBench201(), [LARGE, LARGE, LARGE, LARGE, NONE, LARGE])
    # The last layer, 3<-2, reads node 2: from 2<-0 one layer, from 2<-1 two; 3<-0 is not on its way.
    assert graph.lengths[0, 4].tolist() == [2, 3, 2.5, 1, 1, 1]
    assert graph.lengths[0, 0].tolist() == [1, 1, 1, 3, 3, 3]


def test_sources_of_sides_and_loose_ends() -> None:
    space = EnasMicro(2)
    row = named(space, normal__node3__left__source="normal/node2", reduction__node2__left__operation="identity")
    graph = graphs(space, row)
    assert graph.size.tolist() == [8]
    # normal: node 2 (layers 1, 2) is read by node 3's left side (3); node 3 and both nodes of the reduction are loose
    inputs = {(0, layer) for layer in (1, 2, 4, 5, 6, 7, 8)}
    assert edges(graph) == inputs | {(1, 3), (2, 3)} | {(layer, 9) for layer in (3, 4, 5, 6, 7, 8)}
    assert [word for word, _ in graph.words[0].tolist()] == [0] * 4 + [1] * 4


def test_a_pair_of_sources_is_dealt_to_the_two_sides() -> None:
    space = Darts(2)
    row = named(
        space,
        normal__node2__left__operation="identity",
        normal__node2__right__operation="none",
        normal__node3__sources="input1+node2",
        normal__node3__left__operation="separable_3x3",
        normal__node3__right__operation="separable_5x5",
    )
    graph = graphs(space, row)
    assert graph.size.tolist() == [3]  # `none` is no layer, and the reduction cell has no other
    assert edges(graph) == {(0, 1), (0, 2), (1, 3), (2, 4), (3, 4)}


def test_layers_of_a_chain_read_the_layer_before_and_join_skips() -> None:
    space = EnasMacro(4)
    graph = graphs(space, named(space, layer1__skip__stem="stem", layer2__skip__layer0="layer0"))
    assert edges(graph) == {(0, 1), (1, 2), (2, 3), (0, 3), (3, 4), (1, 4), (4, 5)}


def test_layers_without_operations_are_described_by_numbers_and_read_what_skips_name() -> None:
    space = Chain(3)
    graph = graphs(space, named(space, layer2__skip__layer0="layer0", layer2__height="5"))
    assert edges(graph) == {(0, 1), (0, 2), (1, 3), (2, 4), (3, 4)}
    height = 1 + [feature.words for feature in Blueprint(space).features[1:]].index(("1", "3", "5", "7"))
    assert graph.words[0, 2, height] == 2


def test_a_tree_of_nodes() -> None:
    space = EnasRnn(3)
    graph = graphs(space, named(space, recurrent__node3__source="recurrent/node1"))
    assert edges(graph) == {(0, 1), (0, 2), (1, 3), (2, 4), (3, 4)}


def test_layers_that_are_absent_are_none() -> None:
    space = Growing()
    graph = graphs(space, named(space), named(space, layer0__operation="large", layer0__combine="maximum"))
    assert graph.size.tolist() == [1, 2]  # the owner of the width stands for itself
    parts = [feature.part for feature in Blueprint(space).features]
    assert parts == ["group", "attribute", "operation", "attribute"]
    assert graph.words[1].tolist()[:2] == [[0, 0, -1, -1], [0, -1, 2, 1]]


class Column(Growing):
    """Layers one behind the other, each of which may be nothing, and a width in each."""

    conditional = False

    def __init__(self) -> None:
        words, widths = ("none", "small", "large"), ("8", "16")
        self.decisions = tuple(
            Decision(f"layer{layer}/{name}", kind, alternatives, name, 2 * layer + place, f"layer{layer}")
            for layer in range(3)
            for place, (name, kind, alternatives) in enumerate(
                [("operation", "operation", words), ("width", "number", widths)]  # type: ignore[list-item]
            )
        )
        self.sampling_order = tuple(range(6))


def test_what_makes_no_layer_in_a_chain_is_passed_by() -> None:
    graph = graphs(Column(), [1, 0, 0, 1, 2, 1], [0, 0, 0, 0, 0, 0])
    assert graph.size.tolist() == [2, 0]
    assert edges(graph) == {(0, 1), (1, 2), (2, 3)}
    assert edges(graph, 1) == {(0, 1)}
    assert graph.words[0, :2, 1:].tolist() == [[1, 0], [2, 1]]


def test_motifs_stand_beside_the_cell() -> None:
    space = Hierarchical(motifs=1, motif_nodes=2, nodes=3)
    graph = graphs(
        space, named(space, motif1__node1__node0="identity", cell__node1__node0="motif1", cell__node2__node1="motif1")
    )
    assert edges(graph) == {(0, 1), (1, 4), (0, 2), (2, 3), (3, 4)}
    assert graph.words[0, :3, 0].tolist() == [0, 1, 1]


def test_joins_describe_the_operations_of_their_node() -> None:
    space = NasNet(2)
    graph = graphs(space, named(space, normal__node2__join="concat"))
    assert graph.words[0, :4, 2].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_the_graph_of_a_row_does_not_depend_on_its_company(space: SearchSpace) -> None:
    rows, blueprint = space.random(9, generator()).numpy(), Blueprint(space)
    together = blueprint.graphs(rows)
    for row in range(0, 9, 4):
        for one, alone in zip(together, blueprint.graphs(rows[row : row + 1]), strict=True):
            assert np.array_equal(one[row : row + 1], alone)
    layers = np.arange(together.edges.shape[1])
    assert not together.edges[:, layers[:, None] <= layers].any()  # nothing reads itself, or what comes later
    assert (together.edges.any(axis=2).sum(axis=1) == together.size + (together.size > 0)).all()
