"""Drawings for a run directory and for TensorBoard: the graphs of a genotype, and the plots of a report.

Figures are made without pyplot, so that nothing global is kept, and matplotlib is imported where it is used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from enas.draw_chain import draw_chain
from enas.draw_parts import (
    BOX_HEIGHT,
    BOX_WIDTH,
    INK,
    LINE,
    MARGIN,
    OTHER_COLOUR,
    PAPER,
    colour_of,
    draw_box,
    draw_chip,
    draw_rounded,
    open_sheet,
    width_of,
)
from enas.files import written_whole
from enas.layout import Layout, arrange

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# All lengths of a drawn graph are inches.
CARD_WIDTH, CARD_BELOW, CARD_ABOVE, CARD_NAME = 1.54, 0.215, 0.515, 0.335  # the last three beyond the outer chips
CHIP_RISE = 0.155
GAP, CLIMB = 0.66, 0.2
HEADER, SPACE = 0.7, 0.14
SUM_RADIUS = 0.1


class Part(NamedTuple):
    """One operation of a node, and what it reads; parts of one name are one operation that reads several sources."""

    name: str
    source: str
    operation: str


@dataclass(frozen=True)
class Drawing:
    """What a space says of a graph to be drawn; names are those of the genotype.

    title     what is drawn: normal cell
    note      a sentence below the title
    inputs    name -> what it is
    nodes     name -> its parts, whose results it adds, none where it gives nothing; in an order in which each reads
              what stands before it
    output    the names it reads, and `combine`, how it joins them
    joins     name -> what its result is joined with, beside what its parts read; for a chain of nodes of one part each
    halved    the nodes of a chain after which all is halved
    concatenated  the nodes that do not add their results but put them side by side
    """

    title: str
    note: str
    inputs: Mapping[str, str]
    nodes: Mapping[str, Sequence[Part]]
    output: Sequence[str]
    combine: str
    joins: Mapping[str, Sequence[str]] | None = None
    halved: Sequence[str] = ()
    concatenated: frozenset[str] = frozenset()


def draw_graph(drawing: Drawing, said: str) -> "Figure":
    """Draw a graph, data flowing from left to right; `said` of it stands in the title.

    Every node is a card that holds its operations and adds their results; a line runs from what an operation reads to
    that operation. The parts have their names as ids in the SVG: `node2`, `node2.left.separable_3x3`,
    `input0-node2.left`, `node2-output`.
    """
    if drawing.joins is not None:
        return draw_chain(drawing, said)
    filled = {name: parts for name, parts in drawing.nodes.items() if parts}
    parents: dict[str, list[str]] = {name: [] for name in drawing.inputs}
    parents |= {name: [part.source for part in parts] for name, parts in drawing.nodes.items()}
    parents["output"] = list(drawing.output)
    box = (BOX_HEIGHT / 2 + SPACE, BOX_HEIGHT / 2 + SPACE)
    rooms = dict.fromkeys(parents, box)
    for name, parts in filled.items():
        rooms[name] = (_reach(parts) + CARD_BELOW + SPACE, _reach(parts) + CARD_ABOVE + SPACE)
    sheet = _Sheet(arrange(parents, rooms, end="output"))
    title = f"{drawing.title}, {said}"
    width = max(sheet.width, width_of(title, drawing.note))
    figure, axes = open_sheet(width, sheet.height, title, drawing.note)
    lines: dict[str, list[_Line]] = {source: sheet.trunk(source) for source in parents}
    for name, note in drawing.inputs.items():
        draw_box(axes, *sheet.entry(name), name, note)
    for name in (name for name in drawing.nodes if name not in filled):
        draw_box(axes, *sheet.entry(name), name, "nothing", OTHER_COLOUR)
    for name, parts in filled.items():
        for line in _card(axes, sheet, name, parts, name in drawing.concatenated):
            lines[line.source].append(line)
    draw_box(axes, *sheet.entry("output"), "output", drawing.combine)
    lines["output"] = [sheet.line(source, "output", 0, LINE, f"{source}-output") for source in parents["output"]]
    for bundle in lines.values():
        _draw_lines(axes, bundle)
    return figure


def _reach(parts: Sequence[Part]) -> float:
    """From the middle of a card to that of its highest chip."""
    return CHIP_RISE * (len({part.name for part in parts}) - 1)


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


def _card(axes: "Axes", sheet: _Sheet, name: str, parts: Sequence[Part], concatenated: bool) -> list[_Line]:
    """Draw a node: its name, its operations and, at its right edge, how they are joined; give its lines."""
    from matplotlib.patches import Circle

    x, y = sheet.entry(name)
    reach = _reach(parts)
    chips: dict[str, list[Part]] = {}
    for part in parts:
        chips.setdefault(part.name, []).append(part)
    draw_rounded(axes, x, y - reach - CARD_BELOW, CARD_WIDTH, 2 * reach + CARD_BELOW + CARD_ABOVE, PAPER, name)
    axes.text(x + 0.1, y + reach + CARD_NAME, name, size=9.5, weight="bold", color=INK, va="center", zorder=5)
    if len(chips) > 1:
        ring = Circle((x + CARD_WIDTH, y), SUM_RADIUS, facecolor="white", edgecolor=INK, linewidth=1.2, zorder=5)
        axes.add_patch(ring)
        marks = [("+", 0.0)] if not concatenated else [("|", -0.03), ("|", 0.03)]
        for marker, beside in marks:
            middle = x + CARD_WIDTH + beside
            axes.plot(middle, y, marker=marker, color=INK, markersize=7, markeredgewidth=1.2, zorder=6)

    # A sum has no order: the operation that reads the higher source stands above, and its lines do not cross.
    def source_height(chip: Sequence[Part]) -> float:
        return max(sheet.y[part.source, sheet.column[name] - 1] for part in chip)

    lines = []
    for place, chip in enumerate(sorted(chips.values(), key=source_height, reverse=True)):
        rise, part = reach - 2 * CHIP_RISE * place, chip[0]
        colour = colour_of(part.operation)
        lines += [sheet.line(each.source, name, rise, colour, f"{each.source}-{name}.{part.name}") for each in chip]
        draw_chip(axes, x, y + rise, part.operation, f"{name}.{part.name}.{part.operation}")
    return lines


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
