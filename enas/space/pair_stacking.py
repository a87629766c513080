"""How the cells of NASNet and its kin are stacked: the plan that both the network and its cost are made from.

Zoph et al. 2018, figures 2 and 8, and the authors' TF-slim code; Liu et al. 2018 (PNAS) and Liu et al. 2019 (DARTS)
for the stack whose reduction cells are among the counted ones. A cell reads the output of the cell before it and that
of an earlier one, mostly the cell before the previous one; filters double at each of two reduction cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from enas.errors import UserError
from enas.space.scale import Scale
from enas.space.stacking import STEM, Calibration, Feed, Kind, Placement

Stacking = Literal["cifar", "mobile", "large"]
"""cifar   stem: 3x3 convolution to three times the filters
mobile  ImageNet, 4@1056: 3x3 convolution of stride 2 to 32 channels, two reduction cells of a quarter and half the
        filters
large   ImageNet, 6@4032: the same from 96 channels
"""
IMAGENET_STEM = {"mobile": 32, "large": 96}


@dataclass(frozen=True)
class PairStack:
    """All cells in order, what stands before them, and after which of them the auxiliary head stands."""

    stem_channels: int
    stem_stride: int
    stem_size: tuple[int, int]
    cells: tuple[Placement, ...]
    auxiliary_after: int


def stack_between(scale: Scale, stacking: Stacking, skip: bool) -> PairStack:
    """`scale.layers` normal cells, and reduction cells before number layers // 3 and 2 * layers // 3 of them.

    With `skip` the normal cell after a reduction cell reads, beside it, what the reduction cell's predecessor read,
    as 6@4032 does (skip_reduction_layer_input in the code). The auxiliary head stands before the second reduction cell.
    Raises UserError where the images or the layers are too few for the stem or for `skip`.
    """
    if skip and scale.layers < 3:
        raise UserError(f"network.layers={scale.layers}: allowed is 3 or more where a cell reads past a reduction cell")
    reductions = (scale.layers // 3, 2 * scale.layers // 3)
    plan = _Plan(scale, stacking)
    auxiliary_after = 0
    filters = scale.filters
    for number in range(scale.layers):
        count = reductions.count(number)
        for _ in range(count):
            filters *= 2
            auxiliary_after = max(len(plan.cells) - 1, 0)
            plan.add("reduction", filters)
        plan.add("normal", filters, back=3 if skip and count else 2)
    return plan.stack(auxiliary_after)


def stack_among(scale: Scale, stacking: Stacking, auxiliary: Literal["before", "at"]) -> PairStack:
    """`scale.layers` cells, of which number layers // 3 and 2 * layers // 3 are reduction cells.

    `auxiliary` says whether the auxiliary head reads the second of them or the cell before. Raises UserError as above.
    """
    reductions = (scale.layers // 3, 2 * scale.layers // 3)
    plan = _Plan(scale, stacking)
    auxiliary_after = 0
    filters = scale.filters
    for number in range(scale.layers):
        if number in reductions:
            filters *= 2
            auxiliary_after = max(len(plan.cells) - (auxiliary == "before"), 0)
        plan.add("reduction" if number in reductions else "normal", filters)
    return plan.stack(auxiliary_after)


class _Plan:
    """A stack in the making, its stem done."""

    def __init__(self, scale: Scale, stacking: Stacking):
        self.cells: list[Placement] = []
        self._stride, size = 1, (scale.height, scale.width)
        channels = 3 * scale.filters
        if stacking in IMAGENET_STEM:
            channels, self._stride = IMAGENET_STEM[stacking], 2
            if min(size) < 3:
                raise UserError(f"space.stacking={stacking}: images have to have 3 pixels or more a side, not {size}")
            size = ((scale.height - 3) // 2 + 1, (scale.width - 3) // 2 + 1)
        self._size = size
        self._produced = {STEM: (channels, size)}
        if stacking in IMAGENET_STEM:
            for share in (4, 2):
                self.add("reduction", max(1, scale.filters // share))

    def add(self, kind: Kind, filters: int, back: int = 2) -> None:
        """One more cell, which reads the last output and the one `back` before this cell."""
        position = len(self.cells)
        producers = (max(position - back, STEM), position - 1)
        size = self._produced[producers[1]][1]
        feeds = []
        for producer in producers:
            channels, produced = self._produced[producer]
            calibration: Calibration = "pointwise" if produced == size else "reduction"
            feeds.append(Feed(producer, channels, calibration))
        placement = Placement(kind, filters, *size, (feeds[0], feeds[1]))
        self.cells.append(placement)
        self._produced[position] = (filters, placement.output_size)

    def stack(self, auxiliary_after: int) -> PairStack:
        return PairStack(self._produced[STEM][0], self._stride, self._size, tuple(self.cells), auxiliary_after)


def stem_cost(stack: PairStack, scale: Scale) -> tuple[int, int]:
    """Parameters and multiply-adds of the stem: a 3x3 convolution and its batch norm."""
    weights = 9 * scale.channels * stack.stem_channels
    height, width = stack.stem_size
    return weights + 2 * stack.stem_channels, weights * height * width
