"""A drawing of a chain of nodes with many connections between them: a staircase, which stays readable with any number.

Each node stands a step lower and further right than the one before it. What it gives runs level to the right; what it
joins comes down a column of its own, with a dot on the line of every source. Lines so cross at right angles only, and
none passes through a node.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from enas.draw_parts import (
    BOX_HEIGHT,
    BOX_WIDTH,
    CHIP_WIDTH,
    INK,
    LINE,
    MARGIN,
    OTHER_COLOUR,
    PAPER,
    draw_box,
    draw_chip,
    draw_rounded,
    open_sheet,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from enas.draw import Drawing

NAME_WIDTH, CARD_HEIGHT = 0.84, 0.33
CARD_WIDTH = NAME_WIDTH + CHIP_WIDTH
STEP, DROP = 0.42, 0.5
"""From one node to the next: to the right, and down."""
RING, DOT = 0.075, 0.05
HEADER, LEAST, ASIDE = 1.05, 7.8, 0.5
"""Above the first node; the width that a title needs; what a word beside the nodes needs."""


def draw_chain(drawing: Drawing, said: str) -> Figure:
    """Draw a chain: one input, nodes of one part that reads the name before, and the output, which reads the last.

    The parts have their names as ids in the SVG: `layer2`, `layer2.operation.separable_3x3`, `layer1-layer2.operation`
    for what an operation reads, `stem-layer2` for the dot of what is joined, `layer2-output`.
    """
    joins = drawing.joins or {}
    names = [*drawing.inputs, *drawing.nodes]
    read = [part.source for parts in drawing.nodes.values() for part in parts]
    assert [*read, *drawing.output] == names, "a chain is one input, and nodes that each read the one before"
    left = MARGIN + (ASIDE if drawing.halved else 0.0)
    wide = max(left + CARD_WIDTH + STEP * (len(names) - 0.5) + BOX_WIDTH / 2 + MARGIN, LEAST)
    high = HEADER + DROP * len(names) + BOX_HEIGHT / 2 + MARGIN
    figure, axes = open_sheet(wide, high, f"{drawing.title}, {said}", drawing.note)
    ends = [*names, "output"]
    x = {name: left + CARD_WIDTH + STEP * place for place, name in enumerate(ends)}  # where a node ends
    y = {name: high - HEADER - DROP * place for place, name in enumerate(ends)}
    for source, follower in pairwise(ends):
        readers = [x[name] for name in names if source in joins.get(name, ())]
        _draw_line(axes, (x[source], y[source]), max(readers, default=0.0), f"{source}-line")
        reader, height = "output", BOX_HEIGHT
        if follower in drawing.nodes:
            reader, height = f"{follower}.{drawing.nodes[follower][0].name}", CARD_HEIGHT
        _draw_arrow(axes, x[source] + STEP / 2, y[source], y[follower] + height / 2, f"{source}-{reader}")
    for name in names:
        heights = {source: y[source] for source in joins.get(name, ())}
        if heights:
            _draw_joins(axes, name, (x[name], y[name]), heights)
    first = names[0]
    draw_box(axes, x[first] - BOX_WIDTH, y[first], first, drawing.inputs[first])
    for name, (part,) in drawing.nodes.items():
        draw_rounded(axes, x[name] - CARD_WIDTH, y[name] - CARD_HEIGHT / 2, CARD_WIDTH, CARD_HEIGHT, PAPER, name)
        axes.text(x[name] - CARD_WIDTH + 0.09, y[name], name, size=9.5, weight="bold", color=INK, va="center", zorder=5)
        chip = x[name] - CHIP_WIDTH - RING - 0.02
        draw_chip(axes, chip, y[name], part.operation, f"{name}.{part.name}.{part.operation}")
    draw_box(axes, x[names[-1]] + STEP / 2 - BOX_WIDTH / 2, y["output"], "output", drawing.combine)
    for name in drawing.halved:
        level = y[name] - DROP / 2
        axes.plot([MARGIN, wide - MARGIN], [level] * 2, color=LINE, linewidth=0.8, dashes=(4, 3), zorder=0)
        axes.text(MARGIN, level + 0.08, "halved below", size=7.5, color=OTHER_COLOUR, va="center")
    return figure


def _draw_line(axes: Axes, start: tuple[float, float], end: float, gid: str) -> None:
    """What a node gives, level to its last reader, at least to where the next node takes it."""
    x, y = start
    axes.plot([x, max(x + STEP / 2, end)], [y, y], color=LINE, linewidth=1.7, solid_capstyle="butt", zorder=1, gid=gid)


def _draw_arrow(axes: Axes, x: float, high: float, low: float, gid: str) -> None:
    """Down to what the next node reads."""
    axes.plot([x, x], [high, low + 0.06], color=LINE, linewidth=1.7, zorder=1, gid=gid)
    axes.fill([x, x - 0.05, x + 0.05], [low, low + 0.1, low + 0.1], color=LINE, linewidth=0, zorder=4)


def _draw_joins(axes: Axes, name: str, end: tuple[float, float], heights: Mapping[str, float]) -> None:
    """The column of a node that joins others: a dot on the line of each, and a ring where the node ends."""
    from matplotlib.patches import Circle

    x, y = end
    column = [max(heights.values()), y]
    axes.plot([x, x], column, color="white", linewidth=4.5, solid_capstyle="butt", zorder=1.5)
    axes.plot([x, x], column, color=INK, linewidth=1.3, zorder=2)
    for source, height in heights.items():
        axes.add_patch(Circle((x, height), DOT, facecolor=INK, linewidth=0, zorder=3, gid=f"{source}-{name}"))
    axes.add_patch(Circle((x, y), RING, facecolor="white", edgecolor=INK, linewidth=1.2, zorder=5))
