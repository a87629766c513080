"""How cells are stacked, against the published sizes."""

from dataclasses import replace

import pytest

from conformance import SCALE
from enas.errors import UserError
from enas.space import Scale
from enas.space.stacking import STEM, halve, stack_cells

CIFAR = Scale(layers=6, filters=20, height=32, width=32, channels=3, classes=10)


@pytest.mark.parametrize(("layers", "filters", "reductions", "auxiliary"), [(6, 20, [2, 5], 6), (15, 36, [5, 11], 12)])
def test_the_published_stacks(layers: int, filters: int, reductions: list[int], auxiliary: int) -> None:
    stack = stack_cells(replace(CIFAR, layers=layers, filters=filters), concatenated=False)
    assert len(stack.cells) == layers + 2
    assert [position for position, cell in enumerate(stack.cells) if cell.kind == "reduction"] == reductions
    assert stack.stem_channels == 3 * filters
    assert stack.auxiliary_after == auxiliary
    widths = [cell.filters for cell in stack.cells]
    first, second = reductions
    assert widths == [filters] * first + [2 * filters] * (second - first) + [4 * filters] * (layers + 2 - second)
    sizes = [cell.output_size for cell in stack.cells]
    assert sizes == [(32, 32)] * first + [(16, 16)] * (second - first) + [(8, 8)] * (layers + 2 - second)


@pytest.mark.parametrize("concatenated", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("size", [(1, 1), (7, 2), (32, 32)])
def test_every_input_is_brought_to_the_cell(layers: int, size: tuple[int, int], concatenated: bool) -> None:
    stack = stack_cells(replace(SCALE, layers=layers, height=size[0], width=size[1]), concatenated)
    assert [cell.kind for cell in stack.cells].count("reduction") == 2
    produced = {STEM: (stack.stem_channels, size)}
    for position, cell in enumerate(stack.cells):
        assert [feed.producer for feed in cell.feeds] == [max(position - 2, STEM), position - 1]
        for feed in cell.feeds:
            channels, (height, width) = produced[feed.producer]
            assert feed.channels == channels
            if feed.calibration == "reduction":
                height, width, channels = halve(height), halve(width), cell.filters
            elif feed.calibration == "pointwise":
                channels = cell.filters
            assert (channels, height, width) == (cell.filters, cell.height, cell.width)
            if concatenated and feed.producer != STEM:
                assert feed.calibration != "none"
        produced[position] = (cell.filters, cell.output_size)


def test_an_input_that_fits_is_taken_as_it_is() -> None:
    cells = stack_cells(CIFAR, concatenated=False).cells
    assert [feed.calibration for feed in cells[1].feeds] == ["pointwise", "none"]  # the stem is wider
    assert [feed.calibration for feed in cells[3].feeds] == ["reduction", "none"]  # before and after a reduction
    assert [feed.calibration for feed in cells[7].feeds] == ["none", "none"] or cells[6].kind == "reduction"
    concatenated = stack_cells(CIFAR, concatenated=True).cells
    assert [feed.calibration for feed in concatenated[4].feeds] == ["pointwise", "pointwise"]


@pytest.mark.parametrize("key", ["layers", "filters"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_network_without_layers_or_filters_is_refused(key: str, value: int) -> None:
    with pytest.raises(UserError, match=rf"network\.{key}={value}: allowed is 1 or more"):
        replace(SCALE, **{key: value})


def test_halving_rounds_up() -> None:
    assert [halve(size) for size in (1, 2, 3, 8, 9)] == [1, 1, 2, 4, 5]
    assert halve(9, 1) == 9
    assert halve(10, 3) == 4
