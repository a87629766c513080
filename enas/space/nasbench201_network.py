"""The network of NAS-Bench-201: equal cells in three stages, for the supernet and for one child."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from enas import kernels
from enas.kernels import Pointwise, Statistics
from enas.space.layers import Norms, average_pool, batch_norm, keep, linear, pool, strided_convolution_norm, unused
from enas.space.network import Network, Noise, Output
from enas.space.partial import beside, narrow, shuffle
from enas.space.relaxable import RelaxableNetwork
from enas.space.rows import PointwiseTable, he_normal
from enas.space.scale import Scale

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""The official names; their places are the codes of a route."""
NONE, SKIP, CONVOLUTION_1, CONVOLUTION_3, AVERAGE_POOL = range(5)
NODES = 4
EDGES = tuple((node, source) for node in range(1, NODES) for source in range(node))
"""(node, source), in the official order: 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2."""
STAGES = 3


class _Cell(nn.Module):
    """The convolutions of one cell: a row for each edge in a supernet, one for each edge that has it in a child."""

    def __init__(self, channels: int, rows: Mapping[int, Sequence[int]], generator: torch.Generator):
        """`channels` are those that pass operations."""
        super().__init__()
        self._rows, self._channels = rows, channels
        self.convolution1 = PointwiseTable(len(rows[CONVOLUTION_1]), channels, channels, generator)
        count = len(rows[CONVOLUTION_3])
        self.kernel3 = he_normal((count, 3, 3, channels, channels), 9 * channels, generator)
        self.gain3 = nn.Parameter(torch.ones(count, channels))
        self.bias3 = nn.Parameter(torch.zeros(count, channels))

    def inherit(self, shared: _Cell) -> None:
        self.convolution1.inherit(shared.convolution1, self._rows[CONVOLUTION_1])
        for name in ("kernel3", "gain3", "bias3"):
            self.get_parameter(name).copy_(shared.get_parameter(name)[list(self._rows[CONVOLUTION_3])])

    def compute(
        self,
        x: Tensor,
        routes: Sequence[Sequence[Sequence[int]]],
        masks: Tensor | None,
        statistics: Tensor | None = None,
    ) -> tuple[Tensor, Statistics]:
        """x [M or 1, B, H, W, C], routes [M][6][3], masks [M, 6, B] of drop-path, statistics [M, 6, 2, C]."""
        outputs, used = [], []
        for child, edges in enumerate(routes):
            nodes, own = [x[child if len(x) > 1 else 0].unsqueeze(0)], [unused(self.gain3)] * len(EDGES)
            for node in range(1, NODES):
                total = torch.zeros_like(nodes[0])
                for place, (reader, _) in enumerate(EDGES):
                    source, code, row = edges[place]
                    if reader != node or code == NONE:
                        continue
                    given = None if statistics is None else statistics[child, place, None, None]
                    read = narrow(nodes[source], self._channels)
                    result, moment = self._compute_edge(read, code, row, given)
                    if moment is not None:
                        own[place] = moment[0, 0]
                    if masks is not None and code != SKIP:
                        result = result * masks[child, place].to(result.dtype).view(1, -1, 1, 1, 1)
                    total = total + beside(result, nodes[source], self._channels)
                nodes.append(shuffle(total, self._channels))
            outputs.append(nodes[-1][0])
            used.append(torch.stack(own))
        return torch.stack(outputs), Statistics(torch.stack(used))

    def mix(
        self, x: Tensor, mixing: Tensor, codes: Sequence[Sequence[int]], statistics: Tensor | None = None
    ) -> tuple[Tensor, Statistics]:
        """The operations `codes` of each edge, weighted: x [M, B, H, W, C], mixing [6, 5], statistics [M, 12, 2, C]."""
        outputs, used = [], []
        for child, images in enumerate(x.unbind()):
            nodes, own = [images.unsqueeze(0)], [unused(self.gain3)] * (2 * len(EDGES))
            for node in range(1, NODES):
                total = torch.zeros_like(nodes[0])
                for place, (reader, source) in enumerate(EDGES):
                    if reader != node or not codes[place]:
                        continue
                    read, results = narrow(nodes[source], self._channels), []
                    for code in codes[place]:
                        norm = 2 * place + (code == CONVOLUTION_3)
                        given = None if statistics is None else statistics[child, norm, None, None]
                        result, moment = self._compute_edge(read, code, place, given)
                        if moment is not None:
                            own[norm] = moment[0, 0]
                        results.append(mixing[place, code] * result)
                    passing = mixing[place, codes[place][0] : codes[place][-1] + 1].sum()  # they stand side by side
                    edge = sum(results[1:], results[0])
                    total = total + beside(edge, nodes[source], self._channels, weight=passing)
                nodes.append(shuffle(total, self._channels))
            outputs.append(nodes[-1][0])
            used.append(torch.stack(own))
        return torch.stack(outputs), Statistics(torch.stack(used))

    def _compute_edge(self, x: Tensor, code: int, row: int, given: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if code == SKIP:
            return x, None
        if code == AVERAGE_POOL:
            return average_pool(x), None
        place = self._rows[code].index(row)
        if code == CONVOLUTION_1:
            own = Pointwise(*(tensor[place, None] for tensor in self.convolution1.weights()))
            result, statistics = kernels.pointwise_norm(x, own, given)
        else:
            weights = (self.kernel3[place], self.gain3[place], self.bias3[place])
            result, statistics = kernels.convolution_norm(x.relu(), *weights, given)
        return result, statistics.tensor()


class _Reduction(nn.Module):
    """The residual block between two stages: half the size, twice the channels."""

    def __init__(self, channels: int, generator: torch.Generator):
        super().__init__()
        wide = 2 * channels
        self.first = he_normal((3, 3, channels, wide), 9 * channels, generator)
        self.second = he_normal((3, 3, wide, wide), 9 * wide, generator)
        self.shortcut = he_normal((channels, wide), channels, generator)
        for name in ("first", "second"):
            self.register_parameter(f"{name}_gain", nn.Parameter(torch.ones(wide)))
            self.register_parameter(f"{name}_bias", nn.Parameter(torch.zeros(wide)))

    def forward(self, x: Tensor, norms: Norms, name: str) -> Tensor:
        """[M, B, H, W, C] -> [M, B, H / 2, W / 2, 2C]."""
        weights = (self.first, self.get_parameter("first_gain"), self.get_parameter("first_bias"))
        y = norms(f"{name}/first", strided_convolution_norm, x.relu(), *weights)
        weights = (self.second, self.get_parameter("second_gain"), self.get_parameter("second_bias"))
        y = norms(f"{name}/second", kernels.convolution_norm, y.relu(), *weights)
        planes = x.flatten(0, 1).permute(0, 3, 1, 2)
        pooled = functional.avg_pool2d(planes, 2, 2, ceil_mode=True, count_include_pad=False).permute(0, 2, 3, 1)
        short = torch.stack(
            [child @ self.shortcut.to(x.dtype) for child in pooled.reshape(*x.shape[:2], *pooled.shape[1:]).unbind()]
        )
        return y + short


class CompleteCellNetwork(RelaxableNetwork):
    """Stem, three stages of equal cells with residual blocks between them, batch norm, global pool, classifier."""

    def __init__(self, scale: Scale, routes: Tensor | None, generator: torch.Generator):
        super().__init__()
        self._layers = scale.layers
        self.register_buffer("routes", routes)
        everything = list(range(len(EDGES)))
        rows = dict.fromkeys((CONVOLUTION_1, CONVOLUTION_3), everything)
        if routes is not None:
            rows = {code: [row for _, own, row in routes[0].tolist() if own == code] for code in rows}
        self.stem = he_normal((3, 3, scale.channels, scale.filters), 9 * scale.channels, generator)
        self.stem_gain = nn.Parameter(torch.ones(scale.filters))
        self.stem_bias = nn.Parameter(torch.zeros(scale.filters))
        widths = [scale.filters * 2**stage for stage in range(STAGES)]
        self.stages = nn.ModuleList(
            nn.ModuleList(_Cell(width // scale.partial, rows, generator) for _ in range(scale.layers))
            for width in widths
        )
        self.reductions = nn.ModuleList(_Reduction(width, generator) for width in widths[:-1])
        self.last_gain = nn.Parameter(torch.ones(widths[-1]))
        self.last_bias = nn.Parameter(torch.zeros(widths[-1]))
        self.head = he_normal((widths[-1], scale.classes), widths[-1], generator)
        self.head_bias = nn.Parameter(torch.zeros(scale.classes))

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
        edges, cells = routes.tolist(), STAGES * self._layers

        def compute(cell: _Cell, done: int, batch: int) -> Callable[..., tuple[Tensor, Statistics]]:
            masks = None
            if noise is not None and noise.drop_path > 0:
                kept = 1 - noise.drop_path * done / cells * noise.progress
                masks = keep((*routes.shape[:2], batch), kept, noise.generator, self.head)
            return partial(cell.compute, routes=edges, masks=masks)

        return self._run(inputs, Norms(statistics, collect), compute, noise)

    def mix(
        self,
        inputs: Tensor,
        mixing: Tensor,
        *,
        statistics: Mapping[str, Tensor] | None = None,
        noise: Noise | None = None,
        collect: bool = False,
        hard: bool = False,
    ) -> Output:
        if self.routes is not None:
            raise ValueError("the network of one row has no mixture")
        computing = (SKIP, CONVOLUTION_1, CONVOLUTION_3, AVERAGE_POOL)
        codes: list[tuple[int, ...]] = [computing] * len(EDGES)
        if hard:
            codes = [(code,) if code != NONE else () for code in mixing.argmax(dim=1).tolist()]

        def compute(cell: _Cell, *_: int) -> Callable[..., tuple[Tensor, Statistics]]:
            return partial(cell.mix, mixing=mixing, codes=codes)

        return self._run(inputs, Norms(statistics, collect), compute, noise)

    def _run(
        self,
        inputs: Tensor,
        norms: Norms,
        compute: Callable[[_Cell, int, int], Callable[..., tuple[Tensor, Statistics]]],
        noise: Noise | None,
    ) -> Output:
        """The whole network; `compute` says, of a cell, how many are done with it, and a batch, what it computes."""
        x = norms("stem", kernels.convolution_norm, inputs, self.stem, self.stem_gain, self.stem_bias)
        done = 0
        for place, stage in enumerate(self.stages):
            if place > 0:
                x = self.reductions[place - 1](x, norms, f"reduction/{place}")
            assert isinstance(stage, nn.ModuleList)
            for cell in stage:
                assert isinstance(cell, _Cell)
                done += 1
                x = norms(f"cell/{done}", compute(cell, done, x.shape[1]), x)
        x = norms("last", batch_norm, x, self.last_gain, self.last_bias)
        return Output(linear(pool(x, self.head.dtype, noise), self.head) + self.head_bias, None, norms.collected())

    def inherit(self, supernet: Network) -> None:
        assert isinstance(supernet, CompleteCellNetwork)
        with torch.no_grad():
            for own, shared in zip(self.stages, supernet.stages, strict=True):
                for cell, whole in zip(own, shared, strict=True):  # type: ignore[call-overload]
                    cell.inherit(whole)
            for name, parameter in self.named_parameters():
                if not name.startswith("stages."):
                    parameter.copy_(supernet.get_parameter(name))
