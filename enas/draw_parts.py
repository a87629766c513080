"""What drawings of graphs are made of: the sheet, its colours, and the boxes on it. All lengths are inches."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OPERATION_COLOURS = {
    "separable_3x3": "#2E78B7",
    "separable_5x5": "#173F73",
    "average_pool_3x3": "#D67A1F",
    "max_pool_3x3": "#B5323A",
    "identity": "#1F857C",
    "convolution_3x3": "#7A5BB0",
    "convolution_5x5": "#47307A",
}
INK, LINE, PAPER = "#1F2933", "#8A96A3", "#E9EDF2"
OTHER_COLOUR = "#52606D"
"""Of an operation that has no colour of its own."""

CHIP_WIDTH, CHIP_HEIGHT = 1.32, 0.27
BOX_WIDTH, BOX_HEIGHT = 1.12, 0.52
MARGIN = 0.2
TITLE_LETTER, NOTE_LETTER = 0.12, 0.07


def width_of(title: str, note: str) -> float:
    """The width of a sheet that cuts neither off."""
    return 2 * MARGIN + max(TITLE_LETTER * len(title), NOTE_LETTER * len(note))


def open_sheet(width: float, height: float, title: str, note: str) -> tuple[Figure, Axes]:
    """An empty sheet, with its title and a sentence below it; coordinates are inches from the lower left corner."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    axes.text(MARGIN, height - 0.32, title, size=13, weight="bold", color=INK, va="center")
    axes.text(MARGIN, height - 0.6, note, size=8.5, color=OTHER_COLOUR, va="center")
    return figure, axes


def colour_of(operation: str) -> str:
    """The colour of an operation, by its name."""
    return OPERATION_COLOURS.get(operation, OTHER_COLOUR)


def draw_rounded(axes: Axes, x: float, low: float, width: float, height: float, colour: str, gid: str) -> None:
    """A filled rectangle with round corners; `gid` is its id in the SVG."""
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.07"
    axes.add_patch(FancyBboxPatch((x, low), width, height, style, facecolor=colour, linewidth=0, zorder=3, gid=gid))


def draw_chip(axes: Axes, x: float, y: float, operation: str, gid: str) -> None:
    """An operation; x is its left edge, y its middle."""
    draw_rounded(axes, x, y - CHIP_HEIGHT / 2, CHIP_WIDTH, CHIP_HEIGHT, colour_of(operation), gid)
    label = re.sub(r"(\d)x(\d)", r"\1×\2", operation.replace("_", " "))
    size = min(9, 155 / len(label))  # points; a long name has to fit
    axes.text(x + CHIP_WIDTH / 2, y, label, size=size, color="white", ha="center", va="center", zorder=5)


def draw_box(axes: Axes, x: float, y: float, name: str, note: str, colour: str = INK) -> None:
    """An input, the output, or a node without operations; x is its left edge, y its middle."""
    draw_rounded(axes, x, y - BOX_HEIGHT / 2, BOX_WIDTH, BOX_HEIGHT, colour, name)
    x += BOX_WIDTH / 2
    axes.text(x, y + 0.09, name, size=9.5, weight="bold", color="white", ha="center", va="center", zorder=5)
    axes.text(x, y - 0.1, note, size=7.5, color="#D5DCE4", ha="center", va="center", zorder=5)
