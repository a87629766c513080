"""The operations of pair cells: what they compute, beside torch's own modules, and what they cost."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from conformance import generator
from enas import kernels
from enas.kernels.interface import EPSILON
from enas.space import SPACES
from enas.space.pair_operations import (
    Dense,
    DilatedSeparable,
    Identity,
    OperationTable,
    PairOperation,
    Pool,
    Separable,
    Stacked,
    Zero,
)
from enas.space.pair_space import PairSpace
from tolerances import assert_same

CHANNELS = 4
SPACES_OF_PAIRS = [space for space in SPACES.values() if issubclass(space, PairSpace)]
OPERATIONS = {repr(operation): operation for space in SPACES_OF_PAIRS for operation in space.operations}


def weights_of(operation: PairOperation, stride: int) -> dict[str, Tensor]:
    """One row, with gains and biases that are seen."""
    table = OperationTable(1, operation.shapes(CHANNELS, stride), generator(1)).double()
    with torch.no_grad():
        for parameter in table.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator(2), dtype=torch.float64)
    return table.gather([0])[0]


def images(height: int = 9, width: int = 8) -> Tensor:
    return torch.randn(1, 3, height, width, CHANNELS, generator=generator(3), dtype=torch.float64)


def norm(weights: Mapping[str, Tensor], place: int | None = None) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(CHANNELS, eps=EPSILON).double()
    gain, bias = (weights[name] if place is None else weights[name][place] for name in ("gain", "bias"))
    layer.weight, layer.bias = nn.Parameter(gain), nn.Parameter(bias)
    return layer


def convolution(kernel: Tensor, stride: int | tuple[int, int], dilation: int = 1, groups: int = 1) -> nn.Conv2d:
    """kernel [h, w, C, C'], or [h, w, 1, C'] with a group for each channel."""
    height, width, inputs, outputs = kernel.shape
    padding = (height // 2 * dilation, width // 2 * dilation)
    size = (height, width)
    layer = nn.Conv2d(inputs * groups, outputs, size, stride, padding, dilation, groups, bias=False).double()
    layer.weight = nn.Parameter(kernel.permute(3, 2, 0, 1))
    return layer


def expected(operation: PairOperation, weights: Mapping[str, Tensor], stride: int) -> nn.Module:
    """The operation of torch's modules, on [B, C, H, W]."""
    match operation:
        case Identity():
            return nn.Sequential(nn.ReLU(), convolution(weights["pointwise"][None, None], stride), norm(weights))
        case Separable() | DilatedSeparable():
            layers: list[nn.Module] = []
            for half, (depthwise, pointwise) in enumerate(zip(weights["depthwise"], weights["pointwise"], strict=True)):
                dilation = 2 if isinstance(operation, DilatedSeparable) else 1
                step = stride if half == 0 else 1
                layers += [
                    nn.ReLU(),
                    convolution(depthwise.unsqueeze(2), step, dilation, CHANNELS),
                    convolution(pointwise[None, None], 1),
                    norm(weights, half),
                ]
            return nn.Sequential(*layers)
        case Dense():
            return nn.Sequential(nn.ReLU(), convolution(weights["kernel"], stride, operation.dilation), norm(weights))
        case Stacked():
            across, down = weights["kernel"][0][None], weights["kernel"][1][:, None]
            first = (nn.ReLU(), convolution(across, (1, stride)), norm(weights, 0))
            return nn.Sequential(*first, nn.ReLU(), convolution(down, (stride, 1)), norm(weights, 1))
        case Pool():
            around = operation.kernel // 2
            if operation.kind == "max":
                pool: nn.Module = nn.MaxPool2d(operation.kernel, stride, around)
            else:
                pool = nn.AvgPool2d(operation.kernel, stride, around, count_include_pad=False)
            return (
                nn.Sequential(pool, nn.BatchNorm2d(CHANNELS, EPSILON, affine=False).double())
                if operation.normed
                else pool
            )
    raise AssertionError(operation)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_it_is_what_torch_s_modules_compute(operation: PairOperation, stride: int) -> None:
    weights, x = weights_of(operation, stride), images()
    out, statistics = operation.compute(weights, x, stride, None)
    if isinstance(operation, Zero):
        assert torch.equal(out, torch.zeros_like(x[:, :, ::stride, ::stride]))
    elif isinstance(operation, Identity) and stride == 1:
        assert out is x
    elif not (isinstance(operation, Identity) and operation.reduced):
        planes = expected(operation, weights, stride)(x[0].permute(0, 3, 1, 2))
        assert_same(out[0], planes.permute(0, 2, 3, 1))
    assert out.shape == x[:, :, ::stride, ::stride].shape
    if statistics is not None:
        given = statistics.tensor()
        assert given.shape[:1] + given.shape[2:] == (1, 2, CHANNELS)
        blank = torch.tensor([0.0, 1.0], dtype=torch.float64)[:, None].expand(1, 2, 2, CHANNELS)
        padded = torch.cat([given, blank], dim=1)[:, :2]  # an operation takes what it needs
        assert_same(operation.compute(weights, x, stride, padded)[0], out)
        one = torch.cat([operation.compute(weights, x[:, [place]], stride, padded)[0] for place in range(3)], dim=1)
        assert_same(one, out)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("size", [(9, 8), (1, 6)])
def test_it_costs_what_it_has_and_does(operation: PairOperation, stride: int, size: tuple[int, int]) -> None:
    kernels.select("reference", torch.device("cpu"))
    weights = weights_of(operation, stride)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        operation.compute(weights, images(*size)[:, :1], stride, None)
    params = sum(weight.numel() for weight in weights.values())
    assert operation.cost(CHANNELS, stride, *size) == (params, counter.get_total_flops() // 2)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_images_may_be_stored_in_bfloat16(operation: PairOperation) -> None:
    weights = {name: weight.float() for name, weight in weights_of(operation, 2).items()}
    x = images().bfloat16()
    out, _ = operation.compute(weights, x, 2, None)
    assert out.dtype == torch.bfloat16
    assert_same(out, operation.compute(weights, x.float(), 2, None)[0].bfloat16())


def test_rows_are_gathered_and_unused_ones_have_zero_gradients() -> None:
    table = OperationTable(4, Dense("", 1).shapes(2, 1), generator())
    one, other = table.gather([3, 1])
    assert torch.equal(one["kernel"], table.get_parameter("kernel")[3])
    (2 * other["kernel"]).sum().backward()
    gradient = table.get_parameter("kernel").grad
    assert gradient is not None
    assert gradient.flatten(1).sum(dim=1).tolist() == [0.0, 8.0, 0.0, 0.0]
    assert list(OperationTable(0, Dense("", 1).shapes(2, 1), generator()).parameters()) == []
