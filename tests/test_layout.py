"""The layout keeps columns, order and room, and finds drawings without crossings where there are any."""

import random
from itertools import combinations, pairwise

import pytest

from enas.layout import Layout, arrange

ROOM = (0.5, 1.0)


def laid_out(parents: dict[str, list[str]]) -> Layout:
    return arrange(parents, dict.fromkeys(parents, ROOM))


def crossings(layout: Layout) -> int:
    return sum(
        (layout.height[a] - layout.height[c]) * (layout.height[b] - layout.height[d]) < 0
        for (a, b), (c, d) in combinations(layout.links, 2)
        if a[1] == c[1]
    )


def random_graph(seed: int) -> dict[str, list[str]]:
    draw = random.Random(seed)
    parents: dict[str, list[str]] = {"0": [], "1": []}
    for node in range(2, 8):
        parents[str(node)] = [str(draw.randrange(node)), str(draw.randrange(node))]
    read = {source for sources in parents.values() for source in sources}
    return parents | {"end": [name for name in parents if name not in read]}


def test_columns_are_longest_paths_and_long_lines_get_a_trunk() -> None:
    layout = laid_out({"a": [], "b": ["a"], "c": ["b", "a"]})
    assert layout.column == {"a": 0, "b": 1, "c": 2}
    assert sorted(layout.height) == [("a", 0), ("a", 1), ("b", 1), ("c", 2)]
    assert sorted(layout.links) == [
        (("a", 0), ("a", 1)),
        (("a", 0), ("b", 1)),
        (("a", 1), ("c", 2)),
        (("b", 1), ("c", 2)),
    ]


def test_a_part_that_nobody_reads_and_that_reads_nothing_has_a_place() -> None:
    layout = laid_out({"a": [], "alone": [], "end": ["a"]})
    assert layout.column == {"a": 0, "alone": 0, "end": 1}
    assert abs(layout.height["alone", 0] - layout.height["a", 0]) >= sum(ROOM)


def test_the_end_stands_right_of_a_deeper_part_that_nobody_reads() -> None:
    parents = {"a": [], "b": ["a"], "deep": ["b"], "end": ["a"]}
    layout = arrange(parents, dict.fromkeys(parents, ROOM), end="end")
    assert layout.column == {"a": 0, "b": 1, "deep": 2, "end": 3}
    assert (("a", 2), ("end", 3)) in layout.links


@pytest.mark.parametrize("seed", range(10))
def test_points_of_a_column_keep_their_rooms(seed: int) -> None:
    layout = laid_out(random_graph(seed))
    for column in range(max(layout.column.values()) + 1):
        points = sorted((point for point in layout.height if point[1] == column), key=layout.height.__getitem__)
        for lower, upper in pairwise(points):
            free = layout.height[upper] - layout.height[lower]
            assert free >= layout.room[lower][1] + layout.room[upper][0] - 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_equal_graphs_give_equal_layouts_with_the_first_source_on_top(seed: int) -> None:
    layout = laid_out(random_graph(seed))
    assert layout == laid_out(random_graph(seed))
    assert layout.height["0", 0] > layout.height["1", 0]


def test_chains_do_not_cross() -> None:
    names = list("abcdef")
    parents: dict[str, list[str]] = {}
    for column in range(4):
        random.Random(column).shuffle(names)
        parents |= {f"{name}{column}": [f"{name}{column - 1}"] if column else [] for name in names}
    assert crossings(laid_out(parents)) == 0


def test_crossings_are_few() -> None:
    # What 2,000 starts in place of 40 find as well.
    fewest = [2, 1, 2, 2, 1, 3, 3, 1, 7, 4]
    assert [crossings(laid_out(random_graph(seed))) for seed in range(10)] == fewest


def test_a_single_chain_is_straight() -> None:
    layout = laid_out({"a": [], "b": ["a"], "c": ["b"]})
    assert len({round(height, 9) for height in layout.height.values()}) == 1
