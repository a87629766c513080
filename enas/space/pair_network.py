"""The network of stacked pair cells: one description for the supernet, an extracted child and the final network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from enas import kernels
from enas.space.auxiliary import AuxiliaryHead
from enas.space.childwise import ChildwiseNetwork
from enas.space.layers import Norms, dense_convolution_norm, keep, linear, pool
from enas.space.network import Network, Noise
from enas.space.pair_cell import KeptPairs, PairCell, nodes_of, unread
from enas.space.pair_operations import PairOperation
from enas.space.pair_stacking import PairStack
from enas.space.rows import he_normal
from enas.space.scale import Scale
from enas.space.stacking import STEM, Kind

Kinds = Mapping[Kind, int]
"""Kind of a cell -> which of the searched cells it is."""


class PairNetwork(ChildwiseNetwork):
    """Stem, stacked cells, ReLU, global average pool, classifier; in a final network also an auxiliary head.

    searched  kind of a cell -> number of the searched cell that it is
    kept      kind of a cell -> the weight rows it has
    outputs   kind of a cell -> the slots whose concatenation it gives; None: those that no node reads
    routes    int32 [1, E, 3] in a child, None in the supernet: the searched cells' nodes one after the other
    """

    def __init__(
        self,
        scale: Scale,
        stack: PairStack,
        operations: Sequence[PairOperation],
        searched: Kinds,
        kept: Mapping[Kind, KeptPairs],
        outputs: Mapping[Kind, tuple[int, ...] | None],
        routes: Tensor | None,
        auxiliary: bool,
        generator: torch.Generator,
    ):
        super().__init__(routes)
        self.scale, self.kept, self._stack = scale, dict(kept), stack
        self._operations, self.searched, self._outputs = tuple(operations), dict(searched), dict(outputs)

        def blocks(producer: int) -> tuple[int, ...]:
            return (0,) if producer == STEM else kept[stack.cells[producer].kind].ends

        self.stem = he_normal((3, 3, scale.channels, stack.stem_channels), 9 * scale.channels, generator)
        self.stem_gain = nn.Parameter(torch.ones(stack.stem_channels))
        self.stem_bias = nn.Parameter(torch.zeros(stack.stem_channels))
        self.cells = nn.ModuleList(
            PairCell(
                placement,
                self._operations,
                kept[placement.kind],
                [blocks(feed.producer) for feed in placement.feeds],
                generator,
                scale.partial,
            )
            for placement in stack.cells
        )
        last = len(stack.cells) - 1
        self.head_blocks = blocks(last)
        features = stack.cells[last].filters
        self.head = he_normal((len(self.head_blocks), features, scale.classes), features, generator)
        self.head_bias = nn.Parameter(torch.zeros(scale.classes))
        self.auxiliary: AuxiliaryHead | None = None
        if auxiliary:
            placement = stack.cells[stack.auxiliary_after]
            width = len(blocks(stack.auxiliary_after)) * placement.filters
            self.auxiliary = AuxiliaryHead(width, *placement.output_size, scale.classes, generator)

    def begin(self, inputs: Tensor, norms: Norms) -> Tensor:
        """The stem."""
        weights = (self.stem, self.stem_gain, self.stem_bias)
        if self._stack.stem_stride == 1:
            return norms("stem", kernels.convolution_norm, inputs, *weights)
        return norms("stem", partial(dense_convolution_norm, stride=(2, 2), padded=False), inputs, *weights)

    def compute(self, inputs: Tensor, routes: Sequence[Sequence[int]], norms: Norms, noise: Noise | None) -> Tensor:
        return self.classify(inputs, routes, norms, noise)[0]

    def classify(
        self, inputs: Tensor, routes: Sequence[Sequence[int]], norms: Norms, noise: Noise | None
    ) -> tuple[Tensor, Tensor | None]:
        each = len(routes) // (max(self.searched.values()) + 1)
        nodes = {kind: nodes_of(routes[each * place : each * (place + 1)]) for kind, place in self.searched.items()}
        ends = {kind: self._outputs[kind] or unread(nodes[kind]) for kind in nodes}
        produced: dict[int, tuple[Tensor, tuple[int, ...]]] = {STEM: (inputs, (0,))}
        auxiliary = None
        for position, cell in enumerate(self.cells):
            assert isinstance(cell, PairCell)
            feeds = []
            for side, feed in enumerate(cell.placement.feeds):
                x, blocks = produced[feed.producer]
                feeds.append(norms(f"calibration/{position}/{side}", cell.calibrate, x, side, blocks))
            kind = cell.placement.kind
            masks = self._masks(2 * len(nodes[kind]), inputs.shape[1], position, noise)
            out = norms(f"cell/{position}", cell.compute, feeds, nodes[kind], ends[kind], masks)
            produced[position] = (out, ends[kind])
            produced.pop(position - 3, None)
            if self.auxiliary is not None and noise is not None and position == self._stack.auxiliary_after:
                auxiliary = self.auxiliary(out, norms)
        out, blocks = produced[len(self.cells) - 1]
        places = [self.head_blocks.index(block) for block in blocks]
        head = self.head if blocks == self.head_blocks else self.head[places]
        return linear(pool(out, head.dtype, noise), head.flatten(0, 1)) + self.head_bias, auxiliary

    def _masks(self, edges: int, batch: int, position: int, noise: Noise | None) -> Tensor | None:
        """[E, B]: 0 where an operation is dropped for an image, 1 / keep where it is not; None where none can be."""
        if noise is None or noise.drop_path == 0:
            return None
        depth = (position + 1) / len(self.cells)
        return keep((edges, batch), 1 - noise.drop_path * depth * noise.progress, noise.generator, self.head)

    def inherit(self, supernet: Network) -> None:
        if not isinstance(supernet, PairNetwork) or supernet.scale != self.scale:
            raise ValueError("a child inherits from the supernet of its own space and scale only")
        with torch.no_grad():
            for name in ("stem", "stem_gain", "stem_bias", "head_bias"):
                self.get_parameter(name).copy_(supernet.get_parameter(name))
            self.head.copy_(supernet.head[[supernet.head_blocks.index(block) for block in self.head_blocks]])
            for own, shared in zip(self.cells, supernet.cells, strict=True):
                assert isinstance(own, PairCell)
                assert isinstance(shared, PairCell)
                own.inherit(shared)
