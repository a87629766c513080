"""The network of motifs: cells in three stages with strided separable convolutions between, supernet and child."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from enas import kernels
from enas.kernels import Pointwise, Statistics
from enas.space.childwise import ChildwiseNetwork, WeightRows
from enas.space.layers import Norms, average_pool, depthwise_norm, keep, linear, max_pool, pool, separable_norm
from enas.space.network import Noise
from enas.space.rows import he_normal
from enas.space.scale import Scale

PRIMITIVES = (
    "none",
    "identity",
    "convolution_1x1",
    "depthwise_3x3",
    "separable_3x3",
    "max_pool_3x3",
    "average_pool_3x3",
)
"""Their places are the codes of a route."""
NONE, IDENTITY, CONVOLUTION_1, DEPTHWISE_3, SEPARABLE_3, MAX_POOL_3, AVERAGE_POOL_3 = range(7)
PROJECTION = 7
"""The 1x1 convolution behind a motif, beside the codes of the primitives."""
STAGES = 3
Edges = tuple[tuple[int, int], ...]
"""(node, source) of each edge of a graph whose first node is its input and whose last is its output."""


class Edge(NamedTuple):
    """One edge of a row: `place` among its routes, `row` of weights; `inside` are the edges of the motif it stands for.

    Of an edge that stands for no motif, `code` is a primitive.
    """

    node: int
    source: int
    code: int
    row: int
    place: int
    inside: tuple[Edge, ...] = ()


def complete(nodes: int) -> Edges:
    """The edges of a complete graph, node by node: 1<-0, 2<-0, 2<-1, ..."""
    return tuple((node, source) for node in range(1, nodes) for source in range(node))


def living(edges: Sequence[Edge], nodes: int) -> tuple[Edge, ...]:
    """The edges on a way from the first node to the last; the others give nothing, or nobody reads what they give."""
    reached, useful = {0}, {nodes - 1}
    for edge in edges:
        if edge.code != NONE and edge.source in reached:
            reached.add(edge.node)
    for edge in reversed(edges):
        if edge.code != NONE and edge.node in useful:
            useful.add(edge.source)
    return tuple(edge for edge in edges if edge.code != NONE and edge.source in reached and edge.node in useful)


def read_cell(routes: Sequence[Sequence[int]], nodes: int, motif_nodes: int) -> tuple[Edge, ...]:
    """The living edges of the cell that one row's routes [E][3] describe; `motif_nodes` is 0 where there are none."""
    inner = complete(motif_nodes)

    def edge(node: int, place: int) -> Edge:
        source, code, row = routes[place]
        return Edge(node, source, code, row, place)

    edges: list[Edge] = []
    for number, (node, _) in enumerate(complete(nodes)):
        place = number * (1 + len(inner))
        own = edge(node, place)
        if motif_nodes:
            inside = [edge(each, place + 1 + step) for step, (each, _) in enumerate(inner)]
            alive = living(inside, motif_nodes)
            own = own._replace(inside=alive, code=own.code if alive else NONE)  # a motif may connect nothing
        edges.append(own)
    return living(edges, nodes)


class _Cell(nn.Module):
    """One cell. Each place has weights of its own, whichever motif stands there: (cell edge, motif edge, primitive).

    rows  primitive -> the rows its edges have; also those of the 1x1 convolutions behind motifs, PROJECTION
    """

    def __init__(
        self,
        nodes: int,
        motif_nodes: int,
        channels: int,
        rows: Mapping[int, Sequence[int]],
        generator: torch.Generator,
    ):
        super().__init__()
        self._nodes, self._motif_nodes = nodes, motif_nodes
        product, taps = ((channels, channels), channels), ((3, 3, channels), 9)
        shapes: dict[int, dict[str, tuple[tuple[int, ...], int]]] = {
            CONVOLUTION_1: {"weight": product},
            DEPTHWISE_3: {"depthwise": taps},
            SEPARABLE_3: {"depthwise": taps, "pointwise": product},
            PROJECTION: {"weight": product},
        }
        self._rows = {code: WeightRows(rows[code], shape, channels, generator) for code, shape in shapes.items()}
        for name, code in (("convolution1", CONVOLUTION_1), ("depthwise3", DEPTHWISE_3), ("separable3", SEPARABLE_3)):
            self.add_module(name, self._rows[code])
        self.projection = self._rows[PROJECTION]

    def compute(self, x: Tensor, edges: Sequence[Edge], norms: Norms, masks: Tensor | None, name: str) -> Tensor:
        """x [1, B, H, W, C], the living edges of a child, masks [E, B] of drop-path; without edges, zeros."""

        def apply(edge: Edge, y: Tensor) -> Tensor:
            code = edge.code
            if edge.inside:
                y, code = _compute_graph(y, edge.inside, self._motif_nodes, apply), PROJECTION
            return self._compute_edge(y, code, edge.row, norms, f"{name}/{edge.place}")

        def apply_or_drop(edge: Edge, y: Tensor) -> Tensor:
            y = apply(edge, y)
            if masks is None or (edge.code == IDENTITY and not edge.inside):
                return y
            return y * masks[edge.place].to(y.dtype).view(1, -1, 1, 1, 1)

        return _compute_graph(x, edges, self._nodes, apply_or_drop)

    def _compute_edge(self, y: Tensor, code: int, row: int, norms: Norms, name: str) -> Tensor:
        if code == IDENTITY:
            return y
        if code in (MAX_POOL_3, AVERAGE_POOL_3):
            return max_pool(y) if code == MAX_POOL_3 else average_pool(y)
        weights = self._rows[code].row(row)
        if code == DEPTHWISE_3:
            return norms(name, depthwise_norm, y, *weights)
        if code == SEPARABLE_3:
            return norms(name, separable_norm, y, *weights)
        return norms(name, kernels.pointwise_norm, y, Pointwise(*(tensor.unsqueeze(0) for tensor in weights)))


def _compute_graph(x: Tensor, edges: Sequence[Edge], nodes: int, apply: Callable[[Edge, Tensor], Tensor]) -> Tensor:
    """The last node of a graph of living edges whose first node is `x`; a node adds what its edges give."""
    values = {0: x}
    for edge in edges:
        result = apply(edge, values[edge.source])
        values[edge.node] = values[edge.node] + result if edge.node in values else result
    return values.get(nodes - 1, torch.zeros_like(x))


class _Descent(nn.Module):
    """Between two stages: a separable convolution of stride 2 to twice the channels."""

    def __init__(self, channels: int, generator: torch.Generator):
        super().__init__()
        self.depthwise = he_normal((3, 3, channels), 9, generator)
        self.pointwise = he_normal((channels, 2 * channels), channels, generator)
        self.gain = nn.Parameter(torch.ones(2 * channels))
        self.bias = nn.Parameter(torch.zeros(2 * channels))

    def compute(self, x: Tensor, statistics: Tensor | None = None) -> tuple[Tensor, Statistics]:
        """[M, B, H, W, C] -> [M, B, ceil(H / 2), ceil(W / 2), 2C]."""
        return separable_norm(x, self.depthwise, self.pointwise, self.gain, self.bias, statistics, stride=2)


class MotifNetwork(ChildwiseNetwork):
    """Stem, three stages of equal cells with strided separable convolutions between, global pool, classifier."""

    def __init__(self, scale: Scale, nodes: int, motif_nodes: int, routes: Tensor | None, generator: torch.Generator):
        super().__init__(routes)
        self._layers, self._nodes, self._motif_nodes = scale.layers, nodes, motif_nodes
        outer, inner = len(complete(nodes)), len(complete(motif_nodes))
        rows = {code: list(range(outer * max(1, inner))) for code in (CONVOLUTION_1, DEPTHWISE_3, SEPARABLE_3)}
        rows[PROJECTION] = list(range(outer)) if motif_nodes else []
        if routes is not None:
            edges = read_cell(routes[0].tolist(), nodes, motif_nodes)
            flat = [each for edge in edges for each in (edge.inside or (edge,))]
            rows = {code: [edge.row for edge in flat if edge.code == code] for code in rows}
            rows[PROJECTION] = [edge.row for edge in edges if edge.inside]
        self.stem = he_normal((3, 3, scale.channels, scale.filters), 9 * scale.channels, generator)
        self.stem_gain = nn.Parameter(torch.ones(scale.filters))
        self.stem_bias = nn.Parameter(torch.zeros(scale.filters))
        widths = [scale.filters * 2**stage for stage in range(STAGES)]
        self.cells = nn.ModuleList(
            _Cell(nodes, motif_nodes, width, rows, generator) for width in widths for _ in range(scale.layers)
        )
        self.descents = nn.ModuleList(_Descent(width, generator) for width in widths[:-1])
        self.head = he_normal((widths[-1], scale.classes), widths[-1], generator)

    def begin(self, inputs: Tensor, norms: Norms) -> Tensor:
        return norms("stem", kernels.convolution_norm, inputs, self.stem, self.stem_gain, self.stem_bias)

    def compute(self, inputs: Tensor, routes: Sequence[Sequence[int]], norms: Norms, noise: Noise | None) -> Tensor:
        edges, x = read_cell(routes, self._nodes, self._motif_nodes), inputs
        for number, cell in enumerate(self.cells):
            assert isinstance(cell, _Cell)
            if number and number % self._layers == 0:
                descent = self.descents[number // self._layers - 1]
                assert isinstance(descent, _Descent)
                x = norms(f"descent/{number // self._layers}", descent.compute, x)
            masks = None
            if noise is not None and noise.drop_path > 0:
                kept = 1 - noise.drop_path * (number + 1) / len(self.cells) * noise.progress
                masks = keep((len(routes), x.shape[1]), kept, noise.generator, self.head)
            x = cell.compute(x, edges, norms, masks, f"cell/{number}")
        return linear(pool(x, self.head.dtype, noise), self.head)
