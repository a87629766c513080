"""How cells are stacked into a network: the plan that both the network and its cost are made from.

ENAS paper, section 2.4 and figure 4; authors' micro_child.py: `layers` normal cells and two reduction cells at
positions layers // 3 and 2 * (layers // 3) + 1, filters doubled at each. A cell reads the outputs of the two cells
before it, each brought ("calibrated") to the cell's filters and to the size of its nearer input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from enas.space.scale import Scale

Kind = Literal["normal", "reduction"]
Calibration = Literal["none", "pointwise", "reduction"]

STEM = -1
"""The producer that is no cell: a 3x3 convolution to three times the filters and a batch norm."""


@dataclass(frozen=True)
class Feed:
    """One input of a cell: who produces it, in how many channels (a block's, where blocks are concatenated), and how
    it is brought to the cell's filters."""

    producer: int
    channels: int
    calibration: Calibration


@dataclass(frozen=True)
class Placement:
    """One cell of the stack; `height` and `width` are those of its calibrated inputs."""

    kind: Kind
    filters: int
    height: int
    width: int
    feeds: tuple[Feed, Feed]

    @property
    def stride(self) -> int:
        return 2 if self.kind == "reduction" else 1

    @property
    def output_size(self) -> tuple[int, int]:
        return halve(self.height, self.stride), halve(self.width, self.stride)


@dataclass(frozen=True)
class Stack:
    """All cells in order, and after which of them the auxiliary head stands."""

    stem_channels: int
    cells: tuple[Placement, ...]
    auxiliary_after: int


def halve(size: int, stride: int = 2) -> int:
    """Size after a padded operation of this stride."""
    return -(-size // stride)


def stack_cells(scale: Scale, concatenated: bool) -> Stack:
    """The plan of a network at `scale`.

    With `concatenated` outputs the width of a cell's output depends on the row, so that every input is calibrated.
    """
    reductions = (scale.layers // 3, 2 * (scale.layers // 3) + 1)
    filters, size = scale.filters, (scale.height, scale.width)
    stem_channels = 3 * scale.filters
    produced = {STEM: (stem_channels, size)}
    cells: list[Placement] = []
    for position in range(scale.layers + 2):
        kind: Kind = "reduction" if position in reductions else "normal"
        if kind == "reduction":
            filters *= 2
        feeds = []
        for producer in (max(position - 2, STEM), position - 1):
            channels, producer_size = produced[producer]
            calibration: Calibration = "none"
            if producer_size != size:
                calibration = "reduction"
            elif channels != filters or (concatenated and producer != STEM):
                calibration = "pointwise"
            feeds.append(Feed(producer, channels, calibration))
        placement = Placement(kind, filters, *size, (feeds[0], feeds[1]))
        cells.append(placement)
        size = placement.output_size
        produced[position] = (filters, size)
    return Stack(stem_channels, tuple(cells), auxiliary_after=reductions[1] + 1)
