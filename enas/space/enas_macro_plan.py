"""The plan of a macro network: where layers stand, where everything is halved, and what a row says of each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from enas.space.scale import Scale
from enas.space.stacking import halve

Skips = Literal["concat", "sum"]

OPERATIONS = (
    "convolution_3x3",
    "separable_3x3",
    "convolution_5x5",
    "separable_5x5",
    "average_pool_3x3",
    "max_pool_3x3",
)
"""In the published order; their places are the codes of a route."""
DENSE, SEPARABLE = {0: 3, 2: 5}, {1: 3, 3: 5}
"""Code of a convolution -> side of its filter."""
AVERAGE_POOL = 4


@dataclass(frozen=True)
class Placement:
    """Where a layer stands: the filters and the size of all it reads and gives."""

    filters: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width


def place_layers(scale: Scale, doubling: bool) -> list[Placement]:
    """The plan that both the network and its cost are made from: `scale.layers` placements.

    Authors' general_child.py: everything is halved after layers L // 3 - 1 and 2 * (L // 3) - 1; with `doubling`
    filters double there (their final network), else they stay (their search).
    """
    placements = [Placement(scale.filters, scale.height, scale.width)]
    for layer in range(1, scale.layers):
        last = placements[-1]
        if layer - 1 in pooling_points(scale.layers):
            filters = last.filters * (2 if doubling else 1)
            last = Placement(filters, halve(last.height), halve(last.width))
        placements.append(last)
    return placements


def pooling_points(layers: int) -> tuple[int, ...]:
    """The layers after which everything is halved; none where there are fewer than three."""
    third = layers // 3
    return (third - 1, 2 * third - 1) if third else ()


class Layer(NamedTuple):
    """What a row says of one layer: the code of its operation, and the slots it skips to, in order."""

    code: int
    skips: tuple[int, ...]


def read_layers(edges: Sequence[Sequence[int]]) -> list[Layer]:
    """The layers of one child's routes [D, 3]: of layer i its operation, then one edge for each slot it may skip to."""
    layers: list[Layer] = []
    first = 0
    while first < len(edges):
        skips = edges[first + 1 : first + 1 + len(layers)]
        layers.append(Layer(edges[first][1], tuple(source for source, taken, _ in skips if taken)))
        first += 1 + len(skips)
    return layers


def kept_slots(layers: Sequence[Layer], point: int) -> tuple[int, ...]:
    """The slots up to the output of layer `point` that later layers read; each is reduced behind that layer."""
    read = {point + 1}  # the next layer's input
    for layer in layers[point + 1 :]:
        read |= {slot for slot in layer.skips if slot <= point + 1}
    return tuple(sorted(read))
