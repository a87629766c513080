"""Where the parts of a layered graph stand in a drawing: columns by depth, few crossings, straight lines.

The method is that of Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system
structures" (1981): columns by longest path, an order within each column by barycentres, then coordinates.
What a source sends over several columns runs on one shared trunk, so no line passes through a box.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import fmean

Point = tuple[str, int]
"""A source and a column: the source itself in its own column, its trunk in a later one."""

Order = list[list[Point]]
"""The points of each column, bottom first."""

STARTS = 40
SWEEPS = 12
TRUNK_WEIGHT = 5
TRUNK_ROOM = (0.16, 0.16)


@dataclass(frozen=True)
class Layout:
    """A laid out graph.

    column: of every name, 0 on the left.
    height: the y of every point.
    room: what is kept free below and above the y of every point.
    links: the lines between points of neighbouring columns, one for each time a name is read.
    """

    column: dict[str, int]
    height: dict[Point, float]
    room: dict[Point, tuple[float, float]]
    links: list[tuple[Point, Point]]


def arrange(
    parents: Mapping[str, Sequence[str]], rooms: Mapping[str, tuple[float, float]], end: str | None = None
) -> Layout:
    """Lay out the graph in which each name reads its `parents`.

    `parents` lists every name after the names it reads; of two that read nothing, the first stands on top. The name
    `end` stands right of all others.
    `rooms` says what to keep free below and above each name. Equal arguments give equal layouts.
    """
    column: dict[str, int] = {}
    for name, sources in parents.items():
        column[name] = 1 + max((column[source] for source in sources), default=-1)
    if end is not None:
        column[end] = 1 + max((place for name, place in column.items() if name != end), default=-1)
    links = _links(parents, column)
    room = {point: TRUNK_ROOM for link in links for point in link}
    room |= {(name, column[name]): rooms[name] for name in parents}
    columns: Order = [[] for _ in range(1 + max(column.values()))]
    for point in room:
        columns[point[1]].append(point)
    shuffle = random.Random(0)
    orders = []
    for _ in range(STARTS):
        orders += _sweep(columns, links)
        for points in columns:
            shuffle.shuffle(points)
    top = (next(iter(parents)), 0)
    upright = [order if order[0][-1] == top else [points[::-1] for points in order] for order in orders]
    distinct = list({str(order): order for order in upright}.values())
    crossings = [_crossings(order, links) for order in distinct]
    heights = [
        _heights(order, links, room)
        for order, count in zip(distinct, crossings, strict=True)
        if count == min(crossings)
    ]
    return Layout(column, min(heights, key=lambda height: _length(height, links)), room, links)


def _links(parents: Mapping[str, Sequence[str]], column: Mapping[str, int]) -> list[tuple[Point, Point]]:
    """Lines between neighbouring columns: along each trunk, and from it to each reader."""
    links = []
    for source in parents:
        readers = [name for name, sources in parents.items() for read in sources if read == source]
        last = max((column[name] for name in readers), default=0)
        trunk = [(source, index) for index in range(column[source], last)]
        links += list(pairwise(trunk))
        links += [((source, column[name] - 1), (name, column[name])) for name in readers]
    return links


def _sweep(columns: Order, links: list[tuple[Point, Point]]) -> list[Order]:
    """Orders met while each column in turn is sorted by the mean place of its neighbours, to and fro."""
    order = [list(points) for points in columns]
    met = []
    for sweep in range(SWEEPS):
        forwards = sweep % 2 == 0
        neighbours: dict[Point, list[Point]] = {}
        for start, end in links:
            neighbours.setdefault(end if forwards else start, []).append(start if forwards else end)
        for index in range(len(order)) if forwards else reversed(range(len(order))):
            place = {point: rank / len(points) for points in order for rank, point in enumerate(points)}
            order[index] = sorted(
                order[index],
                key=lambda point: fmean(place[other] for other in neighbours.get(point, [point])),
            )
        met.append([list(points) for points in order])
    return met


def _crossings(order: Order, links: list[tuple[Point, Point]]) -> int:
    place = {point: position for points in order for position, point in enumerate(points)}
    return sum(
        (place[first[0]] - place[second[0]]) * (place[first[1]] - place[second[1]]) < 0
        for first, second in combinations(links, 2)
        if first[0][1] == second[0][1]
    )


def _heights(
    order: Order, links: list[tuple[Point, Point]], room: Mapping[Point, tuple[float, float]]
) -> dict[Point, float]:
    """The y of each point: as near to the mean of its neighbours as the order and the rooms allow."""
    neighbours: dict[Point, list[Point]] = {point: [] for points in order for point in points}
    for start, end in links:
        weight = TRUNK_WEIGHT if start[0] == end[0] else 1
        neighbours[start] += [end] * weight
        neighbours[end] += [start] * weight
    height = dict.fromkeys(neighbours, 0.0)
    for _ in range(SWEEPS):
        for points in order:
            # A part that neither reads nor is read stays where it is.
            wish = [fmean(height[other] for other in neighbours[point] or [point]) for point in points]
            height |= zip(points, _spread(wish, [room[point] for point in points]), strict=True)
    return height


def _length(height: Mapping[Point, float], links: list[tuple[Point, Point]]) -> float:
    return sum(abs(height[start] - height[end]) for start, end in links)


def _spread(wish: list[float], rooms: list[tuple[float, float]]) -> list[float]:
    """The places nearest to `wish`, by least squares, that keep order and rooms: pool adjacent violators."""
    offsets = [sum(map(sum, rooms[:index])) + below for index, (below, _) in enumerate(rooms)]
    pools: list[list[float]] = []
    for target, offset in zip(wish, offsets, strict=True):
        pools.append([target - offset])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    bases = [fmean(pool) for pool in pools for _ in pool]
    return [base + offset for base, offset in zip(bases, offsets, strict=True)]
