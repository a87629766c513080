"""Cases of single operations: what a kernel does, through autograd, against the same layers of torch.nn."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from enas import kernels
from enas.bench.cases import COMPILED, LAYOUTS, OURS, Case, Setting, Sides, in_layout, to_planes
from enas.bench.machine import autocast
from enas.bench.peer import PeerCell, PeerPointwise, PeerReduction, PeerSeparable, norm
from enas.bench.timing import Call
from enas.randomness import seeded
from enas.space.cells import Cell
from enas.space.enas_micro import OPERATIONS
from enas.space.operations import pointwise_cost
from enas.space.rows import KeptRows, PointwiseTable, SeparableTable, he_normal
from enas.space.stacking import Feed, Placement, halve

PUBLISHED = [(channels, size, kernel) for channels, size in ((20, 32), (40, 16), (80, 8)) for kernel in (3, 5)]
"""Channels, side of the image and of the filter: the separable convolutions of the published search."""
NODES = 5

Ours = Callable[[Tensor], Tensor]
Make = Callable[[torch.Generator, torch.device], tuple[Ours, list[Tensor], nn.Module]]


@dataclass(frozen=True)
class Shape:
    """Input [B, H, W, C] and output [B, H', W', C'] of an operation."""

    batch: int
    size: int
    inputs: int
    outputs: int
    stride: int = 1

    @property
    def input(self) -> tuple[int, int, int, int]:
        """[B, H, W, C]."""
        return self.batch, self.size, self.size, self.inputs

    @property
    def output(self) -> tuple[int, int, int, int]:
        """[B, H', W', C']."""
        size = halve(self.size, self.stride)
        return self.batch, size, size, self.outputs

    @property
    def read(self) -> int:
        """Elements of the input."""
        return math.prod(self.input)

    @property
    def pixels(self) -> int:
        """Pixels of the output."""
        return math.prod(self.output[:3])

    @property
    def written(self) -> int:
        """Elements of the output."""
        return math.prod(self.output)


@dataclass(frozen=True)
class Operation:
    """One operation: what we call, the peer's module of the same weights, and what it moves and computes.

    make     gives our call on [1, B, H, W, C], its weights, and the peer's module on planes
    forward, backward   elements moved by each pass
    macs     multiply-adds of the forward pass; the gradients of input and weights take as many again, each
    input_wanted  whether the gradient of the input is asked for; not where the input is images
    """

    name: str
    shape: Shape
    make: Make
    forward: float
    backward: float
    macs: float
    input_wanted: bool = True


def cases(setting: Setting) -> Iterator[Case]:
    """Every operation, forward and forward with backward."""
    for operation in operations(setting.batch_size):
        for backward in (False, True):
            yield Case(
                f"{operation.name}/{'fwd+bwd' if backward else 'fwd'}",
                partial(_sides, operation, setting, backward),
                setting.storage.itemsize * (operation.forward + (operation.backward if backward else 0)),
                2 * operation.macs * ((2 + operation.input_wanted) if backward else 1),
            )


def operations(batch: int) -> Iterator[Operation]:
    """Those of the published network, at `batch` images."""
    for channels, size, kernel in PUBLISHED:
        yield _separable(Shape(batch, size, channels, channels), kernel)
    for channels, size, kernel in PUBLISHED:
        yield _half(Shape(batch, size, channels, channels), kernel)
    yield _convolution(Shape(batch, 32, 3, 60))
    yield _pointwise(Shape(batch, 32, 60, 20))
    yield _reduction(Shape(batch, 32, 20, 40, stride=2))
    for channels, size in ((20, 32), (40, 16), (80, 8)):
        for operation in OPERATIONS[2:]:
            yield _cell(Shape(batch, size, channels, channels), operation.code, operation.name)


def _separable(shape: Shape, kernel: int) -> Operation:
    def make(generator: torch.Generator, device: torch.device) -> tuple[Ours, list[Tensor], nn.Module]:
        table = SeparableTable(1, kernel, shape.inputs, generator)
        peer = PeerSeparable(shape.inputs, kernel)
        with torch.no_grad():
            peer.copy_weights(table, 0)
        depthwise, pointwise, gain, bias = weights = _leaves([weight[0] for weight in table.weights()], device)
        return lambda x: kernels.separable(x, depthwise, pointwise, gain, bias)[0], weights, peer

    # Forward reads x, writes and reads both outputs before their batch norms, writes the result. Backward reads the
    # gradient and the second of them for its sums, again for the second half, with the first, and writes a gradient;
    # the first half reads that, the first output and x and writes x's gradient. All are of one size.
    macs = 2 * shape.pixels * shape.inputs * (kernel**2 + shape.inputs)
    return Operation(f"sepconv/{_name(shape, kernel)}", shape, make, 6 * shape.read, 10 * shape.read, macs)


def _half(shape: Shape, kernel: int) -> Operation:
    def make(generator: torch.Generator, device: torch.device) -> tuple[Ours, list[Tensor], nn.Module]:
        table = SeparableTable(1, kernel, shape.inputs, generator)
        whole = PeerSeparable(shape.inputs, kernel)
        with torch.no_grad():
            whole.copy_weights(table, 0)
        peer = nn.Sequential(*list(whole)[:3])
        depthwise, pointwise = weights = _leaves([table.depthwise[0, 0], table.pointwise[0, 0]], device)
        return lambda x: kernels.sepconv_half(x, None, depthwise, pointwise)[0], weights, peer

    macs = shape.pixels * shape.inputs * (kernel**2 + shape.inputs)
    return Operation(f"sepconv_half/{_name(shape, kernel)}", shape, make, 2 * shape.read, 3 * shape.read, macs)


def _normed(name: str, shape: Shape, macs: float, make: Make, input_wanted: bool = True) -> Operation:
    # Forward: read x, write and read the output before its batch norm, write the result. Backward: read the gradient
    # and that output twice, read x, write its gradient.
    forward, backward = shape.read + 3 * shape.written, 4 * shape.written + (1 + input_wanted) * shape.read
    name = f"{name}/C{shape.inputs}to{shape.outputs}H{shape.size}"
    return Operation(name, shape, make, forward, backward, macs, input_wanted)


def _convolution(shape: Shape) -> Operation:
    def make(generator: torch.Generator, device: torch.device) -> tuple[Ours, list[Tensor], nn.Module]:
        kernel = he_normal((3, 3, shape.inputs, shape.outputs), 9 * shape.inputs, generator)
        convolution = nn.Conv2d(shape.inputs, shape.outputs, 3, padding=1, bias=False)
        peer = nn.Sequential(convolution, norm(shape.outputs))
        with torch.no_grad():
            convolution.weight.copy_(kernel.permute(3, 2, 0, 1))
        weights = _leaves([kernel, torch.ones(shape.outputs), torch.zeros(shape.outputs)], device)
        return lambda x: kernels.convolution_norm(x, *weights)[0], weights, peer

    return _normed("convolution_norm", shape, shape.pixels * 9 * shape.inputs * shape.outputs, make, False)


def _pointwise(shape: Shape) -> Operation:
    def make(generator: torch.Generator, device: torch.device) -> tuple[Ours, list[Tensor], nn.Module]:
        table = PointwiseTable(1, shape.inputs, shape.outputs, generator)
        peer = PeerPointwise(shape.inputs, shape.outputs)
        with torch.no_grad():
            peer.copy_weights(table)
        weights = _leaves(list(table.weights()), device)
        return lambda x: kernels.pointwise_norm(x, kernels.Pointwise(*weights))[0], weights, peer

    return _normed("pointwise_norm", shape, pointwise_cost(shape.inputs, shape.outputs, shape.pixels).macs, make)


def _reduction(shape: Shape) -> Operation:
    def make(generator: torch.Generator, device: torch.device) -> tuple[Ours, list[Tensor], nn.Module]:
        table = PointwiseTable(1, shape.inputs, shape.outputs, generator)
        peer = PeerReduction(shape.inputs, shape.outputs, rectified=True)
        with torch.no_grad():
            peer.copy_weights(table)
        weights = _leaves(list(table.weights()), device)
        return lambda x: kernels.reduction_norm(x, kernels.Pointwise(*weights))[0], weights, peer

    return _normed("reduction_norm", shape, pointwise_cost(shape.inputs, shape.outputs, shape.pixels).macs, make)


class _CellOfOne(nn.Module):
    """A peer's cell that reads one tensor twice."""

    def __init__(self, cell: PeerCell, row: Sequence[int]):
        super().__init__()
        self.cell, self.row = cell, row

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.cell(x, x, self.row)[0]
        return out


def _cell(shape: Shape, code: int, name: str) -> Operation:
    """A cell all of whose edges are one operation without weights, each node reading the two slots before it."""
    row = [choice for node in range(NODES) for choice in (node, code, node + 1, code)]

    def make(generator: torch.Generator, device: torch.device) -> tuple[Ours, list[Tensor], nn.Module]:
        feed = Feed(0, shape.inputs, "none")
        placement = Placement("normal", shape.inputs, shape.size, shape.size, (feed, feed))
        cell = Cell(placement, KeptRows.shared(NODES, "normal"), ((0,), (0,)), "project", generator).to(device)
        peer = PeerCell(placement, NODES, "project")
        with torch.no_grad():
            peer.copy_weights(cell)
        edges = torch.tensor(row, dtype=torch.int32, device=device).reshape(1, 2 * NODES, 2)
        routes = torch.cat([edges, torch.zeros_like(edges[..., :1])], dim=2)
        assert cell.project is not None
        weights: list[Tensor] = list(cell.project.parameters())

        def ours(x: Tensor) -> Tensor:
            return kernels.cell(x, x, routes, cell.weights())[0]

        return ours, weights, _CellOfOne(peer, row)

    # A node reads two slots and is written; the last is multiplied (read, written), normed (read, written). Backward
    # reads and writes the gradients of both slots for each node, and for maxima and the product the slots themselves.
    forward, backward = NODES * 3 + 4, NODES * 6 + 6
    macs = shape.pixels * shape.inputs**2
    return Operation(
        f"cell/{name}/C{shape.inputs}H{shape.size}", shape, make, forward * shape.read, backward * shape.read, macs
    )


def _sides(operation: Operation, setting: Setting, backward: bool) -> Sides:
    """Ours and the peers on equal numbers. Both directions go through autograd, forward too: as in training."""
    generator, device = seeded(setting.seed, operation.name), setting.device
    ours, weights, module = operation.make(generator, device)
    images, gradients = (
        torch.randn(shape, generator=generator).to(device, setting.storage)
        for shape in (operation.shape.input, operation.shape.output)
    )

    def call(compute: Ours, x: Tensor, own: Sequence[Tensor], gradient: Tensor) -> Call:
        return _call(compute, x.requires_grad_(operation.input_wanted), own, gradient if backward else None)

    def peer(layout: str, compiled: bool) -> Call:
        own = in_layout(copy.deepcopy(module), layout, device)
        compute: Ours = torch.compile(own, dynamic=False) if compiled else own

        def in_precision(planes: Tensor) -> Tensor:
            with autocast(setting.precision, device):
                return compute(planes)

        return call(in_precision, to_planes(images, layout), list(own.parameters()), to_planes(gradients, layout))

    calls = {OURS: call(ours, images.unsqueeze(0).clone(), weights, gradients.unsqueeze(0))}
    absent = {}
    for layout in LAYOUTS:
        calls[layout] = peer(layout, compiled=False)
    if setting.compiled:
        try:
            calls[COMPILED] = peer("channels_last", compiled=True)
        except Exception as error:  # a compiler that is missing or fails raises almost anything
            absent[COMPILED] = str(error).strip().partition("\n")[0]
    return Sides(calls, absent)


def _call(compute: Ours, x: Tensor, weights: Sequence[Tensor], gradient: Tensor | None) -> Call:
    """The forward pass, which gives the output; or, told the output's gradient, both passes, which give those of x,
    where it wants one, and of the weights that take part.
    """
    if gradient is None:
        compute(x)  # a compiler that fails does so here
        return lambda _: compute(x)
    asked = [tensor for tensor in (x, *weights) if tensor.requires_grad]
    found = torch.autograd.grad(compute(x), asked, gradient, allow_unused=True)
    used = [tensor for tensor, own in zip(asked, found, strict=True) if own is not None]
    return lambda _: torch.autograd.grad(compute(x), used, gradient)


def _leaves(weights: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    return [weight.detach().to(device).contiguous().requires_grad_() for weight in weights]


def _name(shape: Shape, kernel: int) -> str:
    return f"C{shape.inputs}H{shape.size}k{kernel}"
