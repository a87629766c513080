"""The network of DARTS: stacked pair cells that also compute a mixture of all operations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from enas import kernels
from enas.kernels import Convolution, MixedWeights
from enas.space.base import Noise, Output
from enas.space.layers import Norms, linear, pool
from enas.space.pair_cell import PairCell
from enas.space.pair_network import PairNetwork
from enas.space.pair_operations import DilatedSeparable, Identity, OperationTable, Pool, Separable
from enas.space.relaxable import RelaxableNetwork
from enas.space.stacking import STEM

CODES = (
    kernels.ZERO,
    kernels.MAX_POOL_3,
    kernels.AVERAGE_POOL_3,
    kernels.IDENTITY,
    kernels.SEPARABLE_3,
    kernels.SEPARABLE_5,
    kernels.DILATED_3,
    kernels.DILATED_5,
)
"""The kernels' codes of DARTS's operations, in its order."""


class DartsNetwork(PairNetwork, RelaxableNetwork):
    """Beside what a PairNetwork does, the mixture: with the same weights, since an edge has one row of each."""

    def mix(
        self,
        inputs: Tensor,
        mixing: Tensor,
        *,
        statistics: Mapping[str, Tensor] | None = None,
        noise: Noise | None = None,
        collect: bool = False,
    ) -> Output:
        if self.routes is not None:
            raise ValueError("the network of one row has no mixture")
        norms = Norms(statistics, collect)
        halves = dict(zip(self.searched, torch.split(mixing, mixing.shape[0] // len(self.searched)), strict=True))
        produced = {STEM: self.begin(inputs, norms)}
        for position, cell in enumerate(self.cells):
            assert isinstance(cell, PairCell)
            placement = cell.placement
            feeds = [
                norms(f"calibration/{position}/{side}", cell.calibrate, produced[feed.producer], side, blocks)
                for side, (feed, blocks) in enumerate(zip(placement.feeds, cell.producers, strict=True))
            ]
            weights = mixed_weights(cell)
            compute = partial(kernels.mixed_cell, stride=placement.stride)
            produced[position] = norms(f"mixture/{position}", compute, *feeds, halves[placement.kind], CODES, weights)
            produced.pop(position - 2, None)
        pooled = pool(produced[len(self.cells) - 1], self.head.dtype, noise)
        return Output(linear(pooled, self.head.flatten(0, 1)) + self.head_bias, None, norms.collected())


def mixed_weights(cell: PairCell) -> MixedWeights:
    """The weights of a supernet's cell as the kernels' mixed cell takes them."""
    channels, edges = cell.placement.filters, len(cell.kept.operations[0])
    blank = cell.joins.gain.new_zeros(edges, 1, channels)
    convolutions, gains, biases = [], [], []
    identity = blank.new_empty(0, channels, channels)
    for operation, table in zip(cell.operations, cell.tables, strict=True):
        assert isinstance(table, OperationTable)
        gain, bias = blank + 1, blank
        if isinstance(operation, Separable | DilatedSeparable):
            convolutions.append(Convolution(table.get_parameter("depthwise"), table.get_parameter("pointwise")))
            gain, bias = table.get_parameter("gain"), table.get_parameter("bias")
        elif isinstance(operation, Identity) and cell.placement.stride > 1:
            identity = table.get_parameter("pointwise")
            rows = _identity_edges(identity.shape[0] // 2, identity.device)
            gain = gain.index_copy(0, rows, table.get_parameter("gain").unsqueeze(1))
            bias = bias.index_copy(0, rows, table.get_parameter("bias").unsqueeze(1))
        elif not isinstance(operation, Pool):
            continue  # zero and the plain identity have no batch norm
        gains.append(gain)
        biases.append(bias)
    return MixedWeights(tuple(convolutions), identity, torch.cat(gains, dim=1), torch.cat(biases, dim=1))


def _identity_edges(nodes: int, device: torch.device) -> Tensor:
    """int64 [2 * nodes]: the edges that read an input, in the order of the identity's rows."""
    edges = [node * (node + 3) // 2 + source for node in range(nodes) for source in (0, 1)]
    return torch.tensor(edges, device=device)
