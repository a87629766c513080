"""The network of DARTS: stacked pair cells that also compute a mixture of all operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from enas import kernels
from enas.kernels import Convolution, MixedWeights, Statistics
from enas.kernels.mixed import count_nodes, count_norms
from enas.space.base import Resident
from enas.space.layers import Norms, linear, pool, unused
from enas.space.network import Noise, Output
from enas.space.pair_cell import PairCell
from enas.space.pair_network import PairNetwork
from enas.space.pair_operations import DilatedSeparable, Identity, OperationTable, Pool, Separable
from enas.space.partial import beside, narrow, shuffle
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
        hard: bool = False,
    ) -> Output:
        if self.routes is not None:
            raise ValueError("the network of one row has no mixture")
        norms = Norms(statistics, collect)
        edges = mixing.shape[0] // len(self.searched)
        halves = dict(zip(self.searched, torch.split(mixing, edges), strict=True))
        codes: list[tuple[int, ...]] = [tuple(range(1, len(CODES)))] * mixing.shape[0]
        if hard:
            codes = [(code,) if code else () for code in mixing.argmax(dim=1).tolist()]
        produced = {STEM: self.begin(inputs, norms)}
        for position, cell in enumerate(self.cells):
            assert isinstance(cell, PairCell)
            placement = cell.placement
            feeds = [
                norms(f"calibration/{position}/{side}", cell.calibrate, produced[feed.producer], side, blocks)
                for side, (feed, blocks) in enumerate(zip(placement.feeds, cell.producers, strict=True))
            ]
            name, own = f"mixture/{position}", halves[placement.kind]
            if hard or self.scale.partial > 1:  # the kernel runs all operations, on all channels
                first = self.searched[placement.kind] * edges
                mixture = partial(compose, cell, codes=codes[first : first + edges])
                produced[position] = norms(name, mixture, feeds, own)
            else:
                compute = partial(kernels.mixed_cell, stride=placement.stride)
                produced[position] = norms(name, compute, *feeds, own, CODES, mixed_weights(cell))
            produced.pop(position - 2, None)
        pooled = pool(produced[len(self.cells) - 1], self.head.dtype, noise)
        return Output(linear(pooled, self.head.flatten(0, 1)) + self.head_bias, None, norms.collected())


def compose(
    cell: PairCell,
    inputs: Sequence[Tensor],
    mixing: Tensor,
    codes: Sequence[Sequence[int]],
    statistics: Tensor | None = None,
) -> tuple[Tensor, Statistics]:
    """What `kernels.mixed_cell` computes, operation by operation, of the operations `codes[edge]` only.

    inputs [M, B, H, W, C] twice, mixing [E, O], statistics [M, E * N, 2, C] in the order of the mixed cell.
    """
    outputs, used, weights = [], [], _gather(cell, codes)
    stride = cell.placement.stride
    counts = [count_norms((code,), stride) for code in CODES]
    first = [sum(counts[:code]) for code in range(len(CODES))]
    for child in range(inputs[0].shape[0]):
        slots = [x[child].unsqueeze(0) for x in inputs]
        own = [unused(cell.joins.gain)] * (sum(counts) * len(codes))
        edge = 0
        for node in range(count_nodes(len(codes))):
            total = torch.zeros_like(slots[0][:, :, ::stride, ::stride])
            for source in range(node + 2):
                step = stride if source < 2 else 1
                read, results = narrow(slots[source], cell.channels), []
                for code in codes[edge]:
                    place, norms = edge * sum(counts) + first[code], counts[code]
                    given = None if statistics is None else statistics[child, place : place + norms].unsqueeze(0)
                    result, moments = cell.operations[code].compute(weights[code][edge], read, step, given)
                    if moments is not None:
                        own[place : place + norms] = moments.tensor()[0].unbind()
                    results.append(mixing[edge, code] * result)
                if results:
                    passing = mixing[edge, codes[edge][0] : codes[edge][-1] + 1].sum()
                    total = total + beside(sum(results[1:], results[0]), slots[source], cell.channels, step, passing)
                edge += 1
            slots.append(shuffle(total, cell.channels))
        outputs.append(torch.cat(slots[2:], dim=-1)[0])
        used.append(torch.stack(own))
    return torch.stack(outputs), Statistics(torch.stack(used))


def _gather(cell: PairCell, codes: Sequence[Sequence[int]]) -> list[list[Mapping[str, Tensor]]]:
    """[code][edge] -> the weights of an operation that runs there, gathered at once for each table."""
    edges, reading = len(codes), _identity_edges(count_nodes(len(codes)))
    gathered: list[list[Mapping[str, Tensor]]] = []
    for code, (operation, table) in enumerate(zip(cell.operations, cell.tables, strict=True)):
        assert isinstance(table, OperationTable)
        places = [edge for edge in range(edges) if code in codes[edge]]
        rows = places
        if operation.strided:  # only edges that read an input have a row, and in a cell that reduces
            places = [edge for edge in places if edge in reading and cell.placement.stride > 1]
            rows = [reading.index(edge) for edge in places]
        own: list[Mapping[str, Tensor]] = [{}] * edges
        for edge, weights in zip(places, table.gather(rows), strict=True):
            own[edge] = weights
        gathered.append(own)
    return gathered


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
            rows = _identity_rows(identity.shape[0] // 2).on(identity.device)
            gain = gain.index_copy(0, rows, table.get_parameter("gain").unsqueeze(1))
            bias = bias.index_copy(0, rows, table.get_parameter("bias").unsqueeze(1))
        elif not isinstance(operation, Pool):
            continue  # zero and the plain identity have no batch norm
        gains.append(gain)
        biases.append(bias)
    return MixedWeights(tuple(convolutions), identity, torch.cat(gains, dim=1), torch.cat(biases, dim=1))


def _identity_edges(nodes: int) -> list[int]:
    """The 2 * nodes edges that read an input, in the order of the identity's rows."""
    return [node * (node + 3) // 2 + source for node in range(nodes) for source in (0, 1)]


@cache
def _identity_rows(nodes: int) -> Resident:
    """int64 [2 * nodes]: `_identity_edges`."""
    return Resident(torch.tensor(_identity_edges(nodes)))
