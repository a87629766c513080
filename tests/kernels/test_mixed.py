"""The mixed cell: its definition is the path under weights of 0 and 1, and the native one is the definition."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from enas.kernels import mixed, native, parts, reference
from enas.kernels.interface import (
    AVERAGE_POOL_3,
    DILATED_5,
    IDENTITY,
    MAX_POOL_3,
    SEPARABLE_3,
    SEPARABLE_5,
    ZERO,
    CellWeights,
    Pointwise,
    Separable,
)
from kernels.device import HostDevice
from kernels.mixed_cases import DARTS, MixedCase, mixed_call
from kernels.native_cases import assert_native, assert_native_in, normal, outcome, statistics
from tolerances import assert_same, assert_stored

native.load()
STRIDES = pytest.mark.parametrize("stride", [1, 2])


def check(case: MixedCase, given: Tensor | None = None) -> None:
    assert_native(mixed_call(case, given), case.tensors())


@STRIDES
def test_weights_of_zero_and_one_give_the_path(stride: int) -> None:
    """A cell of two nodes that read two slots each, told by routes, and by the same choice as weights."""
    operations = (SEPARABLE_3, SEPARABLE_5, IDENTITY, ZERO)
    case = MixedCase(stride=stride, operations=operations)
    weights, mixing = case.weights(), torch.zeros_like(case.mixing())
    sources = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]  # (node, source) of each edge
    routes = []
    for edge, operation in ((0, IDENTITY), (1, SEPARABLE_5), (3, SEPARABLE_3), (4, SEPARABLE_3)):
        node, source = sources[edge]
        routes.append([source, operation, 2 * node + source if operation == IDENTITY else edge])
        mixing[edge, operations.index(operation)] = 1.0

    def separable(place: int) -> Separable:
        norms = slice(2 * place, 2 * place + 2)
        return Separable(*weights.convolutions[place], weights.gain[:, norms], weights.bias[:, norms])

    # The rows of `identity` are those of the first four edges, which read inputs.
    identity = Pointwise(weights.identity, weights.gain[:4, -1], weights.bias[:4, -1])
    nothing = Pointwise(*(tensor[:0] for tensor in identity))
    last_node = (-1, -1, -1, 0)
    cell_weights = CellWeights(separable(0), separable(1), identity, nothing, None, last_node, (-1, -1))
    table = torch.tensor([routes] * case.children, dtype=torch.int32)
    expected, _ = reference.cell(*case.inputs(), table, cell_weights, stride=stride)
    for compute in (mixed.mixed_cell, native.mixed_cell):
        found, _ = compute(*case.inputs(), mixing, operations, weights, stride=stride)
        assert_same(found[..., case.channels :], expected)


def test_pools_end_in_a_batch_norm() -> None:
    case = MixedCase(children=1, nodes=1, stride=2, operations=(AVERAGE_POOL_3, MAX_POOL_3))
    weights, (input0, input1) = case.weights(), case.inputs()
    mixing = torch.tensor([[0.0, 2.0], [3.0, 0.0]], dtype=torch.float64)
    out, used = mixed.mixed_cell(input0, input1, mixing, case.operations, weights, None, 2)
    most = parts.normalise(parts.max_pool(input0[0], 2), weights.gain[0, 1], weights.bias[0, 1], None)[0]
    average = parts.normalise(parts.average_pool(input1[0], 2), weights.gain[1, 0], weights.bias[1, 0], None)[0]
    assert_same(out[0], 2 * most + 3 * average)
    assert used.tensor().shape == (1, 4, 2, case.channels)


@STRIDES
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (3, 5), (8, 7)])
@pytest.mark.parametrize("batch", [1, 3])
def test_any_size(height: int, width: int, batch: int, stride: int) -> None:
    check(MixedCase(1, batch, height, width, stride=stride))


@STRIDES
@pytest.mark.parametrize("channels", [1, 2, 20, 33])
def test_any_number_of_channels(channels: int, stride: int) -> None:
    check(MixedCase(1, channels=channels, stride=stride))


@STRIDES
@pytest.mark.parametrize("given", [False, True], ids=["batch", "given"])
@pytest.mark.parametrize("children", [(2, 2), (1, 3), (2, 1), (0, 0), (1, 0)], ids=str)
def test_any_children(children: tuple[int, int], stride: int, given: bool) -> None:
    count = children[1] if children[0] == 1 else children[0]
    case = MixedCase(max(children), stride=stride)
    used = statistics(count, case.edges * case.norms, case.channels, seed=5) if given else None
    inputs = [x[:count] for x, count in zip(case.inputs(), children, strict=True)]
    assert_native(mixed_call(case, used), [*inputs, *case.tensors()[2:]])


@STRIDES
@pytest.mark.parametrize("nodes", [1, 4])
@pytest.mark.parametrize(
    "operations", [(ZERO,), (IDENTITY,), (MAX_POOL_3,), (DILATED_5, SEPARABLE_3, SEPARABLE_3)], ids=str
)
def test_any_operations(operations: Sequence[int], nodes: int, stride: int) -> None:
    check(MixedCase(nodes=nodes, operations=operations, stride=stride))


@STRIDES
@pytest.mark.parametrize("channels", [3, 20])
def test_float32(channels: int, stride: int) -> None:
    case = MixedCase(2, 4, 6, 5, channels, stride=stride)
    assert_native_in(torch.float32, mixed_call(case), case.tensors(), images=2)


@STRIDES
@pytest.mark.parametrize("channels", [3, 20])
def test_bfloat16_is_rounded_where_the_definition_rounds(channels: int, stride: int) -> None:
    case = MixedCase(2, 4, 6, 5, channels, stride=stride)
    assert_native_in(torch.bfloat16, mixed_call(case), case.tensors(), images=2)


@STRIDES
def test_ties_and_constant_channels(stride: int) -> None:
    case = MixedCase(height=6, stride=stride)
    inputs = [(2 * x).round() for x in case.inputs()]
    for x in inputs:
        x[..., 0] = 0.75
    assert_native(mixed_call(case), [*inputs, *case.tensors()[2:]])


@STRIDES
@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_no_bit_depends_on_the_number_of_threads(storage: torch.dtype, stride: int) -> None:
    case = MixedCase(2, 23, channels=20, stride=stride)  # several blocks of images
    tensors = [tensor.to(storage if place < 2 else torch.float32) for place, tensor in enumerate(case.tensors())]
    alone = outcome(mixed_call(case), native, tensors)
    for threads in (2, 3, 5):
        torch.set_num_threads(threads)
        for one, other in zip(outcome(mixed_call(case), native, tensors), alone, strict=True):
            assert torch.equal(one, other)


@STRIDES
def test_device_code_in_bfloat16(device: HostDevice, stride: int) -> None:
    """The definition rounds what is stored too; the device also rounds the gradients of nodes."""
    case = MixedCase(1, 4, 6, 5, 3, stride=stride)
    tensors = [tensor.to(torch.bfloat16 if place < 2 else torch.float32) for place, tensor in enumerate(case.tensors())]
    expected = outcome(mixed_call(case), reference, tensors)
    slots = mixed.count_slots(case.edges, case.operations, stride)
    arguments = (*tensors[:3], tensors[3:], case.operations)
    out, saved, used = device.call("mixed_cell", *arguments, None, stride, slots)
    grad = normal(*out.shape, seed=99).to(torch.bfloat16)
    gradients = device.call("mixed_cell_backward", grad, *arguments, stride, saved, used, False)
    assert [x.dtype for x in (out, saved, used)] == [torch.bfloat16, torch.bfloat16, torch.float32]
    for one, other in zip((out, used, *gradients), expected, strict=True):
        assert_stored(one, other)


def test_without_gradients_the_result_is_the_same() -> None:
    """Where nothing is kept, the edges share their room."""
    case = MixedCase(nodes=3, stride=2)
    with_room, _ = mixed_call(case)(native, [tensor.requires_grad_() for tensor in case.tensors()])
    with torch.no_grad():
        without, _ = mixed_call(case)(native, case.tensors())
    assert torch.equal(with_room, without)


def test_mistakes_are_refused() -> None:
    case = MixedCase()
    inputs, weights = case.inputs(), case.weights()
    with pytest.raises(ValueError, match="4 edges: node i must have 2"):
        mixed.count_nodes(4)
    for compute in (mixed.mixed_cell, native.mixed_cell):
        with pytest.raises((ValueError, RuntimeError), match="operation code"):
            compute(*inputs, case.mixing(), (*DARTS[:-1], 8), weights)
    with pytest.raises(RuntimeError, match="mixing must be"):
        native.mixed_cell(*inputs, case.mixing()[:, 1:], DARTS, weights)
    with pytest.raises(RuntimeError, match="one identity"):
        native.mixed_cell(*inputs, case.mixing()[:, :2], (IDENTITY, IDENTITY), weights, stride=2)
