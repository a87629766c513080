"""Drawings for a run directory and for TensorBoard: the graphs of a genotype, and the plots of a report.

Figures are made without pyplot, so that nothing global is kept, and matplotlib is imported where it is used.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from enas.files import written_whole
from enas.layout import Layout, arrange

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OPERATION_COLOURS = {
    "separable_3x3": "#2E78B7",
    "separable_5x5": "#173F73",
    "average_pool_3x3": "#D67A1F",
    "max_pool_3x3": "#B5323A",
    "identity": "#1F857C",
}
INK, LINE, PAPER = "#1F2933", "#8A96A3", "#E9EDF2"
OTHER_COLOUR = "#52606D"
"""Of an operation that has no colour of its own."""

# All lengths of a drawn graph are inches.
CARD_WIDTH, CARD_BELOW, CARD_ABOVE, CARD_NAME = 1.54, 0.215, 0.515, 0.335  # the last three beyond the outer chips
CHIP_WIDTH, CHIP_HEIGHT, CHIP_RISE = 1.32, 0.27, 0.155
BOX_WIDTH, BOX_HEIGHT = 1.12, 0.52
GAP, CLIMB = 0.66, 0.2
MARGIN, HEADER, SPACE = 0.2, 0.7, 0.14
SUM_RADIUS = 0.1


class Part(NamedTuple):
    """One operation of a node, and what it reads."""

    name: str
    source: str
    operation: str


@dataclass(frozen=True)
class Drawing:
    """What a space says of a graph to be drawn; names are those of the genotype.

    title     what is drawn: normal cell
    note      a sentence below the title
    inputs    name -> what it is
    nodes     name -> its parts, whose results it adds; in an order in which each reads what stands before it
    output    the names it reads, and `combine`, how it joins them
    concatenated  the nodes that do not add their results but put them side by side
    """

    title: str
    note: str
    inputs: Mapping[str, str]
    nodes: Mapping[str, Sequence[Part]]
    output: Sequence[str]
    combine: str
    concatenated: frozenset[str] = frozenset()


def draw_graph(drawing: Drawing, said: str) -> "Figure":
    """Draw a graph, data flowing from left to right; `said` of it stands in the title.

    Every node is a card that holds its operations and adds their results; a line runs from what an operation reads to
    that operation. The parts have their names as ids in the SVG: `node2`, `node2.left.separable_3x3`,
    `input0-node2.left`, `node2-output`.
    """
    from matplotlib.figure import Figure

    parents: dict[str, list[str]] = {name: [] for name in drawing.inputs}
    parents |= {name: [part.source for part in parts] for name, parts in drawing.nodes.items()}
    parents["output"] = list(drawing.output)
    box = (BOX_HEIGHT / 2 + SPACE, BOX_HEIGHT / 2 + SPACE)
    rooms = dict.fromkeys(parents, box)
    for name, parts in drawing.nodes.items():
        rooms[name] = (_reach(parts) + CARD_BELOW + SPACE, _reach(parts) + CARD_ABOVE + SPACE)
    sheet = _Sheet(arrange(parents, rooms))
    figure = Figure(figsize=(sheet.width, sheet.height), dpi=150, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, sheet.width), ylim=(0, sheet.height))
    axes.set_axis_off()
    axes.text(MARGIN, sheet.height - 0.32, f"{drawing.title}, {said}", size=13, weight="bold", color=INK, va="center")
    axes.text(MARGIN, sheet.height - 0.6, drawing.note, size=8.5, color="#52606D", va="center")
    lines: dict[str, list[_Line]] = {source: sheet.trunk(source) for source in parents}
    for name, note in drawing.inputs.items():
        _box(axes, sheet, name, note)
    for name, parts in drawing.nodes.items():
        for line in _card(axes, sheet, name, parts, name in drawing.concatenated):
            lines[line.source].append(line)
    _box(axes, sheet, "output", drawing.combine)
    lines["output"] = [sheet.line(source, "output", 0, LINE, f"{source}-output") for source in parents["output"]]
    for bundle in lines.values():
        _draw_lines(axes, bundle)
    return figure


def _reach(parts: Sequence[Part]) -> float:
    """From the middle of a card to that of its highest chip."""
    return CHIP_RISE * (len(parts) - 1)


@dataclass(frozen=True)
class _Line:
    """A line through `corners`, level at each; `gid` is its id in the SVG."""

    source: str
    corners: list[tuple[float, float]]
    colour: str
    gid: str
    arrow: bool


class _Sheet:
    """The layout in inches: where each part stands, and the lines between them."""

    def __init__(self, layout: Layout) -> None:
        self.column = layout.column
        last = layout.column["output"]
        low = min(height - layout.room[point][0] for point, height in layout.height.items())
        high = max(height + layout.room[point][1] for point, height in layout.height.items())
        self.y = {point: height - low + MARGIN - SPACE for point, height in layout.height.items()}
        widths = [BOX_WIDTH, *[CARD_WIDTH] * (last - 1), BOX_WIDTH]
        # Steep lines that cross are hard to follow: the higher they climb, the wider the gap.
        gaps = [GAP] * last
        for start, end in layout.links:
            gaps[start[1]] = max(gaps[start[1]], GAP + CLIMB * abs(self.y[start] - self.y[end]))
        self.left = [MARGIN + sum(widths[:index]) + sum(gaps[:index]) for index in range(last + 1)]
        self.right = [left + width for left, width in zip(self.left, widths, strict=True)]
        self.width, self.height = self.right[-1] + MARGIN, high - low + MARGIN - SPACE + HEADER

    def entry(self, name: str) -> tuple[float, float]:
        """The middle of the left edge of a card or box."""
        return self.left[self.column[name]], self.y[name, self.column[name]]

    def trunk(self, source: str) -> list[_Line]:
        """The line shared by all who read `source` further on, up to the column before the last of them."""
        columns = sorted(column for name, column in self.y if name == source)
        if len(columns) == 1:
            return []
        edges = [(x, column) for column in columns for x in (self.left[column], self.right[column])]
        corners = [(x, self.y[source, column]) for x, column in edges[1:]]
        return [_Line(source, corners, LINE, f"{source}-trunk", arrow=False)]

    def line(self, source: str, name: str, rise: float, colour: str, gid: str) -> _Line:
        """The last part of the way from `source` to `name`, which it reaches `rise` above its middle."""
        column = self.column[name] - 1
        x, y = self.entry(name)
        corners = [(self.right[column], self.y[source, column]), (x, y + rise)]
        return _Line(source, corners, colour, gid, arrow=True)


def _draw_lines(axes: "Axes", lines: Sequence[_Line]) -> None:
    """Draw lines of one source; a white border tells them from the lines drawn before, where they cross."""
    from matplotlib import path
    from matplotlib.patches import PathPatch

    curves = []
    for line in lines:
        points, codes = [line.corners[0]], [path.Path.MOVETO]
        for (x0, y0), (x1, y1) in pairwise(line.corners):
            points += [((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1), (x1, y1)]
            codes += [path.Path.CURVE4] * 3
        if line.arrow:  # The head covers the end of the line.
            x, y = points.pop()
            points.append((x - 0.06, y))
            axes.fill([x, x - 0.1, x - 0.1], [y, y + 0.05, y - 0.05], color=line.colour, linewidth=0, zorder=4)
        curves.append(path.Path(points, codes))
    for curve in curves:
        axes.add_patch(PathPatch(curve, fill=False, edgecolor="white", linewidth=5))
    for line, curve in zip(lines, curves, strict=True):
        axes.add_patch(PathPatch(curve, fill=False, edgecolor=line.colour, linewidth=1.7, gid=line.gid))


def _rounded(axes: "Axes", x: float, low: float, width: float, height: float, colour: str, gid: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.07"
    axes.add_patch(FancyBboxPatch((x, low), width, height, style, facecolor=colour, linewidth=0, zorder=3, gid=gid))


def _card(axes: "Axes", sheet: _Sheet, name: str, parts: Sequence[Part], concatenated: bool) -> list[_Line]:
    """Draw a node: its name, its operations and, at its right edge, how they are joined; give its lines."""
    from matplotlib.patches import Circle

    x, y = sheet.entry(name)
    reach = _reach(parts)
    _rounded(axes, x, y - reach - CARD_BELOW, CARD_WIDTH, 2 * reach + CARD_BELOW + CARD_ABOVE, PAPER, name)
    axes.text(x + 0.1, y + reach + CARD_NAME, name, size=9.5, weight="bold", color=INK, va="center", zorder=5)
    if len(parts) > 1:
        ring = Circle((x + CARD_WIDTH, y), SUM_RADIUS, facecolor="white", edgecolor=INK, linewidth=1.2, zorder=5)
        axes.add_patch(ring)
        marks = [("+", 0.0)] if not concatenated else [("|", -0.03), ("|", 0.03)]
        for marker, beside in marks:
            middle = x + CARD_WIDTH + beside
            axes.plot(middle, y, marker=marker, color=INK, markersize=7, markeredgewidth=1.2, zorder=6)

    # A sum has no order: the operation that reads the higher source stands above, and its lines do not cross.
    def source_height(part: Part) -> float:
        return sheet.y[part.source, sheet.column[name] - 1]

    lines = []
    for place, part in enumerate(sorted(parts, key=source_height, reverse=True)):
        rise = reach - 2 * CHIP_RISE * place
        colour = OPERATION_COLOURS.get(part.operation, OTHER_COLOUR)
        lines.append(sheet.line(part.source, name, rise, colour, f"{part.source}-{name}.{part.name}"))
        low = y + rise - CHIP_HEIGHT / 2
        _rounded(axes, x, low, CHIP_WIDTH, CHIP_HEIGHT, colour, f"{name}.{part.name}.{part.operation}")
        label = re.sub(r"(\d)x(\d)", r"\1×\2", part.operation.replace("_", " "))
        size = min(9, 155 / len(label))  # points; a long name has to fit
        axes.text(x + CHIP_WIDTH / 2, y + rise, label, size=size, color="white", ha="center", va="center", zorder=5)
    return lines


def _box(axes: "Axes", sheet: _Sheet, name: str, note: str) -> None:
    """Draw an input or the output of the cell."""
    x, y = sheet.entry(name)
    _rounded(axes, x, y - BOX_HEIGHT / 2, BOX_WIDTH, BOX_HEIGHT, INK, name)
    x += BOX_WIDTH / 2
    axes.text(x, y + 0.09, name, size=9.5, weight="bold", color="white", ha="center", va="center", zorder=5)
    axes.text(x, y - 0.1, note, size=7.5, color="#D5DCE4", ha="center", va="center", zorder=5)


def save_svg(figure: "Figure", path: Path) -> None:
    """Write `figure` as SVG with its text as text; equal figures give equal files."""
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "enas"}), written_whole(path) as file:
        figure.savefig(file, format="svg", metadata={"Date": None})


def figure_to_image(figure: "Figure") -> NDArray[np.uint8]:
    """Render `figure` at its own resolution: uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    return np.asarray(pixels)[:, :, :3].copy()


def plot_comparison(search: Sequence[float], random: Sequence[float], title: str) -> "Figure":
    """Draw two samples of estimates: every value as a dot, the median and the quartiles as a box."""
    figure, axes = _plot(title, "estimate", height=2.8)
    samples = {"random": (random, "#D67A1F"), "search": (search, "#2E78B7")}
    for place, (values, colour) in enumerate(samples.values()):
        axes.boxplot(
            [values],
            positions=[place],
            orientation="horizontal",
            widths=0.5,
            showfliers=False,
            medianprops={"color": INK, "linewidth": 2},
        )
        # Dots stand at different heights by a fixed pattern, so that equal values stay apart.
        rows = [place + 0.3 * (index * 0.618 % 1 - 0.5) for index in range(len(values))]
        axes.scatter(values, rows, s=26, color=colour, alpha=0.8, linewidth=0, zorder=3)
    axes.set_yticks(range(2), [f"{name}\nn = {len(values)}" for name, (values, _) in samples.items()])
    axes.set_ylim(-0.6, 1.6)
    return figure


def plot_scatter(cheap: Sequence[float], alone: Sequence[float], title: str, xlabel: str, ylabel: str) -> "Figure":
    """Draw one dot a child: its cheap score across, its accuracy when trained alone upwards."""
    figure, axes = _plot(title, xlabel, height=4.8)
    axes.scatter(cheap, alone, s=30, color="#2E78B7", alpha=0.85, linewidth=0, zorder=3)
    axes.set_ylabel(ylabel)
    return figure


def _plot(title: str, xlabel: str, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, height), dpi=150, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, size=11, color=INK)
    axes.set_xlabel(xlabel)
    axes.grid(color=PAPER)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
