"""The shortest time for a search's work: what has to be moved and computed, over what a chip can do at most.

Bytes and operations are those of `networks.work`, for our network; docs/benchmarks.md says how they are counted.
Depthwise convolutions run on the vector units of a GPU, all other products on its matrix units, and neither waits for
memory here: a floor is the longer of moving and computing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from enas import precision
from enas.bench import networks
from enas.bench.cases import Setting
from enas.bench.machine import Limits, measure_limits
from enas.space import EnasMicro, Scale
from enas.space.enas_micro import CELLS
from enas.space.stacking import stack_cells


class Chip(NamedTuple):
    """What a chip can do at most, a second."""

    copy: float
    """Bytes, read and written."""
    matrix: float
    """Operations of large matrix products; a multiply-add is two."""
    vector: float
    """Operations in float32 outside matrix units."""


_MATRIX = {"fp32": 60e12, "tf32": 395e12, "bf16": 790e12}
"""Hopper: bf16 as measured on 8192 x 8192 products, tf32 at half of it, fp32 on the vector units."""


def known(name: str) -> dict[str, Chip]:
    """GPUs by name, in the precision `name`: the copy rates were measured on one of each."""
    copies = {"H200": 4.3e12, "H100": 3.0e12}
    return {chip: Chip(copy, _MATRIX[name], _MATRIX["fp32"]) for chip, copy in copies.items()}


def measured(setting: Setting, limits: Limits) -> Chip:
    """This machine, whose limits in the precision at hand are `limits`."""
    vector = limits.matrix
    if setting.device.type == "cuda" and setting.precision != "fp32":
        precision.select("fp32")  # no rounding to tf32 meanwhile
        vector = measure_limits(setting.device, "fp32").matrix
        precision.select(setting.precision)
    return Chip(limits.copy, limits.matrix, vector)


class Needs(NamedTuple):
    """Bytes to move, operations of depthwise convolutions and of products."""

    bytes: float
    depthwise: float
    products: float

    def seconds(self, chip: Chip) -> float:
        """The shortest time on `chip`."""
        return max(self.bytes / chip.copy, self.depthwise / chip.vector + self.products / chip.matrix)


def forward(scale: Scale, rows: Tensor, setting: Setting) -> Needs:
    """One child on one batch, the mean over `rows`."""
    moved, operations = networks.work(scale, rows, setting)
    own = 2 * setting.batch_size * depthwise_macs(scale, rows)
    return Needs(moved, own, operations - own)


def step(scale: Scale, rows: Tensor, setting: Setting, parameters: int) -> Needs:
    """A training step of one child: forward, twice as much backward, and the optimiser on all `parameters`."""
    one = forward(scale, rows, setting)
    return Needs(3 * one.bytes + 7 * 4 * parameters, 3 * one.depthwise, 3 * one.products)


def depthwise_macs(scale: Scale, rows: Tensor) -> float:
    """Multiply-adds of all depthwise convolutions on one image, the mean over `rows`."""
    space = EnasMicro()
    operation = rows.reshape(len(rows), 2, space.edges, 2)[..., 1]
    taps = torch.zeros(len(rows), 2, dtype=torch.float64)
    for code, kernel in ((0, 3), (1, 5)):
        taps += 2 * kernel**2 * (operation == code).double().sum(dim=2).cpu()
    means = taps.mean(dim=0).tolist()
    total = 0.0
    for placement in stack_cells(scale, space.output == "concat").cells:
        height, width = placement.output_size
        total += height * width * placement.filters * means[CELLS.index(placement.kind)]
    return total
