"""The cost of a row against the network that it counts."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from conformance import generator
from enas import kernels
from enas.space import EnasMicro, Scale
from enas.supernet import Child

SMALL = Scale(layers=2, filters=3, height=8, width=8, channels=3, classes=5)


def counted(space: EnasMicro, row: list[int], scale: Scale) -> tuple[int, int]:
    """Parameters of the stand-alone network, and the multiply-adds that torch sees in its forward pass."""
    kernels.select("reference", torch.device("cpu"))
    child = Child(space, row, scale, generator()).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        child(torch.zeros(1, scale.height, scale.width, scale.channels))
    assert counter.get_total_flops() % 2 == 0
    return sum(parameter.numel() for parameter in child.parameters()), counter.get_total_flops() // 2


@pytest.mark.parametrize("output", ["project", "concat"])
@pytest.mark.parametrize(
    "scale",
    [
        SMALL,
        replace(SMALL, layers=1, filters=4, height=7, width=5, channels=1),
        replace(SMALL, layers=3, filters=5, height=13, width=11, classes=2),
        replace(SMALL, layers=6, filters=2, height=3, width=2),
    ],
    ids=["8x8", "7x5x1", "13x11", "3x2"],
)
def test_cost_is_what_the_child_has_and_does(output: str, scale: Scale) -> None:
    space = EnasMicro(3, output)  # type: ignore[arg-type]
    rows = space.random(8, generator(scale.height))
    params, macs = space.cost(rows, scale)
    for index, row in enumerate(rows.tolist()):
        assert (int(params[index]), int(macs[index])) == counted(space, row, scale)


@pytest.mark.parametrize("output", ["project", "concat"])
@pytest.mark.parametrize("operation", range(5))
def test_cost_of_cells_of_one_operation(output: str, operation: int) -> None:
    space = EnasMicro(2, output)  # type: ignore[arg-type]
    for sources in ([0, 1, 0, 1], [1, 1, 2, 2], [0, 0, 0, 2]):
        row = [integer for source in sources for integer in (source, operation)] * 2
        params, macs = space.cost(torch.tensor([row]), SMALL)
        assert (int(params), int(macs)) == counted(space, row, SMALL)


def test_the_published_cell_at_the_published_scale() -> None:
    space = EnasMicro(output="concat")
    row = space.parse("0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1", "1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1")
    scale = Scale(layers=15, filters=36, height=32, width=32, channels=3, classes=10)
    params, macs = space.cost(torch.tensor([row]), scale)
    assert (int(params), int(macs)) == counted(space, row, scale)
    assert int(params) == 3_729_420  # 17 cells at 36 filters
