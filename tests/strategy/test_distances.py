"""The two distances between architectures, against small graphs worked by hand and against plain computations."""

from collections.abc import Callable
from functools import cache
from itertools import permutations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog

from conformance import SPACES, generator
from enas.space import EnasMicro, NasBench201
from enas.strategy.architecture_graph import Blueprint, Graphs
from enas.strategy.distances import Distance, edit_distance, number_cost, transport_distance, word_cost

NONE, SKIP, SMALL, LARGE, POOL = range(5)
DISTANCES: dict[str, Distance] = {"transport": transport_distance, "edit": edit_distance}
RESIZED = 0.2  # a 1x1 and a 3x3 convolution


@pytest.fixture(params=DISTANCES.values(), ids=DISTANCES.keys())
def distance(request: pytest.FixtureRequest) -> Distance:
    found: Distance = request.param
    return found


def between(distance: Distance, one: list[int], other: list[int]) -> float:
    blueprint = Blueprint(NasBench201())
    graphs = [blueprint.graphs(np.array([row])) for row in (one, other)]
    return float(distance(*graphs, blueprint.features)[0, 0])


def test_words_of_operations() -> None:
    assert word_cost("separable_3x3", "separable_3x3") == 0
    assert word_cost("separable_3x3", "separable_5x5") == pytest.approx(0.2)
    assert word_cost("convolution_1x7_7x1", "convolution_1x3_3x1") == pytest.approx(8**0.5 / 10)
    assert word_cost("max_pool_3x3", "average_pool_3x3") == 0.5
    assert word_cost("max_pool_3x3", "max_pool_5x5") == pytest.approx(0.2)
    assert word_cost("separable_3x3", "max_pool_3x3") == 1
    assert word_cost("tanh", "relu") == 1
    assert word_cost("3", "5") < 1  # sizes alone


def test_words_of_numbers() -> None:
    assert number_cost("24", "24") == 0
    assert number_cost("24", "48") == 0.5
    assert number_cost("0", "3") == 1
    assert number_cost("add", "concat") == 1
    assert number_cost("-1", "1") == 1


@pytest.mark.parametrize(
    ("one", "other", "transport", "edit"),
    [
        # input -> 3<-0 -> output; all six lengths of the layer are 1
        ([NONE, NONE, NONE, LARGE, NONE, NONE], [NONE, NONE, NONE, SMALL, NONE, NONE], RESIZED, RESIZED),
        ([NONE, NONE, NONE, LARGE, NONE, NONE], [NONE, NONE, NONE, POOL, NONE, NONE], 1, 1),
        ([NONE, NONE, NONE, LARGE, NONE, NONE], [NONE] * 6, 1, 1),
        # a second layer behind the first: the lengths of the first to the output are 2, its cost half of 3 / 6
        ([NONE, NONE, NONE, LARGE, NONE, NONE], [LARGE, NONE, NONE, NONE, POOL, NONE], 1 + 0.25, 1),
        # two layers beside it are left over; in the sequence input, pool, convolution, identity, output, 0>2, 1>3 and
        # 2>4 are skip connections without a match
        ([NONE, NONE, NONE, LARGE, NONE, NONE], [POOL, NONE, NONE, LARGE, SKIP, NONE], 2, 2 + 3),
    ],
)
def test_worked_by_hand(one: list[int], other: list[int], transport: float, edit: float) -> None:
    assert between(transport_distance, one, other) == pytest.approx(transport)
    assert between(edit_distance, one, other) == pytest.approx(edit)


def test_skip_connections_differ_by_where_they_begin_and_how_far_they_reach() -> None:
    # input, 1<-0, 2<-1, 3<-2, output, with 3<-0 beside (it comes before 3<-2) or 3<-1
    line = [LARGE, NONE, LARGE, NONE, NONE, LARGE]
    assert between(edit_distance, line, line) == 0
    one, other = list(line), list(line)
    one[3], other[4] = LARGE, LARGE
    # 0-1-2-{3<-0 or 3<-1}-{3<-2}-out, equal layers: skips of one are 0>3, 2>4, 3>5; of the other 1>3, 2>4, 3>5
    assert between(edit_distance, one, other) == pytest.approx((1 + 1) / (1 + 3))


def plain_labels(blueprint: Blueprint, one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    total, attributes = 0.0, []
    for feature, mine, theirs in zip(blueprint.features, one.tolist(), other.tolist(), strict=True):
        if feature.part == "group":
            total += 2.0 * (mine != theirs)
        elif mine >= 0 or theirs >= 0:
            cost: Callable[[str, str], float] = word_cost if feature.part == "operation" else number_cost
            both = mine >= 0 and theirs >= 0
            difference = cost(feature.words[mine], feature.words[theirs]) if both else 1.0
            if feature.part == "operation":
                total += difference
            else:
                attributes.append(difference)
    return min(2.0, total + (sum(attributes) / len(attributes) if attributes else 0.0))


def plain_transport(blueprint: Blueprint, one: Graphs, other: Graphs, i: int, j: int) -> float:
    """By a linear program; the last row and column are the place where layers go that have no match."""
    rows, columns = int(one.size[i]), int(other.size[j])
    costs = np.ones((rows + 1, columns + 1))
    costs[-1, -1] = 0
    for row in range(rows):
        for column in range(columns):
            lengths = np.abs(one.lengths[i, row] - other.lengths[j, column]).mean()
            costs[row, column] = plain_labels(blueprint, one.words[i, row], other.words[j, column]) + 0.5 * lengths
    masses = [np.append(np.ones(rows), columns), np.append(np.ones(columns), rows)]
    sums = [np.kron(np.eye(rows + 1), np.ones(columns + 1)), np.kron(np.ones(rows + 1), np.eye(columns + 1))]
    found = linprog(costs.ravel(), A_eq=np.concatenate(sums), b_eq=np.concatenate(masses))
    return float(found.fun)


def plain_edit(blueprint: Blueprint, one: Graphs, other: Graphs, i: int, j: int) -> float:
    @cache
    def edits(rows: int, columns: int) -> float:
        if rows == 0 or columns == 0:
            return float(rows + columns)
        change = plain_labels(blueprint, one.words[i, rows - 1], other.words[j, columns - 1])
        return min(edits(rows - 1, columns) + 1, edits(rows, columns - 1) + 1, edits(rows - 1, columns - 1) + change)

    def skips(edges: NDArray[np.bool_]) -> list[tuple[int, int]]:
        return [(int(read), int(reader - read)) for reader, read in np.argwhere(edges) if reader - read > 1]

    few, many = sorted((skips(one.edges[i]), skips(other.edges[j])), key=len)
    matchings = [
        sum((abs(a - c) + abs(b - d)) / (max(a, c) + max(b, d)) for (a, b), (c, d) in zip(few, chosen, strict=True))
        for chosen in permutations(many, len(few))
    ]
    return edits(int(one.size[i]), int(other.size[j])) + min(matchings) + len(many) - len(few)


@pytest.mark.parametrize("name", ["nasbench201", "nasnet-2", "chain", "growing", "hierarchical-flat"])
def test_transport_is_a_linear_program(name: str) -> None:
    space = SPACES[name]
    blueprint, rows = Blueprint(space), space.random(8, generator()).numpy()
    one, other = blueprint.graphs(rows[:5]), blueprint.graphs(rows[5:])
    found = transport_distance(one, other, blueprint.features)
    expected = [[plain_transport(blueprint, one, other, i, j) for j in range(3)] for i in range(5)]
    assert np.allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("name", ["chain", "growing", "enas_rnn-3-all", "pnas-2"])
def test_edits_are_those_of_a_plain_recursion(name: str) -> None:
    space = SPACES[name]
    blueprint, rows = Blueprint(space), space.random(8, generator()).numpy()
    one, other = blueprint.graphs(rows[:5]), blueprint.graphs(rows[5:])
    found = edit_distance(one, other, blueprint.features)
    expected = [[plain_edit(blueprint, one, other, i, j) for j in range(3)] for i in range(5)]
    assert np.allclose(found, expected)


@pytest.mark.parametrize("name", ["enas_macro-6-sum", "darts-2", "hierarchical", "chain-strides"])
def test_distances_are_symmetric_and_zero_for_equal_rows(name: str, distance: Distance) -> None:
    space = SPACES[name]
    blueprint = Blueprint(space)
    graphs = blueprint.graphs(space.random(7, generator()).numpy())
    found = distance(graphs, graphs, blueprint.features)
    assert np.allclose(found, found.T)
    assert not np.diag(found).any()
    assert (found[~np.eye(7, dtype=bool)] > 0).all()


def test_transport_does_not_see_in_which_order_nodes_and_sides_stand() -> None:
    space = EnasMicro(4)
    blueprint, rows = Blueprint(space), space.random(6, generator())
    canonical = space.canonical(rows)
    assert not torch.equal(rows, canonical)
    one, other = blueprint.graphs(rows.numpy()), blueprint.graphs(canonical.numpy())
    assert np.allclose(np.diag(transport_distance(one, other, blueprint.features)), 0)


def test_a_distance_does_not_depend_on_what_else_is_measured(
    distance: Distance, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = SPACES["darts-2"]
    blueprint = Blueprint(space)
    rows = space.random(9, generator()).numpy()
    other = blueprint.graphs(rows[:4])
    together = distance(blueprint.graphs(rows), other, blueprint.features)
    monkeypatch.setattr("enas.strategy.distances.BLOCK", 1)
    assert np.array_equal(distance(blueprint.graphs(rows), other, blueprint.features), together)
    alone = distance(blueprint.graphs(rows[5:6]), other, blueprint.features)
    assert np.array_equal(alone, together[5:6])
