"""The native cell against its definition, on hostile shapes and routes: forward, statistics and every gradient."""

from itertools import product

import pytest
import torch
from torch import Tensor

from enas.kernels import native, reference, shapes
from enas.kernels.interface import IDENTITY, MAX_POOL_3, SEPARABLE_3, SEPARABLE_5, ZERO
from kernels.native_cases import Case, assert_native, assert_native_in, cell_call, normal, outcome, statistics
from tolerances import assert_same

CHANNELS = [1, 2, 3, 20, 33, 80]
SIZES = [(1, 1), (1, 3), (2, 2), (5, 4), (7, 13)]
PARAMETRIZED_TYPES = pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


STRIDES = pytest.mark.parametrize("stride", [1, 2])
OUTPUTS = pytest.mark.parametrize("project", [True, False], ids=["project", "concat"])


def check(case: Case, routes: Tensor | None = None, inputs: tuple[Tensor, Tensor] | None = None) -> None:
    call = cell_call(case, case.routes() if routes is None else routes)
    assert_native(call, [*(inputs or case.inputs()), *case.weights().tensors()])


@STRIDES
@OUTPUTS
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("batch", [1, 3])
def test_cell_of_any_size(height: int, width: int, batch: int, stride: int, project: bool) -> None:
    check(Case(4, batch, height, width, stride=stride, project=project, seed=height))


@STRIDES
@OUTPUTS
@pytest.mark.parametrize("channels", CHANNELS)
def test_cell_of_any_number_of_channels(channels: int, stride: int, project: bool) -> None:
    check(Case(3, channels=channels, stride=stride, project=project, seed=channels))


@STRIDES
@OUTPUTS
def test_cell_of_every_routing_of_one_node(stride: int, project: bool) -> None:
    choices = list(product(range(2), range(6), range(2), range(6)))
    routes = torch.tensor([[[a, left, 0], [b, right, 1]] for a, left, b, right in choices], dtype=torch.int32)
    check(Case(len(choices), nodes=1, height=3, width=3, stride=stride, project=project), routes)


@STRIDES
@OUTPUTS
@pytest.mark.parametrize("nodes", [2, 5, 7])
def test_cell_of_random_routings(nodes: int, stride: int, project: bool) -> None:
    check(Case(8, nodes=nodes, stride=stride, project=project, seed=nodes))


@STRIDES
@pytest.mark.parametrize("code", range(6))
def test_cell_whose_edges_share_operation_row_and_source(code: int, stride: int) -> None:
    """All edges of a child add to one weight row, and several to the gradient of one slot."""
    routes = torch.tensor([[[source, code, 2] for source in sources] for sources in ((0,) * 6, (1, 1, 2, 2, 3, 2))])
    check(Case(2, stride=stride), routes.int())


@STRIDES
@pytest.mark.parametrize("shape", [(6,), (6, 2)], ids=["edge", "edge and image"])
def test_cell_with_scale(shape: tuple[int, ...], stride: int) -> None:
    case = Case(4, stride=stride, seed=3)
    scale = normal(4, *shape, seed=9)
    scale[:, 1] = 0.0
    assert_native(cell_call(case, case.routes(), scaled=True), [*case.inputs(), scale, *case.weights().tensors()])


@STRIDES
@OUTPUTS
def test_cell_with_given_statistics(stride: int, project: bool) -> None:
    case = Case(4, stride=stride, project=project, seed=4)
    given = statistics(4, case.norms, case.channels, seed=5)
    assert_native(cell_call(case, case.routes(), given), [*case.inputs(), *case.weights().tensors()])


@STRIDES
@pytest.mark.parametrize("shared", [(True, True), (True, False), (False, True)])
def test_cell_with_shared_inputs(shared: tuple[bool, bool], stride: int) -> None:
    case = Case(4, stride=stride, seed=6)
    input0, input1 = (x[:1] if once else x for x, once in zip(case.inputs(), shared, strict=True))
    check(case, inputs=(input0, input1))


@STRIDES
def test_cell_of_which_some_ends_are_left_out(stride: int) -> None:
    case = Case(4, stride=stride, seed=7)
    weights = case.weights()
    assert weights.project is not None
    fewer = weights._replace(
        block=(-1, 0, -1, 1, 2), project=weights.project._replace(weight=weights.project.weight[:3])
    )
    for own in (fewer, fewer._replace(project=None)):
        routes, inputs = case.routes(), case.inputs()
        found, _ = native.cell(*inputs, routes, own, stride=stride)
        expected, _ = reference.cell(*inputs, routes, own, stride=stride)
        assert_same(found, expected)


@STRIDES
def test_cell_of_ties_and_constant_channels(stride: int) -> None:
    """The first of equal maxima takes the gradient; a variance of zero gives the bias and no noise."""
    case = Case(6, height=6, width=5, stride=stride, seed=8)
    inputs = tuple((2 * x).round() for x in case.inputs())
    for x in inputs:
        x[..., 0] = 0.75
    routes = case.routes()
    routes[:3, :, 1] = MAX_POOL_3
    input0, input1 = inputs
    check(case, routes, (input0, input1))


@STRIDES
@OUTPUTS
def test_cell_of_slices_of_larger_tensors(stride: int, project: bool) -> None:
    """Nothing has to be contiguous: images, routes, scale, statistics, weights, the output's gradient."""
    case = Case(4, stride=stride, project=project, seed=10)
    given = statistics(4, 2 * case.norms, case.channels, seed=5)[:, ::2]
    routes = torch.cat([case.routes(), case.routes()], dim=1)[:, : case.edges]
    padded = [torch.stack([x, x + 1], dim=-1)[..., 0] for x in case.inputs()]
    scale = normal(4, case.edges + 2, seed=9)[:, 1:-1]
    weights = [torch.stack([tensor, tensor], dim=-1)[..., 0] for tensor in case.weights().tensors()]
    tensors = [*padded, scale, *weights]
    assert not any(tensor.is_contiguous() for tensor in (*tensors, routes, given) if tensor.numel() > 1)
    call = cell_call(case, routes, given, scaled=True)
    assert_native(call, tensors)
    out, _ = call(native, tensors)
    expanded = normal(out.shape[-1], seed=11).expand_as(out)
    for one, other in zip(
        outcome(call, native, tensors, expanded), outcome(call, native, tensors, expanded.contiguous()), strict=True
    ):
        assert torch.equal(one, other)


@STRIDES
@OUTPUTS
def test_no_children(stride: int, project: bool) -> None:
    case = Case(0, stride=stride, project=project)
    check(case)
    check(case, inputs=(normal(1, 2, 5, 4, 3), normal(0, 2, 5, 4, 3)))


@STRIDES
@OUTPUTS
@PARAMETRIZED_TYPES
@pytest.mark.parametrize("channels", [3, 20])
def test_cell_of_other_types(storage: torch.dtype, channels: int, stride: int, project: bool) -> None:
    case = Case(3, 4, channels=channels, height=6, width=5, stride=stride, project=project, seed=channels)
    tensors = [*case.inputs(), *case.weights().tensors()]
    assert_native_in(storage, cell_call(case, case.routes()), tensors, images=2)


def test_what_a_cell_keeps() -> None:
    """Two tensors a separable edge, one a strided identity, a node and the output; nothing where nothing is learnt."""
    codes = [SEPARABLE_3, SEPARABLE_5, IDENTITY, ZERO, MAX_POOL_3, IDENTITY]
    routes = torch.tensor([[[0 if edge < 4 else 2, code, 0] for edge, code in enumerate(codes)]], dtype=torch.int32)
    assert torch.ops.enas.cell_slots(routes, 1) == 4 + 3 + 1
    assert torch.ops.enas.cell_slots(routes, 2) == 4 + 1 + 3 + 1 + 1  # and the unused input
    assert shapes.full_slots(routes) >= torch.ops.enas.cell_slots(routes, 2)
    assert torch.ops.enas.cell_slots(routes[:0], 2) == 0


def test_routes_that_lead_nowhere_are_refused() -> None:
    case = Case(1)
    routes = case.routes()
    routes[0, 3, 1] = 6
    with pytest.raises(RuntimeError, match="operation code"):
        native.cell(*case.inputs(), routes, case.weights())
    routes[0, 3] = torch.tensor([3, ZERO, 0])
    with pytest.raises(RuntimeError, match="not before it"):
        native.cell(*case.inputs(), routes, case.weights())
