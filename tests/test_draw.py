"""Drawings say all that the genotype says, and nothing in them hides anything else."""

import random
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch

from enas.draw import (
    Drawing,
    Part,
    draw_graph,
    figure_to_image,
    plot_comparison,
    plot_scatter,
    save_svg,
)
from enas.draw_parts import OPERATION_COLOURS

OPERATIONS = list(OPERATION_COLOURS)
# The published cells of the authors: source, operation, source, operation of each node.
NORMAL = [0, 2, 0, 0, 0, 4, 0, 1, 0, 4, 1, 1, 1, 0, 0, 1, 0, 2, 1, 1]
REDUCTION = [1, 0, 1, 0, 0, 3, 0, 2, 1, 1, 3, 1, 1, 0, 0, 4, 0, 3, 1, 1]


def cell_graph(row: list[int]) -> dict[str, Any]:
    def name(index: int) -> str:
        return f"input{index}" if index < 2 else f"node{index}"

    nodes = []
    for index in range(0, len(row), 4):
        left, left_operation, right, right_operation = row[index : index + 4]
        nodes.append(
            {
                "name": name(2 + index // 4),
                "left": {"source": name(left), "operation": OPERATIONS[left_operation]},
                "right": {"source": name(right), "operation": OPERATIONS[right_operation]},
            }
        )
    read = {*row[0::4], *row[2::4]}
    return {"nodes": nodes, "output": [name(index) for index in range(2 + len(nodes)) if index not in read]}


def random_row(seed: int, nodes: int = 5) -> list[int]:
    draw = random.Random(seed)
    return [
        number
        for node in range(nodes)
        for number in (
            draw.randrange(node + 2),
            draw.randrange(len(OPERATIONS)),
            draw.randrange(node + 2),
            draw.randrange(len(OPERATIONS)),
        )
    ]


ROWS = [NORMAL, REDUCTION, *(random_row(seed) for seed in range(8)), random_row(8, 1), random_row(9, 7)]


def drawing(row: list[int], combine: str = "concat") -> Drawing:
    graph = cell_graph(row)
    nodes = {
        node["name"]: [Part(side, node[side]["source"], node[side]["operation"]) for side in ("left", "right")]
        for node in graph["nodes"]
    }
    inputs = {"input0": "two cells back", "input1": "one cell back"}
    return Drawing("A cell", "What its nodes do.", inputs, nodes, graph["output"], combine)


def drawn(row: list[int]) -> Figure:
    return draw_graph(drawing(row), "drawn")


def identifiers(figure: Figure) -> set[str]:
    return {str(patch.get_gid()) for patch in figure.axes[0].patches if patch.get_gid() is not None}


def curve_points(patch: PathPatch) -> Any:
    """Points [N, 2] along a line of cubic Bézier curves."""
    vertices = patch.get_path().vertices
    t = np.linspace(0, 1, 50)[:, None]
    curves = [vertices[index : index + 4] for index in range(0, len(vertices) - 1, 3)]
    return np.concatenate(
        [(1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d for a, b, c, d in curves]
    )


@pytest.mark.parametrize("row", ROWS)
def test_every_node_operation_and_edge_is_drawn(row: list[int]) -> None:
    graph = cell_graph(row)
    expected = {"input0", "input1", "output"}
    for node in graph["nodes"]:
        expected.add(node["name"])
        for side in ("left", "right"):
            expected.add(f"{node['name']}.{side}.{node[side]['operation']}")
            expected.add(f"{node[side]['source']}-{node['name']}.{side}")
    expected |= {f"{source}-output" for source in graph["output"]}
    assert {name for name in identifiers(drawn(row)) if not name.endswith("-trunk")} == expected


def test_one_operation_may_read_several_sources_and_a_node_may_have_none() -> None:
    parts = [Part("convolution", source, "conv_3x3") for source in ("image", "empty")]
    nodes = {"empty": [], "layer": parts}
    figure = draw_graph(Drawing("A chain", "", {"image": "read"}, nodes, ["layer"], "as it is"), "drawn")
    assert {name for name in identifiers(figure) if not name.endswith("-trunk")} == {
        "image",
        "empty",
        "layer",
        "layer.convolution.conv_3x3",
        "image-layer.convolution",
        "empty-layer.convolution",
        "layer-output",
        "output",
    }
    assert not any(isinstance(patch, Circle) for patch in figure.axes[0].patches)  # nothing is added


@pytest.mark.parametrize("row", ROWS)
def test_lines_start_at_their_source_and_end_at_their_operation(row: list[int]) -> None:
    figure = drawn(row)
    patches = {str(patch.get_gid()): patch for patch in figure.axes[0].patches}
    chips = {name.rpartition(".")[0]: patch for name, patch in patches.items() if name.count(".") == 2}
    for name, patch in patches.items():
        if "-" not in name or name.endswith("-trunk"):
            continue
        source, _, reader = name.partition("-")
        end = chips.get(reader, patches["output"])
        assert isinstance(end, FancyBboxPatch)
        (x0, y0), (x1, y1) = patch.get_path().vertices[[0, -1]]
        assert end.get_x() - 0.1 < x1 < end.get_x()
        assert y1 == pytest.approx(end.get_y() + end.get_height() / 2)
        box = patches[source]
        assert isinstance(box, FancyBboxPatch)
        near = box.get_x() + box.get_width()
        if x0 == pytest.approx(near):
            assert box.get_y() < y0 < box.get_y() + box.get_height()
        else:
            corners = patches[f"{source}-trunk"].get_path().vertices[::3]
            assert any((x0, y0) == pytest.approx(tuple(corner)) for corner in corners)


def test_lines_to_one_node_do_not_cross() -> None:
    patches = {str(patch.get_gid()): patch for patch in drawn([0, 0, 1, 1, 1, 2, 0, 3]).axes[0].patches}
    heights = {name: patch.get_path().vertices[-1, 1] for name, patch in patches.items() if "-" in name}
    assert heights["input0-node2.left"] > heights["input1-node2.right"]
    assert heights["input0-node3.right"] > heights["input1-node3.left"]


@pytest.mark.parametrize("row", ROWS)
def test_nothing_lies_over_anything_else(row: list[int]) -> None:
    figure = drawn(row)
    patches = figure.axes[0].patches
    cards = [patch for patch in patches if isinstance(patch, FancyBboxPatch) and "." not in str(patch.get_gid())]
    boxes = [(card.get_x(), card.get_y(), card.get_width(), card.get_height()) for card in cards]
    for (x, y, width, height), (other_x, other_y, other_width, other_height) in combinations(boxes, 2):
        apart_across = x + width < other_x or other_x + other_width < x
        assert apart_across or y + height < other_y or other_y + other_height < y
    width, height = figure.get_size_inches()
    assert all(x > 0 and x + w < width and y > 0 and y + h < height for x, y, w, h in boxes)
    for patch in patches:
        if isinstance(patch, PathPatch):
            points = curve_points(patch)
            for x, y, w, h in boxes:
                inside = (points > (x + 0.01, y)) & (points < (x + w - 0.01, y + h))
                assert not inside.all(axis=1).any(), patch.get_gid()


def joined(concatenated: frozenset[str]) -> Figure:
    """A node of two operations with long names."""
    parts = [Part("left", "input0", "dilated_separable_3x3"), Part("right", "input1", "convolution_1x7_7x1")]
    inputs = {"input0": "two cells back", "input1": "one cell back"}
    return draw_graph(
        Drawing("cell", "", inputs, {"node2": parts}, ["node2"], "concat", concatenated=concatenated), "drawn"
    )


def test_a_concatenation_is_marked_otherwise_than_a_sum() -> None:
    marks = {
        concatenated: [line.get_marker() for line in joined(concatenated).axes[0].lines]
        for concatenated in (frozenset[str](), frozenset({"node2"}))
    }
    assert list(marks.values()) == [["+"], ["|", "|"]]


@pytest.mark.parametrize(
    "figure", [drawn([0, 0, 1, 1, 0, 2, 1, 3, 0, 4, 1, 0]), joined(frozenset())], ids=["short", "long"]
)
def test_labels_fit_their_boxes(figure: Figure) -> None:
    renderer = FigureCanvasAgg(figure).get_renderer()
    axes = figure.axes[0]
    boxes = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    for text in axes.texts[2:]:
        extent = text.get_window_extent(renderer)
        assert any(
            box.x0 < extent.x0 and extent.x1 < box.x1 and box.y0 < extent.y0 and extent.y1 < box.y1 for box in boxes
        ), text.get_text()


def test_one_colour_an_operation() -> None:
    assert len(set(OPERATION_COLOURS.values())) == len(OPERATION_COLOURS)
    patches = {str(patch.get_gid()): patch for patch in drawn(NORMAL).axes[0].patches}
    for side in ("left", "right"):
        chip = next(name for name in patches if name.startswith(f"node2.{side}."))
        line = patches[f"input0-node2.{side}"]
        assert line.get_edgecolor() == patches[chip].get_facecolor()


@pytest.mark.parametrize("row", [NORMAL, REDUCTION])
def test_svg_is_valid_and_names_every_node_and_operation(tmp_path: Path, row: list[int]) -> None:
    save_svg(drawn(row), tmp_path / "cell.svg")
    root = ElementTree.parse(tmp_path / "cell.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]
    nodes = cell_graph(row)["nodes"]
    assert {
        "A cell, drawn",
        "What its nodes do.",
        "input0",
        "input1",
        "output",
        *(node["name"] for node in nodes),
    } < set(texts)
    for operation in OPERATIONS:
        count = sum(node[side]["operation"] == operation for node in nodes for side in ("left", "right"))
        assert texts.count(operation.replace("_", " ").replace("x", "×").replace("ma×", "max")) == count


def test_equal_cells_give_equal_files(tmp_path: Path) -> None:
    save_svg(drawn(NORMAL), tmp_path / "first.svg")
    save_svg(drawn(NORMAL), tmp_path / "second.svg")
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()


def test_how_the_output_joins_is_said() -> None:
    texts = [text.get_text() for text in draw_graph(drawing(NORMAL, "concat, 1×1 conv"), "drawn").axes[0].texts]
    assert "concat, 1×1 conv" in texts


def test_a_node_has_any_number_of_parts() -> None:
    parts = [Part(f"edge{source}", f"node{source}", "convolution_7x7") for source in range(3)]
    nodes = {f"node{place}": parts[:place] for place in range(1, 4)}
    figure = draw_graph(Drawing("A graph", "", {"node0": "input"}, nodes, ["node3"], "last node"), "drawn")
    patches = {str(patch.get_gid()): patch for patch in figure.axes[0].patches}
    for name, own in nodes.items():
        card = patches[name]
        assert isinstance(card, FancyBboxPatch)
        for part in own:
            chip = patches[f"{name}.{part.name}.{part.operation}"]
            assert isinstance(chip, FancyBboxPatch)
            assert card.get_y() < chip.get_y() < chip.get_y() + chip.get_height() < card.get_y() + card.get_height()
    assert [text.get_text() for text in figure.axes[0].texts].count("convolution 7×7") == 6
    sums = sum(isinstance(patch, Circle) for patch in figure.axes[0].patches)
    assert sums == 2  # one part is no sum


def test_image_has_the_size_and_the_colours_of_the_figure() -> None:
    figure = drawn(NORMAL)
    image = figure_to_image(figure)
    width, height = figure.get_size_inches() * figure.dpi
    assert image.dtype == np.uint8
    assert image.shape == (int(height), int(width), 3)
    assert (image[0, 0] == 255).all()
    colour = [int(OPERATION_COLOURS["identity"][index : index + 2], 16) for index in (1, 3, 5)]
    assert (image == colour).all(axis=2).any()


def test_comparison_draws_every_value() -> None:
    search, baseline = [0.9, 0.91, 0.91], [0.8, 0.85]
    axes = plot_comparison(search, baseline, "search and random").axes[0]
    points = [np.asarray(collection.get_offsets()) for collection in axes.collections]
    assert [list(rows[:, 0]) for rows in points] == [baseline, search]
    assert points[1][1, 1] != points[1][2, 1]  # equal values stay apart
    assert [label.get_text() for label in axes.get_yticklabels()] == ["random\nn = 2", "search\nn = 3"]
    assert axes.get_title() == "search and random"


def test_scatter_draws_every_child() -> None:
    figure = plot_scatter([0.1, 0.2], [0.8, 0.9], "tau 1.0", "shared", "alone")
    (axes,) = figure.axes
    assert np.asarray(axes.collections[0].get_offsets()).tolist() == [[0.1, 0.8], [0.2, 0.9]]
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("tau 1.0", "shared", "alone")
    assert figure_to_image(figure).ndim == 3
