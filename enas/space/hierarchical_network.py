"""The network of motifs: cells in three stages with strided separable convolutions between, supernet and child."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from enas import kernels
from enas.kernels import Pointwise, Statistics, parts
from enas.space.base import Network, Noise, Output, Scale
from enas.space.layers import Norms, depthwise_norm, keep, linear, pool, separable_norm, unused
from enas.space.rows import he_normal

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


class _Table(nn.Module):
    """Weights of one operation, a row for each edge that may have it; He-normal, gain 1, bias 0."""

    def __init__(
        self, rows: Sequence[int], shapes: Mapping[str, tuple[int, ...]], channels: int, generator: torch.Generator
    ):
        super().__init__()
        self.rows = list(rows)
        for name, shape in shapes.items():
            fan_in = 9 if name == "depthwise" else channels
            self.register_parameter(name, he_normal((len(self.rows), *shape), fan_in, generator))
        self.gain = nn.Parameter(torch.ones(len(self.rows), channels))
        self.bias = nn.Parameter(torch.zeros(len(self.rows), channels))

    def row(self, row: int) -> list[Tensor]:
        """The weights of one edge, then gain and bias."""
        place = self.rows.index(row)
        return [self.get_parameter(name)[place] for name in self._parameters]

    def inherit(self, shared: _Table) -> None:
        for name, parameter in self.named_parameters():
            parameter.copy_(shared.get_parameter(name)[self.rows])


PROJECTION = 7
"""The 1x1 convolution behind a motif, beside the codes of the primitives."""


class _Cell(nn.Module):
    """One cell. Each place has weights of its own, whichever motif stands there: (cell edge, motif edge, primitive)."""

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
        square, taps = (channels, channels), (3, 3, channels)
        self.convolution1 = _Table(rows[CONVOLUTION_1], {"weight": square}, channels, generator)
        self.depthwise3 = _Table(rows[DEPTHWISE_3], {"depthwise": taps}, channels, generator)
        self.separable3 = _Table(rows[SEPARABLE_3], {"depthwise": taps, "pointwise": square}, channels, generator)
        self.projection = _Table(rows[PROJECTION], {"weight": square}, channels, generator)

    def inherit(self, shared: _Cell) -> None:
        for name in ("convolution1", "depthwise3", "separable3", "projection"):
            getattr(self, name).inherit(getattr(shared, name))

    def compute(
        self,
        x: Tensor,
        routes: Sequence[Sequence[Sequence[int]]],
        masks: Tensor | None,
        statistics: Tensor | None = None,
    ) -> tuple[Tensor, Statistics]:
        """x [M or 1, B, H, W, C], routes [M][E][3], masks [M, E, B] of drop-path, statistics [M, E, 2, C].

        A cell that connects nothing gives zeros.
        """
        outputs, used = [], []
        for child, own in enumerate(routes):
            moments = [unused(self.projection.gain)] * len(own)
            image = x[child if len(x) > 1 else 0].unsqueeze(0)
            mask, given = (None if each is None else each[child] for each in (masks, statistics))
            outputs.append(
                self._compute_child(image, read_cell(own, self._nodes, self._motif_nodes), mask, given, moments)
            )
            used.append(torch.stack(moments))
        return torch.stack(outputs), Statistics(torch.stack(used))

    def _compute_child(
        self, x: Tensor, edges: Sequence[Edge], mask: Tensor | None, given: Tensor | None, moments: list[Tensor]
    ) -> Tensor:
        """x [1, B, H, W, C], mask [E, B], given [E, 2, C] -> [B, H, W, C]; its statistics are put into `moments`."""

        def apply(edge: Edge, y: Tensor) -> Tensor:
            code = edge.code
            if edge.inside:
                y, code = _compute_graph(y, edge.inside, self._motif_nodes, apply), PROJECTION
            own = None if given is None else given[edge.place, None, None]
            y, moment = self._compute_edge(y, code, edge.row, own)
            if moment is not None:
                moments[edge.place] = moment.tensor()[0, 0]
            return y

        def apply_or_drop(edge: Edge, y: Tensor) -> Tensor:
            y = apply(edge, y)
            if mask is None or (edge.code == IDENTITY and not edge.inside):
                return y
            return y * mask[edge.place].to(y.dtype).view(1, -1, 1, 1, 1)

        return _compute_graph(x, edges, self._nodes, apply_or_drop)[0]

    def _compute_edge(self, y: Tensor, code: int, row: int, given: Tensor | None) -> tuple[Tensor, Statistics | None]:
        if code == IDENTITY:
            return y, None
        if code in (MAX_POOL_3, AVERAGE_POOL_3):
            own = parts.max_pool if code == MAX_POOL_3 else parts.average_pool
            return own(y[0], 1).unsqueeze(0), None
        if code == DEPTHWISE_3:
            taps, gain, bias = self.depthwise3.row(row)
            return depthwise_norm(y, taps, gain, bias, given)
        if code == SEPARABLE_3:
            taps, weight, gain, bias = self.separable3.row(row)
            return separable_norm(y, taps, weight, gain, bias, given)
        table = self.projection if code == PROJECTION else self.convolution1
        return kernels.pointwise_norm(y, Pointwise(*(tensor.unsqueeze(0) for tensor in table.row(row))), given)


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


class MotifNetwork(Network):
    """Stem, three stages of equal cells with strided separable convolutions between, global pool, classifier."""

    def __init__(self, scale: Scale, nodes: int, motif_nodes: int, routes: Tensor | None, generator: torch.Generator):
        super().__init__()
        self._layers = scale.layers
        self.register_buffer("routes", routes)
        outer, inner = len(complete(nodes)), len(complete(motif_nodes))
        everything = range(outer * max(1, inner))
        rows: dict[int, list[int]] = {code: list(everything) for code in (CONVOLUTION_1, DEPTHWISE_3, SEPARABLE_3)}
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
        self.stages = nn.ModuleList(
            nn.ModuleList(_Cell(nodes, motif_nodes, width, rows, generator) for _ in range(scale.layers))
            for width in widths
        )
        self.descents = nn.ModuleList(_Descent(width, generator) for width in widths[:-1])
        self.head = he_normal((widths[-1], scale.classes), widths[-1], generator)

    def forward(
        self,
        inputs: Tensor,
        routes: Tensor,
        state: Tensor | None = None,
        *,
        statistics: Mapping[str, Tensor] | None = None,
        noise: Noise | None = None,
        collect: bool = False,
    ) -> Output:
        if state is not None:
            raise ValueError("a network of stacked cells has no state")
        norms, edges = Norms(statistics, collect), routes.tolist()
        x = norms("stem", kernels.convolution_norm, inputs, self.stem, self.stem_gain, self.stem_bias)
        done, cells = 0, STAGES * self._layers
        for place, stage in enumerate(self.stages):
            if place > 0:
                descent = self.descents[place - 1]
                assert isinstance(descent, _Descent)
                x = norms(f"descent/{place}", descent.compute, x)
            assert isinstance(stage, nn.ModuleList)
            for cell in stage:
                assert isinstance(cell, _Cell)
                done += 1
                masks = None
                if noise is not None and noise.drop_path > 0:
                    kept = 1 - noise.drop_path * done / cells * noise.progress
                    masks = keep((*routes.shape[:2], x.shape[1]), kept, noise.generator, self.head)
                x = norms(f"cell/{done}", cell.compute, x, edges, masks)
        return Output(linear(pool(x, self.head.dtype, noise), self.head), None, norms.collected())

    def inherit(self, supernet: Network) -> None:
        assert isinstance(supernet, MotifNetwork)
        with torch.no_grad():
            for own, shared in zip(self.stages, supernet.stages, strict=True):
                for cell, whole in zip(own, shared, strict=True):  # type: ignore[call-overload]
                    cell.inherit(whole)
            for name, parameter in self.named_parameters():
                if not name.startswith("stages."):
                    parameter.copy_(supernet.get_parameter(name))
