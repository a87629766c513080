"""Separable convolutions and cells of csrc/cuda on the host: both passes against autograd on the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from enas.kernels import native, reference, shapes
from kernels.device import HostDevice
from kernels.half_cases import HALF_CASES
from kernels.native_cases import Case, normal, rebuilt
from kernels.native_cases import statistics as statistics_of
from kernels.operations import Case as Call
from kernels.operations import convert, shift
from tolerances import NEAR_GRADIENTS, assert_near, assert_same

TYPES = (torch.float64, torch.float32, torch.bfloat16)


def assert_right(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert found.shape == expected.shape
    if dtype == torch.float64:
        assert_same(found, expected)
    else:
        assert_near(found, expected, dtype, NEAR_GRADIENTS)


def leaves_of(tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """In float64 beside float32, which is compared with the exact result; bfloat16 with its own definition."""
    return [(x if dtype == torch.bfloat16 else x.double()).detach().requires_grad_() for x in tensors]


def call(device: HostDevice, operation: str, arguments: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """In all orders of threads, and once more with tensors that are aligned for one number only, summed otherwise."""
    found = device.call_in_all_orders(operation, *arguments)
    dtype = found[0].dtype
    for one, other in zip(found, device.call(operation, *shift(arguments)), strict=True):
        assert torch.equal(one.isnan(), other.isnan())
        assert_right(one.nan_to_num(), other.nan_to_num(), dtype)
    return found


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("case", HALF_CASES, ids=lambda case: case.name)
def test_half(device: HostDevice, case: Call, dtype: torch.dtype) -> None:
    arguments = case.arguments(dtype)
    expected = case.expected(dtype, *convert(arguments, torch.float64))
    for one, other in zip(call(device, case.operation, arguments), expected, strict=True):
        assert other is not None
        assert_right(one, other.to(one.dtype), dtype)


CELLS = {
    "normal": Case(channels=20, height=9, width=10),
    "concatenated": Case(channels=5, project=False, seed=1),
    "reduction": Case(channels=12, height=11, width=9, stride=2, seed=2),
    "concatenated reduction": Case(channels=7, height=9, width=5, stride=2, project=False, seed=3),
    "wide": Case(children=1, batch=1, channels=80, height=8, width=8, nodes=2, seed=4),
    "odd": Case(children=2, channels=33, height=5, width=3, nodes=2, stride=2, seed=5),
    "one pixel": Case(channels=3, batch=9, height=1, width=1, stride=2, seed=6),
    "one channel": Case(channels=1, height=4, width=3, seed=7),
    "no children": Case(children=0, channels=4, stride=2),
}


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize(
    ("given", "scaled"),
    [(False, "unscaled"), (True, "scaled"), (False, "scaled by image")],
    ids=["own", "given", "image"],
)
@pytest.mark.parametrize("name", CELLS)
def test_cell(device: HostDevice, name: str, given: bool, scaled: str, dtype: torch.dtype) -> None:
    case = CELLS[name]
    if name.startswith("one ") and dtype != torch.float64:
        pytest.skip("batch norms over so few numbers leave little but rounding of the gradients")
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    input0, input1 = (x.to(dtype) for x in case.inputs())
    if given and case.children > 0:
        input0 = input0[:1]  # for all children
    weights = [tensor.to(wide) for tensor in case.weights().tensors()]
    block, loose_row = case.weights().block, case.weights().loose_row
    shape = (case.children, case.edges) if scaled == "scaled" else (case.children, case.edges, case.batch)
    scale = None if scaled == "unscaled" else normal(*shape, seed=50).to(wide)
    statistics = statistics_of(case.children, case.norms, case.channels, seed=60).to(wide) if given else None
    routes = case.routes()

    common = (input0, input1, routes, weights, block, loose_row, scale)
    slots = shapes.full_slots(routes)
    out, saved, used = call(device, "cell", (*common, statistics, case.stride, slots))
    for one, other in zip((out, used), device.call("cell", *common, statistics, case.stride, 0)[::2], strict=True):
        assert torch.equal(one, other)
    grad = normal(*out.shape, seed=70).to(dtype)
    gradients = call(device, "cell_backward", (grad, *common, case.stride, saved, used, given))

    leaves = leaves_of([input0, input1, *([] if scale is None else [scale]), *weights], dtype)
    left, right, *rest = leaves
    own_scale = None if scale is None else rest.pop(0)
    exact = None if statistics is None else statistics.to(leaves[-1].dtype)
    expected, moments = reference.cell(
        left, right, routes, rebuilt(case.weights(), rest), own_scale, exact, case.stride
    )
    assert_right(out, expected.detach().to(out.dtype), dtype)
    assert_right(used, moments.tensor().to(used.dtype), dtype)
    wanted = torch.autograd.grad(expected, leaves, grad.to(expected.dtype), allow_unused=True)
    found = [tensor for place, tensor in enumerate(gradients) if place != 2 or scale is not None]
    for one, leaf, other in zip(found, leaves, wanted, strict=True):
        assert_right(one, (torch.zeros_like(leaf) if other is None else other).to(one.dtype), dtype)


SEPARABLES = [  # x, kernel, stride
    ((2, 2, 9, 10, 20), 3, 1),
    ((2, 1, 11, 7, 33), 5, 2),
    ((1, 2, 8, 8, 44), 7, 1),
    ((1, 1, 5, 9, 8), 7, 2),
    ((2, 5, 1, 1, 3), 3, 1),
    ((0, 2, 4, 4, 4), 3, 1),
]


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("given", [False, True], ids=["own", "given"])
@pytest.mark.parametrize(("shape", "kernel", "stride"), SEPARABLES)
def test_separable(
    device: HostDevice, shape: tuple[int, ...], kernel: int, stride: int, given: bool, dtype: torch.dtype
) -> None:
    children, channels = shape[0], shape[-1]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x = normal(*shape, seed=1).to(dtype)
    sizes = ((2, kernel, kernel, channels), (2, channels, channels), (2, channels), (2, channels))
    weights = [normal(*size, seed=place + 2).to(wide) for place, size in enumerate(sizes)]
    weights[1] /= channels**0.5
    statistics = statistics_of(children, 2, channels, seed=60).to(wide) if given else None

    out, saved, used = call(device, "separable", (x, *weights, statistics, stride, native.SEPARABLE_SLOTS))
    assert torch.equal(out, device.call("separable", x, *weights, statistics, stride, 0)[0])
    grad = normal(*out.shape, seed=70).to(dtype)
    gradients = call(device, "separable_backward", (grad, x, *weights, stride, saved, used, given))

    leaves = leaves_of([x, *weights], dtype)
    exact = None if statistics is None else statistics.to(leaves[-1].dtype)
    expected, moments = reference.separable(*leaves, exact, stride)
    assert_right(out, expected.detach().to(out.dtype), dtype)
    assert_right(used, moments.tensor().to(used.dtype), dtype)
    for one, other in zip(gradients, torch.autograd.grad(expected, leaves, grad.to(expected.dtype)), strict=True):
        assert_right(one, other.to(one.dtype), dtype)
