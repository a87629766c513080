"""How far two architectures are apart: NASBOT's optimal transport between layers, and Auto-Keras's edit distance."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from enas.strategy.architecture_graph import Booleans, Feature, Floats, Graphs, Integers

APART = 2.0
"""The cost of two layers that have nothing to do with each other: that of leaving both without a match."""
STRUCTURE = 0.5
"""What a layer of difference in path lengths costs."""
BLOCK = 1 << 17
"""Costs that are computed at once, so that they stay near the processor."""

Distance = Callable[[Graphs, Graphs, Sequence[Feature]], Floats]


def transport_distance(one: Graphs, other: Graphs, features: Sequence[Feature]) -> Floats:
    """OTMANN (Kandasamy et al. 2018, section 3): [n, m] between n and m graphs.

    The least cost of moving the layers of one onto those of the other. A layer on a layer costs how much their labels
    differ plus the mean absolute difference of six path lengths; a layer that is not moved costs 1. Each layer has the
    same mass: a row does not say how many units it has. The plan is then an assignment, and exact.
    """

    def block(first: Graphs) -> Floats:
        cost = _label_costs(first, other, features)
        for number in range(first.lengths.shape[2]):
            lengths, others = first.lengths[:, None, :, None, number], other.lengths[None, :, None, :, number]
            cost += STRUCTURE / first.lengths.shape[2] * np.abs(lengths - others)
        return _assign(np.minimum(cost, APART), first.size, other.size)

    return _in_blocks(block, one, len(other.size) * other.words.shape[1] * one.words.shape[1])


def edit_distance(one: Graphs, other: Graphs, features: Sequence[Feature]) -> Floats:
    """Auto-Keras (Jin et al. 2019, section 3.1): [n, m] between n and m graphs.

    The least cost of editing one sequence of layers into the other, by dynamic programming: 1 for a layer that is
    added or removed, for one that is changed the difference of the labels; plus that of the best matching of their
    skip connections, which are all edges but those from a layer to the next one: two differ by the distance of their
    beginnings and of their reaches, in units of the greater ones, and one without a match costs 1.
    """
    skips, others = _skips(one.edges), _skips(other.edges)

    def block(first: Graphs, start: Integers, size: Integers) -> Floats:
        layers = _edit_sequences(_label_costs(first, other, features), first.size, other.size)
        differences, most = np.zeros(()), np.zeros(())
        for number in (0, 1):
            mine, theirs = start[:, None, :, None, number], others[0][None, :, None, :, number]
            differences, most = differences + np.abs(mine - theirs), most + np.maximum(mine, theirs)
        return layers + _assign(differences / np.maximum(most, 1), size, others[1])

    width = one.words.shape[1] * other.words.shape[1] + skips[0].shape[1] * others[0].shape[1]
    return _in_blocks(block, one, len(other.size) * width, *skips)


def word_cost(one: str, other: str) -> float:
    """How much two operations differ, from 0 to 1, by their names.

    After NASBOT's table: convolutions of different sizes differ by sqrt(2) / 10 times the root of that difference,
    pools by a half; so do all that share a last word. Others have nothing in common.
    """
    if one == other:
        return 0.0
    (name, size), (others, another) = _parse(one), _parse(other)
    if name == others and size != another:
        return min(1.0, math.sqrt(2 * abs(size - another)) / 10)
    return 0.5 if name and others and name[-1] == others[-1] else 1.0


def number_cost(one: str, other: str) -> float:
    """How much two values of a number or of a way to combine differ: relative to the greater, or, of words, by 1."""
    if one == other:
        return 0.0
    try:
        numbers = abs(float(one)), abs(float(other))
        return min(1.0, abs(float(one) - float(other)) / max(numbers))
    except ValueError:
        return 1.0


def _parse(word: str) -> tuple[tuple[str, ...], int]:
    """The words of an operation's name without sizes, and the greatest size: 'separable_3x3' -> ('separable', ), 3."""
    parts = re.split(r"[_\W]+", word)
    sizes = [int(number) for part in parts if re.fullmatch(r"\d+(x\d+)*", part) for number in part.split("x")]
    return tuple(part for part in parts if not re.fullmatch(r"\d+(x\d+)*", part)), max(sizes, default=0)


def _label_costs(one: Graphs, other: Graphs, features: Sequence[Feature]) -> Floats:
    """[n, m, L, M]: how much labels differ, at most APART: the operations' cost plus the mean of the attributes'."""
    size, width = one.words[..., 0].size, len(features)
    layers = np.concatenate([one.words.reshape(-1, width), other.words.reshape(-1, width)])
    labels, place = np.unique(layers, axis=0, return_inverse=True)
    costs = np.zeros((len(labels), len(labels)))
    attributes = np.zeros_like(costs)
    compared = np.zeros_like(costs)
    for words, feature in zip(labels.T, features, strict=True):
        unequal = {"group": lambda a, b: APART * (a != b), "operation": word_cost, "attribute": number_cost}
        table = np.array([[unequal[feature.part](a, b) for b in feature.words] for a in feature.words])
        table = np.pad(table, ((0, 1), (0, 1)), constant_values=1.0)  # against a layer that has no such word
        table[-1, -1] = 0.0
        differences = table[words[:, None], words]
        if feature.part == "attribute":
            attributes += differences
            compared += (words[:, None] >= 0) | (words >= 0)
        else:
            costs += differences
    costs = np.minimum(costs + attributes / np.maximum(compared, 1), APART)
    place = place.reshape(-1)
    mine, theirs = place[:size].reshape(one.words.shape[:2]), place[size:].reshape(other.words.shape[:2])
    found: Floats = costs[mine[:, None, :, None], theirs[None, :, None, :]]
    return found


def _assign(costs: Floats, count: Integers, others: Integers) -> Floats:
    """[n, m]: the least sum of costs [n, m, L, M] of a matching of `count` and `others` members, 1 for each left.

    No cost may be above 2, that of leaving both; then as many as possible are matched.
    """
    from scipy.optimize import linear_sum_assignment

    flat = costs.reshape(-1, *costs.shape[2:])
    sizes = [(size, width) for size in count.tolist() for width in others.tolist()]
    matchings = [linear_sum_assignment(cost[:size, :width]) for cost, (size, width) in zip(flat, sizes, strict=True)]
    rows, columns = (np.concatenate([matching[side] for matching in matchings]) for side in (0, 1))
    pair = np.repeat(np.arange(len(sizes)), [min(size, width) for size, width in sizes])
    matched = np.bincount(pair, flat[pair, rows, columns], len(sizes)).reshape(costs.shape[:2])
    found: Floats = matched + np.abs(count[:, None] - others)
    return found


def _edit_sequences(costs: Floats, count: Integers, others: Integers) -> Floats:
    """[n, m]: the cost of the cheapest edits, given that of each change [n, m, L, M]."""
    n, m, rows, columns = costs.shape
    table = np.zeros((rows + 1, columns + 1, n, m))
    table[:, 0] = np.arange(rows + 1)[:, None, None]
    table[0] = np.arange(columns + 1)[:, None, None]
    for row in range(rows):
        for column in range(columns):
            changed = table[row, column] + costs[:, :, row, column]
            moved = np.minimum(table[row, column + 1], table[row + 1, column]) + 1
            table[row + 1, column + 1] = np.minimum(changed, moved)
    return table[count[:, None], others, np.arange(n)[:, None], np.arange(m)]


def _skips(edges: Booleans) -> tuple[Integers, Integers]:
    """Where skip connections begin and how far they reach, [n, K, 2], and how many there are, [n]."""
    vertices = np.arange(edges.shape[1])
    skipping = edges & (vertices[:, None] - vertices > 1)
    count = skipping.sum(axis=(1, 2))
    skips = np.zeros((len(edges), max(1, int(count.max(initial=0))), 2), dtype=np.int64)
    graph, reader, read = np.nonzero(skipping)
    place = np.arange(len(graph)) - np.repeat(np.cumsum(count) - count, count)
    skips[graph, place] = np.stack([read, reader - read], axis=1)
    return skips, count


def _in_blocks(block: Callable[..., Floats], one: Graphs, width: int, *more: Integers) -> Floats:
    """`block` of a few graphs at a time, so that the costs, `width` a graph, take little memory."""
    step = max(1, BLOCK // max(1, width))
    pieces = [slice(first, first + step) for first in range(0, len(one.size), step)]
    found = [block(one.part(piece), *(part[piece] for part in more)) for piece in pieces]
    return np.concatenate(found)
