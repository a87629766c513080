"""The stacks of NASNet's family and DARTS: which cells stand where, and what each reads."""

from dataclasses import replace

import pytest

from enas.errors import UserError
from enas.space import Scale
from enas.space.pair_stacking import STEM, PairStack, stack_among, stack_between

CIFAR = Scale(layers=6, filters=8, height=32, width=30, channels=3, classes=10)
IMAGENET = replace(CIFAR, height=224, width=331)


def kinds(stack: PairStack) -> str:
    return "".join(cell.kind[0] for cell in stack.cells)


def producers(stack: PairStack) -> list[tuple[int, int]]:
    return [(cell.feeds[0].producer, cell.feeds[1].producer) for cell in stack.cells]


def test_reduction_cells_stand_between_normal_ones() -> None:
    stack = stack_between(CIFAR, "cifar", skip=False)
    assert kinds(stack) == "nnrnnrnn"
    assert [cell.filters for cell in stack.cells] == [8, 8, 16, 16, 16, 32, 32, 32]
    assert [(cell.height, cell.width) for cell in stack.cells] == [(32, 30)] * 3 + [(16, 15)] * 3 + [(8, 8)] * 2
    assert producers(stack) == [(STEM, STEM), *[(position - 2, position - 1) for position in range(1, 8)]]
    assert (stack.stem_channels, stack.stem_stride, stack.stem_size) == (24, 1, (32, 30))
    assert stack.auxiliary_after == 4
    for position, cell in enumerate(stack.cells):
        after = position > 0 and stack.cells[position - 1].kind == "reduction"
        assert [feed.calibration for feed in cell.feeds] == ["reduction" if after else "pointwise", "pointwise"]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [(1, "rrn"), (2, "rnrn"), (3, "nrnrn"), (4, "nrnrnn"), (5, "nrnnrnn"), (18, "nnnnnnrnnnnnnrnnnnnn")],
)
def test_any_number_of_layers(layers: int, expected: str) -> None:
    assert kinds(stack_between(replace(CIFAR, layers=layers), "cifar", skip=False)) == expected


@pytest.mark.parametrize(("layers", "expected"), [(1, "r"), (2, "rr"), (3, "nrr"), (8, "nnrnnrnn"), (9, "nnnrnnrnn")])
def test_reduction_cells_among_the_layers(layers: int, expected: str) -> None:
    stack = stack_among(replace(CIFAR, layers=layers), "cifar", "at")
    assert kinds(stack) == expected
    assert stack.cells[stack.auxiliary_after].kind == "reduction"
    before = stack_among(replace(CIFAR, layers=layers), "cifar", "before")
    assert before.cells == stack.cells
    assert before.auxiliary_after == max(stack.auxiliary_after - 1, 0)


@pytest.mark.parametrize(("stacking", "channels"), [("mobile", 32), ("large", 96)])
def test_imagenet_begins_with_two_narrow_reduction_cells(stacking: str, channels: int) -> None:
    stack = stack_between(IMAGENET, stacking, skip=False)  # type: ignore[arg-type]
    assert kinds(stack) == "rrnnrnnrnn"
    assert [cell.filters for cell in stack.cells[:4]] == [2, 4, 8, 8]
    assert (stack.stem_channels, stack.stem_stride, stack.stem_size) == (channels, 2, (111, 165))
    sizes = [cell.output_size for cell in stack.cells if cell.kind == "reduction"]
    assert sizes == [(56, 83), (28, 42), (14, 21), (7, 11)]


def test_the_large_stack_reads_past_a_reduction_cell() -> None:
    stack = stack_between(IMAGENET, "large", skip=True)
    assert kinds(stack) == "rrnnrnnrnn"
    # The cell after the stem's reduction cells reads the two before it, as any other.
    assert producers(stack) == [
        (STEM, STEM), (STEM, 0), (0, 1), (1, 2), (2, 3), (2, 4), (4, 5), (5, 6), (5, 7), (7, 8),
    ]  # fmt: skip
    assert stack.cells[5].feeds[0].calibration == "reduction"


def test_what_cannot_be_stacked_is_refused() -> None:
    with pytest.raises(UserError, match=r"network\.layers=2: allowed is 3 or more"):
        stack_between(replace(IMAGENET, layers=2), "large", skip=True)
    with pytest.raises(UserError, match=r"space\.stacking=mobile: images have to have 3 pixels or more"):
        stack_between(replace(IMAGENET, height=2), "mobile", skip=False)
