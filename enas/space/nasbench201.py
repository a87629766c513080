"""The cell space of NAS-Bench-201 (Dong and Yang, ICLR 2020; also the topology space of NATS-Bench)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from enas import kernels
from enas.draw import Drawing, Part
from enas.errors import UserError
from enas.kernels import Pointwise, Statistics
from enas.space.base import Cost, Decision, Network, Noise, Output, Resident, Scale, SearchSpace
from enas.space.layers import Norms, batch_norm, keep, linear, pool, strided_convolution_norm, unused
from enas.space.rows import PointwiseTable, he_normal
from enas.space.stacking import halve

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""The official names; their places are the codes of a route."""
NONE, SKIP, CONVOLUTION_1, CONVOLUTION_3, AVERAGE_POOL = range(5)
NODES = 4
EDGES = tuple((node, source) for node in range(1, NODES) for source in range(node))
"""(node, source), in the official order: 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2."""
STAGES = 3


class NasBench201(SearchSpace):
    """One cell, a complete graph of four nodes: each of six edges has one of five operations, 15,625 rows.

    A node sums what its edges give; node 0 is the input, node 3 the output. `scale.layers` is the number of cells in
    each of three stages (5 as published), `scale.filters` the channels of the first (16 as published).
    """

    name = "nasbench201"
    static = False

    def __init__(self) -> None:
        self.decisions = tuple(
            Decision(f"node{node}/node{source}", "operation", OPERATIONS, "operation", step, f"node{node}")
            for step, (node, source) in enumerate(EDGES)
        )
        self.sampling_order = tuple(range(len(EDGES)))

    @property
    def arguments(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _sources(self) -> Resident:
        return Resident(torch.tensor([source for _, source in EDGES]))

    @cached_property
    def _rows(self) -> Resident:
        return Resident(torch.arange(len(EDGES)))

    def route(self, choices: Tensor) -> Tensor:
        """[M, 6] -> [M, 6, 3]: (source node, place in OPERATIONS, the edge's own row of weights)."""
        source, row = (own.on(choices.device).expand_as(choices) for own in (self._sources, self._rows))
        return torch.stack([source, choices, row], dim=2).to(torch.int32)

    def canonical(self, choices: Tensor) -> Tensor:
        """Edges that can only give zeros, and edges that nothing reads, become `none`.

        A convolution of zeros is not zero: its batch norm adds a bias.
        """
        row = choices.clone()
        alive = {0: torch.ones_like(row[:, 0], dtype=torch.bool)}
        for node in range(1, NODES):
            alive[node] = torch.zeros_like(alive[0])
            for place, (reader, source) in enumerate(EDGES):
                if reader == node:
                    passes = (row[:, place] == SKIP) | (row[:, place] == AVERAGE_POOL)
                    row[:, place] = torch.where(passes & ~alive[source], NONE, row[:, place])
                    alive[node] |= row[:, place] != NONE
        read = {NODES - 1: torch.ones_like(alive[0])}
        for source in reversed(range(NODES - 1)):
            read[source] = torch.zeros_like(alive[0])
            for place, (node, own) in enumerate(EDGES):
                if own == source:
                    row[:, place] = torch.where(read[node], row[:, place], NONE)
                    read[source] |= row[:, place] != NONE
        return row

    def describe(self, row: Sequence[int]) -> dict[str, Any]:
        nodes: list[dict[str, Any]] = [{"name": f"node{node}", "edges": []} for node in range(1, NODES)]
        for (node, source), choice in zip(EDGES, row, strict=True):
            nodes[node - 1]["edges"].append({"source": f"node{source}", "operation": OPERATIONS[choice]})
        return {"nodes": nodes, "string": self.text(row)}

    def text(self, row: Sequence[int]) -> str:
        """The official string: |nor_conv_3x3~0|+|none~0|skip_connect~1|+|..."""
        nodes = []
        for node in range(1, NODES):
            edges = [
                f"{OPERATIONS[choice]}~{source}"
                for (reader, source), choice in zip(EDGES, row, strict=True)
                if reader == node
            ]
            nodes.append(f"|{'|'.join(edges)}|")
        return "+".join(nodes)

    def parse(self, text: str) -> list[int]:
        """The row of an official string. Raises UserError where it is none."""
        edges = [re.fullmatch(r"(\w+)~(\d)", edge) for edge in re.split(r"\|\+?\|?", text.strip())[1:-1]]
        found = [(edge[1], int(edge[2])) for edge in edges if edge is not None and edge[1] in OPERATIONS]
        row = [OPERATIONS.index(operation) for operation, _ in found]
        if len(edges) != len(EDGES) or len(found) != len(EDGES) or self.text(row) != text.strip():
            raise UserError(f"{text!r} is no cell of NAS-Bench-201; one is written {self.text([3, 0, 1, 0, 1, 3])}")
        return row

    def drawings(self, row: Sequence[int]) -> dict[str, Drawing]:
        nodes = {
            f"node{node}": [
                Part(f"node{source}", f"node{source}", OPERATIONS[choice])
                for (reader, source), choice in zip(EDGES, row, strict=True)
                if reader == node and choice != NONE
            ]
            for node in range(1, NODES)
        }
        note = "A node adds what its edges give; edges with the operation none are left out."
        return {
            "cell": Drawing("cell", note, {"node0": "previous cell"}, nodes, [f"node{NODES - 1}"], "node 3 as it is")
        }

    def cost(self, choices: Tensor, scale: Scale) -> Cost:
        """In the table's convention: biases of the classifier are among the multiply-adds."""
        ones, threes = ((choices == code).sum(dim=1) for code in (CONVOLUTION_1, CONVOLUTION_3))
        stem = 9 * scale.channels * scale.filters
        height, width = scale.height, scale.width
        params = torch.full_like(ones, stem + 2 * scale.filters)
        macs = torch.full_like(ones, stem * height * width)
        for stage in range(STAGES):
            channels = scale.filters * 2**stage
            if stage > 0:
                height, width = halve(height, 2), halve(width, 2)
                weights = (channels // 2) * channels * (9 + 1) + 9 * channels**2
                params += weights + 4 * channels
                macs += weights * height * width
            for count, taps in ((ones, 1), (threes, 9)):
                params += scale.layers * count * (taps * channels**2 + 2 * channels)
                macs += scale.layers * count * taps * channels**2 * height * width
        classifier = (channels + 1) * scale.classes
        return Cost(params + 2 * channels + classifier, macs + classifier)

    def network(
        self,
        scale: Scale,
        generator: torch.Generator,
        row: Sequence[int] | None = None,
        auxiliary: bool = False,
    ) -> Network:
        if auxiliary:
            raise UserError("space nasbench201: its network has no auxiliary head, set train.auxiliary=0")
        routes = None if row is None else self.route(torch.tensor([list(row)]))
        return _Network(scale, routes, generator)


class _Cell(nn.Module):
    """The convolutions of one cell: a row for each edge in a supernet, one for each edge that has it in a child."""

    def __init__(self, channels: int, rows: Mapping[int, Sequence[int]], generator: torch.Generator):
        super().__init__()
        self._rows = rows
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
                    result, moment = self._compute_edge(nodes[source], code, row, given)
                    if moment is not None:
                        own[place] = moment[0, 0]
                    if masks is not None and code != SKIP:
                        result = result * masks[child, place].to(result.dtype).view(1, -1, 1, 1, 1)
                    total = total + result
                nodes.append(total)
            outputs.append(nodes[-1][0])
            used.append(torch.stack(own))
        return torch.stack(outputs), Statistics(torch.stack(used))

    def _compute_edge(self, x: Tensor, code: int, row: int, given: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if code == SKIP:
            return x, None
        if code == AVERAGE_POOL:
            planes = x[0].permute(0, 3, 1, 2)
            pooled = functional.avg_pool2d(planes, 3, 1, 1, count_include_pad=False)
            return pooled.permute(0, 2, 3, 1).unsqueeze(0), None
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


class _Network(Network):
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
            nn.ModuleList(_Cell(width, rows, generator) for _ in range(scale.layers)) for width in widths
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
        norms, edges = Norms(statistics, collect), routes.tolist()
        x = norms("stem", kernels.convolution_norm, inputs, self.stem, self.stem_gain, self.stem_bias)
        cells = STAGES * self._layers
        done = 0
        for place, stage in enumerate(self.stages):
            if place > 0:
                x = self.reductions[place - 1](x, norms, f"reduction/{place}")
            assert isinstance(stage, nn.ModuleList)
            for cell in stage:
                assert isinstance(cell, _Cell)
                done += 1
                masks = None
                if noise is not None and noise.drop_path > 0:
                    kept = 1 - noise.drop_path * done / cells * noise.progress
                    masks = keep((*routes.shape[:2], x.shape[1]), kept, noise.generator, self.head)
                x = norms(f"cell/{done}", cell.compute, x, edges, masks)
        x = norms("last", batch_norm, x, self.last_gain, self.last_bias)
        return Output(linear(pool(x, self.head.dtype, noise), self.head) + self.head_bias, None, norms.collected())

    def inherit(self, supernet: Network) -> None:
        assert isinstance(supernet, _Network)
        with torch.no_grad():
            for own, shared in zip(self.stages, supernet.stages, strict=True):
                for cell, whole in zip(own, shared, strict=True):  # type: ignore[call-overload]
                    cell.inherit(whole)
            for name, parameter in self.named_parameters():
                if not name.startswith("stages."):
                    parameter.copy_(supernet.get_parameter(name))
