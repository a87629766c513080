"""The network of stacked cells: one description for the supernet, an extracted child and the final network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from enas import kernels
from enas.space.auxiliary import AuxiliaryHead
from enas.space.layers import Norms, keep, linear, pool
from enas.space.network import Network, Noise, Output
from enas.space.rows import KeptRows, PointwiseTable, SeparableTable, he_normal
from enas.space.scale import Scale
from enas.space.stacking import STEM, Kind, Placement, stack_cells


class Cell(nn.Module):
    """The weights of one cell and its two calibrations; the computation is `kernels.cell`."""

    def __init__(
        self,
        placement: Placement,
        kept: KeptRows,
        producers: tuple[tuple[int, ...], tuple[int, ...]],
        output: str,
        generator: torch.Generator,
    ):
        super().__init__()
        channels = placement.filters
        self.placement, self.kept, self.producers = placement, kept, producers
        self.calibrations = nn.ModuleList(
            nn.Module()
            if feed.calibration == "none"
            else PointwiseTable(len(blocks), feed.channels, channels, generator, norms=1)
            for feed, blocks in zip(placement.feeds, producers, strict=True)
        )
        self.separable3 = SeparableTable(len(kept.separable3), 3, channels, generator)
        self.separable5 = SeparableTable(len(kept.separable5), 5, channels, generator)
        self.identity = PointwiseTable(len(kept.identity), channels, channels, generator)
        self.loose = PointwiseTable(len(kept.loose), channels, channels, generator)
        self.project = None
        if output == "project":
            self.project = PointwiseTable(len(kept.ends), channels, channels, generator, norms=1)
        self.block = tuple(kept.ends.index(slot) if slot in kept.ends else -1 for slot in range(kept.slots))
        self.loose_row = tuple(kept.loose.index(slot) if slot in kept.loose else -1 for slot in (0, 1))

    def weights(self) -> kernels.CellWeights:
        return kernels.CellWeights(
            self.separable3.weights(),
            self.separable5.weights(),
            self.identity.weights(),
            self.loose.weights(),
            None if self.project is None else self.project.weights(),
            self.block,
            self.loose_row,
        )

    def inherit(self, cell: Cell) -> None:
        """Copy this cell's rows out of the supernet's cell at the same place."""
        self.separable3.inherit(cell.separable3, self.kept.separable3)
        self.separable5.inherit(cell.separable5, self.kept.separable5)
        self.identity.inherit(cell.identity, self.kept.identity)
        self.loose.inherit(cell.loose, self.kept.loose)
        if self.project is not None and cell.project is not None:
            self.project.inherit(cell.project, self.kept.ends)
        for own, shared, blocks in zip(self.calibrations, cell.calibrations, self.producers, strict=True):
            if isinstance(own, PointwiseTable) and isinstance(shared, PointwiseTable):
                own.inherit(shared, blocks)


class CellNetwork(Network):
    """Stem, stacked cells, global average pool, classifier; in a final network also an auxiliary head.

    kept    for each kind of cell the weight rows it has
    routes  int32 [1, 2E, 3] in a child, None in the supernet: the normal cell's edges, then the reduction cell's
    """

    def __init__(
        self,
        scale: Scale,
        output: str,
        kept: Mapping[Kind, KeptRows],
        routes: Tensor | None,
        auxiliary: bool,
        generator: torch.Generator,
    ):
        super().__init__()
        self.scale, self.kept = scale, dict(kept)
        self.register_buffer("routes", routes)
        stack = stack_cells(scale, output == "concat")

        def blocks(producer: int) -> tuple[int, ...]:
            if producer == STEM or output == "project":
                return (0,)
            return kept[stack.cells[producer].kind].ends

        self.stem = he_normal((3, 3, scale.channels, stack.stem_channels), 9 * scale.channels, generator)
        self.stem_gain = nn.Parameter(torch.ones(stack.stem_channels))
        self.stem_bias = nn.Parameter(torch.zeros(stack.stem_channels))
        self.cells = nn.ModuleList(
            Cell(
                placement,
                kept[placement.kind],
                (blocks(placement.feeds[0].producer), blocks(placement.feeds[1].producer)),
                output,
                generator,
            )
            for placement in stack.cells
        )
        last = len(stack.cells) - 1
        self.head_blocks = blocks(last)
        features = stack.cells[last].filters
        self.head = he_normal((len(self.head_blocks), features, scale.classes), features, generator)
        self.auxiliary_after = stack.auxiliary_after
        self.auxiliary: AuxiliaryHead | None = None
        if auxiliary:
            placement = stack.cells[self.auxiliary_after]
            width = len(blocks(self.auxiliary_after)) * placement.filters
            self.auxiliary = AuxiliaryHead(width, *placement.output_size, scale.classes, generator)

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
        norms = Norms(statistics, collect)
        half = routes.shape[1] // 2
        edges: dict[Kind, Tensor] = {"normal": routes[:, :half], "reduction": routes[:, half:]}
        stem = norms("stem", kernels.convolution_norm, inputs, self.stem, self.stem_gain, self.stem_bias)
        produced = {STEM: stem}
        auxiliary = None
        for position, cell in enumerate(self.cells):
            assert isinstance(cell, Cell)
            placement = cell.placement
            feeds = [
                self._calibrate(norms, f"calibration/{position}/{side}", produced[feed.producer], cell, side)
                for side, feed in enumerate(placement.feeds)
            ]
            own = edges[placement.kind]
            scale = self._drop_path(own, feeds[1].shape[1], position, noise)
            compute = partial(kernels.cell, scale=scale, stride=placement.stride)
            produced[position] = norms(f"cell/{position}", compute, *feeds, own, cell.weights())
            produced.pop(position - 2, None)
            if self.auxiliary is not None and noise is not None and position == self.auxiliary_after:
                auxiliary = self.auxiliary(produced[position], norms)
        pooled = pool(produced[len(self.cells) - 1], self.head.dtype, noise)
        return Output(linear(pooled, self.head.flatten(0, 1)), auxiliary, norms.collected())

    def inherit(self, supernet: Network) -> None:
        if not isinstance(supernet, CellNetwork) or supernet.scale != self.scale:
            raise ValueError("a child inherits from the supernet of its own space and scale only")
        with torch.no_grad():
            for name in ("stem", "stem_gain", "stem_bias"):
                self.get_parameter(name).copy_(supernet.get_parameter(name))
            self.head.copy_(supernet.head[list(self.head_blocks)])
            for own, shared in zip(self.cells, supernet.cells, strict=True):
                assert isinstance(own, Cell)
                assert isinstance(shared, Cell)
                own.inherit(shared)

    def _calibrate(self, norms: Norms, name: str, x: Tensor, cell: Cell, side: int) -> Tensor:
        table = cell.calibrations[side]
        if not isinstance(table, PointwiseTable):
            return x
        pointwise = cell.placement.feeds[side].calibration == "pointwise"
        function = kernels.pointwise_norm if pointwise else kernels.reduction_norm
        return norms(name, function, x, table.joined())

    def _drop_path(self, routes: Tensor, batch: int, position: int, noise: Noise | None) -> Tensor | None:
        """[M, E, B]: 0 where a path is dropped for an image, 1 / keep where it is not, 1 on identities."""
        if noise is None or noise.drop_path == 0:
            return None
        depth = (position + 1) / len(self.cells)
        kept = 1 - noise.drop_path * depth * noise.progress
        codes = routes[:, :, 1].unsqueeze(2)
        scale = keep((*routes.shape[:2], batch), kept, noise.generator, self.head)
        return torch.where(codes == kernels.IDENTITY, torch.ones_like(scale), scale)
