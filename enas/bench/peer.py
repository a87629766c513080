"""The peer: the network of the ENAS cell space as a careful user of torch.nn writes it.

Planes [B, C, H, W] in either of torch's two layouts, one module for each operation an edge may have, only the sampled
operation computed, each batch norm by its own batch. `copy_weights` gives it the weights of a supernet; the two then
compute the same function (tests/bench/test_peer.py), so that a comparison is one of speed alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from enas.space import EnasMicro, Scale
from enas.space.cells import Cell, CellNetwork
from enas.space.rows import PointwiseTable, SeparableTable
from enas.space.stacking import STEM, Placement, stack_cells

Blocks = tuple[int, ...]
"""Which slots of a cell a concatenated tensor holds, in order; (0,) for a tensor that is no concatenation."""

WHOLE: Blocks = (0,)


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm that always uses its own batch."""
    return nn.BatchNorm2d(channels, track_running_stats=False)


class PeerSeparable(nn.Sequential):
    """(ReLU, depthwise, pointwise, batch norm) twice, the stride in the first depthwise convolution."""

    def __init__(self, channels: int, kernel: int, stride: int = 1):
        super().__init__()
        for step in (stride, 1):
            self.extend(
                [
                    nn.ReLU(),
                    nn.Conv2d(channels, channels, kernel, step, kernel // 2, groups=channels, bias=False),
                    nn.Conv2d(channels, channels, 1, bias=False),
                    norm(channels),
                ]
            )

    def copy_weights(self, table: SeparableTable, row: int) -> None:
        layers = [layer for layer in self if not isinstance(layer, nn.ReLU)]
        for half in (0, 1):
            depthwise, pointwise, batch_norm = layers[3 * half : 3 * half + 3]
            assert isinstance(depthwise, nn.Conv2d)
            assert isinstance(pointwise, nn.Conv2d)
            assert isinstance(batch_norm, nn.BatchNorm2d)
            depthwise.weight.copy_(table.depthwise[row, half].permute(2, 0, 1).unsqueeze(1))
            pointwise.weight.copy_(table.pointwise[row, half].T[:, :, None, None])
            batch_norm.weight.copy_(table.gain[row, half])
            batch_norm.bias.copy_(table.bias[row, half])


class PeerPointwise(nn.Module):
    """ReLU, 1x1 convolution over some of `blocks` concatenated tensors of `inputs` channels each, batch norm."""

    def __init__(self, inputs: int, outputs: int, blocks: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(blocks, outputs, inputs))
        self.norm = norm(outputs)

    def forward(self, x: Tensor, blocks: Blocks = WHOLE) -> Tensor:
        """[B, len(blocks) * inputs, H, W] -> [B, outputs, H, W]."""
        out: Tensor = self.norm(functional.conv2d(functional.relu(x), _joined(self.weight, blocks)))
        return out

    def copy_weights(self, table: PointwiseTable) -> None:
        self.weight.copy_(table.weight.transpose(1, 2))
        self.norm.weight.copy_(table.gain[0])
        self.norm.bias.copy_(table.bias[0])


class PeerReduction(nn.Module):
    """Factorised reduction and batch norm: the even pixels give the first half of the channels, the odd the second.

    rectified  whether a ReLU comes first
    """

    def __init__(self, inputs: int, outputs: int, blocks: int = 1, rectified: bool = False):
        super().__init__()
        self.rectified = rectified
        self.even_channels = (outputs + 1) // 2
        self.weight = nn.Parameter(torch.empty(blocks, outputs, inputs))
        self.norm = norm(outputs)

    def forward(self, x: Tensor, blocks: Blocks = WHOLE) -> Tensor:
        """[B, len(blocks) * inputs, H, W] -> [B, outputs, ceil(H / 2), ceil(W / 2)]."""
        if self.rectified:
            x = functional.relu(x)
        weight = _joined(self.weight, blocks)
        even = functional.conv2d(x, weight[: self.even_channels], stride=2)
        height, width = x.shape[2:]
        if height % 2 or width % 2:  # the last odd pixel lies outside
            x = functional.pad(x, (0, width % 2, 0, height % 2))
        odd = functional.conv2d(x[:, :, 1:, 1:], weight[self.even_channels :], stride=2)
        out: Tensor = self.norm(torch.cat([even, odd], dim=1))
        return out

    def copy_weights(self, table: PointwiseTable, row: int | None = None) -> None:
        """From one row of `table`, or from all of them, which are then the blocks."""
        weight = table.weight if row is None else table.weight[row : row + 1]
        self.weight.copy_(weight.transpose(1, 2))
        self.norm.weight.copy_(table.gain[row or 0])
        self.norm.bias.copy_(table.bias[row or 0])


class PeerCell(nn.Module):
    """One cell: modules for every edge it may have; a row of choices says which of them are computed."""

    def __init__(self, placement: Placement, nodes: int, output: str):
        super().__init__()
        channels, stride = placement.filters, placement.stride
        self.nodes, self.stride = nodes, stride
        sources = [source for node in range(nodes) for _side in (0, 1) for source in range(node + 2)]
        self.rows = len(sources)
        self.separable = nn.ModuleList(
            PeerSeparable(channels, kernel, stride if source < 2 else 1) for kernel in (3, 5) for source in sources
        )
        strided = 4 * nodes if stride > 1 else 0
        self.identity = nn.ModuleList(PeerReduction(channels, channels) for _ in range(strided))
        self.loose = nn.ModuleList(PeerReduction(channels, channels) for _ in range(2 if stride > 1 else 0))
        self.project = PeerPointwise(channels, channels, nodes + 2) if output == "project" else None
        self.strided_pools = self._pools(stride)
        self.pools = self._pools(1)

    def _pools(self, stride: int) -> nn.ModuleList:
        return nn.ModuleList(
            [nn.AvgPool2d(3, stride, 1, count_include_pad=False), nn.MaxPool2d(3, stride, 1)],
        )

    def forward(self, input0: Tensor, input1: Tensor, row: Sequence[int]) -> tuple[Tensor, Blocks]:
        """Two inputs [B, C, H, W] and this cell's 4 * nodes choices -> the output and the slots it concatenates."""
        slots = [input0, input1]
        for node in range(self.nodes):
            own = row[4 * node : 4 * node + 4]
            slots.append(self._edge(slots, node, 0, *own[:2]) + self._edge(slots, node, 1, *own[2:]))
        read = set(row[::2])
        blocks = tuple(slot for slot in range(len(slots)) if slot not in read)
        ends = [self.loose[slot](slots[slot]) if slot < 2 and self.stride > 1 else slots[slot] for slot in blocks]
        joined = ends[0] if len(ends) == 1 else torch.cat(ends, dim=1)
        return (joined, blocks) if self.project is None else (self.project(joined, blocks), WHOLE)

    def _edge(self, slots: Sequence[Tensor], node: int, side: int, source: int, operation: int) -> Tensor:
        x = slots[source]
        if operation < 2:
            place = node * (node + 3) + side * (node + 2) + source
            out: Tensor = self.separable[operation * self.rows + place](x)
            return out
        strided = source < 2 and self.stride > 1
        if operation < 4:
            out = (self.strided_pools if strided else self.pools)[operation - 2](x)
            return out
        if strided:
            out = self.identity[4 * node + 2 * side + source](x)
            return out
        return x

    def copy_weights(self, cell: Cell) -> None:
        for place, module in enumerate(self.separable):
            assert isinstance(module, PeerSeparable)
            module.copy_weights((cell.separable3, cell.separable5)[place // self.rows], place % self.rows)
        for modules, table in ((self.identity, cell.identity), (self.loose, cell.loose)):
            for row, module in enumerate(modules):
                assert isinstance(module, PeerReduction)
                module.copy_weights(table, row)
        if self.project is not None and cell.project is not None:
            self.project.copy_weights(cell.project)


class PeerNetwork(nn.Module):
    """The shared weights of every child of `space` at `scale`, as plain modules. They are set by `copy_weights`."""

    def __init__(self, space: EnasMicro, scale: Scale):
        super().__init__()
        stack = stack_cells(scale, space.output == "concat")
        width = 1 if space.output == "project" else space.nodes + 2
        self.placements = stack.cells
        self.stem = nn.Sequential(
            nn.Conv2d(scale.channels, stack.stem_channels, 3, padding=1, bias=False), norm(stack.stem_channels)
        )
        self.calibrations = nn.ModuleList()
        for placement in stack.cells:
            for feed in placement.feeds:
                blocks = 1 if feed.producer == STEM else width
                self.calibrations.append(
                    nn.Identity()
                    if feed.calibration == "none"
                    else PeerPointwise(feed.channels, placement.filters, blocks)
                    if feed.calibration == "pointwise"
                    else PeerReduction(feed.channels, placement.filters, blocks, rectified=True)
                )
        self.cells = nn.ModuleList(PeerCell(placement, space.nodes, space.output) for placement in stack.cells)
        self.head = nn.Parameter(torch.empty(width, scale.classes, stack.cells[-1].filters))

    def forward(self, x: Tensor, row: Sequence[int]) -> Tensor:
        """[B, C, H, W] and the choices of one child -> logits [B, K]."""
        rows = {"normal": row[: len(row) // 2], "reduction": row[len(row) // 2 :]}
        produced: dict[int, tuple[Tensor, Blocks]] = {STEM: (self.stem(x), WHOLE)}
        for position, (placement, cell) in enumerate(zip(self.placements, self.cells, strict=True)):
            inputs = []
            for side, feed in enumerate(placement.feeds):
                calibration, (tensor, blocks) = self.calibrations[2 * position + side], produced[feed.producer]
                inputs.append(tensor if feed.calibration == "none" else calibration(tensor, blocks))
            produced[position] = cell(*inputs, rows[placement.kind])
            produced.pop(position - 2, None)
        last, blocks = produced[len(self.cells) - 1]
        return functional.linear(functional.relu(last).mean(dim=(2, 3)), _joined(self.head, blocks)[:, :, 0, 0])

    @torch.no_grad()
    def copy_weights(self, network: CellNetwork) -> None:
        """Take the weights of a supernet's network of the same space and scale."""
        convolution, batch_norm = self.stem
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(batch_norm, nn.BatchNorm2d)
        convolution.weight.copy_(network.stem.permute(3, 2, 0, 1))
        batch_norm.weight.copy_(network.stem_gain)
        batch_norm.bias.copy_(network.stem_bias)
        for position, cell in enumerate(network.cells):
            assert isinstance(cell, Cell)
            for side, table in enumerate(cell.calibrations):
                calibration = self.calibrations[2 * position + side]
                if isinstance(table, PointwiseTable):
                    assert isinstance(calibration, PeerPointwise | PeerReduction)
                    calibration.copy_weights(table)
            own = self.cells[position]
            assert isinstance(own, PeerCell)
            own.copy_weights(cell)
        self.head.copy_(network.head.transpose(1, 2))


class PeerDescent:
    """What `enas.descent.Descent` does, for the peer's thousands of small tensors: torch's fused optimiser, which is
    two to three times as fast on them as the one that works on lists of tensors. A clip of None clips nothing.
    """

    def __init__(self, network: PeerNetwork, momentum: float, weight_decay: float, clip: float | None):
        self._parameters = list(network.parameters())
        self._clip = clip
        for parameter in self._parameters:  # zero, not absent: unsampled weights move by momentum and decay
            parameter.grad = torch.zeros_like(parameter)
        self._optimiser = torch.optim.SGD(
            self._parameters, lr=0.0, momentum=momentum, nesterov=True, weight_decay=weight_decay, fused=True
        )

    def step(self, loss: Tensor, rate: float) -> None:
        """Differentiate `loss` and move the weights."""
        self._optimiser.zero_grad(set_to_none=False)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._clip)
        self._optimiser.param_groups[0]["lr"] = rate
        self._optimiser.step()


def _joined(weight: Tensor, blocks: Blocks) -> Tensor:
    """[blocks, C', C] -> the kernel of a 1x1 convolution over those of `blocks`: [C', len(blocks) * C, 1, 1]."""
    own = weight.unbind()
    joined = own[blocks[0]] if len(blocks) == 1 else torch.cat([own[block] for block in blocks], dim=1)
    return joined[:, :, None, None]
