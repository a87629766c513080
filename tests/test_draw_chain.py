"""The staircase of a chain says all that the genotype says, and nothing in it hides anything else."""

from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Patch

from conformance import generator
from enas.draw import Drawing, Part, draw_graph
from enas.space import EnasMacro

SIZES = [1, 2, 3, 12, 24]


def drawn(layers: int) -> tuple[EnasMacro, list[int], Figure]:
    space = EnasMacro(layers)
    row = space.random(1, generator(layers))[0].tolist()
    return space, row, draw_graph(space.drawings(row)["network"], "accuracy 0.5123 +- 0.0100 with shared weights")


def named(figure: Figure) -> dict[str, Patch]:
    return {str(patch.get_gid()): patch for patch in figure.axes[0].patches if patch.get_gid() is not None}


@pytest.mark.parametrize("layers", SIZES)
def test_every_layer_operation_and_skip_is_drawn(layers: int) -> None:
    space, row, figure = drawn(layers)
    expected = {"stem", "output"}
    lines = set()
    for layer in space.describe(row)["layers"]:
        expected |= {layer["name"], f"{layer['name']}.operation.{layer['operation']}"}
        expected |= {f"{source}-{layer['name']}" for source in layer["skips"]}
        lines |= {f"{layer['input']}-{layer['name']}.operation", f"{layer['input']}-line"}
    lines |= {f"layer{layers - 1}-output", f"layer{layers - 1}-line"}
    assert named(figure).keys() == expected
    assert {str(line.get_gid()) for line in figure.axes[0].lines if line.get_gid() is not None} == lines


@pytest.mark.parametrize("layers", SIZES)
def test_a_dot_stands_on_the_line_of_its_source_and_in_the_column_of_its_reader(layers: int) -> None:
    _, _, figure = drawn(layers)
    lines = {str(line.get_gid()): line.get_xydata() for line in figure.axes[0].lines}
    patches = named(figure)
    for name, patch in patches.items():
        if isinstance(patch, Circle):
            source, reader = name.split("-")
            x, y = patch.get_center()
            (left, level), (right, _) = lines[f"{source}-line"]
            assert left < x <= right + 1e-9
            assert y == level
            card = patches[reader]
            assert isinstance(card, FancyBboxPatch)
            assert x == pytest.approx(card.get_x() + card.get_width())


@pytest.mark.parametrize("layers", SIZES)
def test_no_card_lies_on_another_or_on_a_line_and_all_is_on_the_sheet(layers: int) -> None:
    _, _, figure = drawn(layers)
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    axes = figure.axes[0]
    boxes = {name: patch.get_window_extent() for name, patch in named(figure).items() if "-" not in name}
    outer = [box for name, box in boxes.items() if "." not in name]
    assert len(outer) == layers + 2
    for one, other in combinations(outer, 2):
        assert not one.overlaps(other)
    words = [text.get_window_extent() for text in axes.texts]
    for box in (*boxes.values(), *words):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    halvings = [text.get_window_extent() for text in axes.texts if text.get_text() == "halved below"]
    assert len(halvings) == (2 if layers >= 3 else 0)
    for word in halvings:
        assert not any(word.overlaps(box) for box in outer)
    for line in axes.lines:
        (x0, y0), (x1, y1) = axes.transData.transform(line.get_xydata()[[0, -1]])
        for box in outer:  # level lines and upright ones: none goes through the inside of a card
            inside = box.x0 + 2 < max(x0, x1) and min(x0, x1) < box.x1 - 2
            inside &= box.y0 + 2 < max(y0, y1) and min(y0, y1) < box.y1 - 2
            assert not inside, line.get_gid()


@pytest.mark.parametrize("layers", SIZES)
def test_names_do_not_run_into_operations(layers: int) -> None:
    _, _, figure = drawn(layers)
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    chips = [patch.get_window_extent() for name, patch in named(figure).items() if ".operation." in name]
    for text in figure.axes[0].texts:
        if text.get_text().startswith("layer"):
            assert not any(text.get_window_extent().overlaps(chip) for chip in chips)


def test_what_is_no_chain_is_refused() -> None:
    nodes = {"layer0": [Part("operation", "stem", "identity")], "layer1": [Part("operation", "stem", "identity")]}
    with pytest.raises(AssertionError, match="a chain is one input"):
        draw_graph(Drawing("t", "n", {"stem": ""}, nodes, ["layer1"], "", {}), "drawn")
