"""The native operations as torch sees them: gradients, shapes, and the same bits whatever runs beside them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from conformance import Growing
from enas.kernels import mixed, native, shapes
from enas.kernels.interface import Pointwise
from enas.space import EnasMicro
from kernels.mixed_cases import MixedCase
from kernels.native_cases import Case, cell_call, normal, outcome, statistics
from kernels.policy_cases import SETTINGS, PolicyCase
from tolerances import GRADIENT

assert native.load() is None
CASE = Case(1, height=3, width=3, channels=2, stride=2)


def cell_arguments(case: Case, scale: Tensor | None = None, given: Tensor | None = None) -> tuple[Any, ...]:
    routes, weights = case.routes(), case.weights()
    tensors = [tensor.requires_grad_() for tensor in weights.tensors()]
    inputs = [x.requires_grad_() for x in case.inputs()]
    slots = torch.ops.enas.cell_slots(routes, case.stride)
    return (*inputs, routes, tensors, weights.block, weights.loose_row, scale, given, case.stride, slots)


def mixed_arguments(case: MixedCase, given: Tensor | None = None) -> tuple[Any, ...]:
    inputs, mixing = [x.requires_grad_() for x in case.inputs()], case.mixing().requires_grad_()
    weights = [tensor.requires_grad_() for tensor in case.weights().tensors()]
    slots = mixed.count_slots(case.edges, case.operations, case.stride)
    return (*inputs, mixing, weights, case.operations, given, case.stride, slots)


def leaves(*shapes: Sequence[int]) -> list[Tensor]:
    return [normal(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes)]


def policy_arguments(case: PolicyCase, sampled: bool = False) -> tuple[Any, ...]:
    arguments = case.arguments(torch.float64, sampled)
    return (*(weight.requires_grad_() for weight in arguments[:7]), *arguments[7:])


IMAGES = (2, 2, 4, 3, 3)
CALLS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "null": ("null", (normal(*IMAGES).requires_grad_(),)),
    "cell": ("cell", cell_arguments(CASE)),
    "cell-concat": ("cell", cell_arguments(Case(2, channels=2, project=False, seed=1), normal(2, 6).requires_grad_())),
    "cell-given": ("cell", cell_arguments(CASE, given=statistics(1, CASE.norms, 2))),
    "mixed_cell": ("mixed_cell", mixed_arguments(MixedCase(1, height=3, width=3, channels=2, stride=2))),
    "mixed_cell-given": (
        "mixed_cell",
        mixed_arguments(MixedCase(height=2, width=3, channels=2, nodes=1), statistics(2, 2 * 8, 2)),
    ),
    "sepconv_half": ("sepconv_half", (*leaves(IMAGES, (2, 2, 3), (3, 3, 3), (3, 4)), 2, 2)),
    "sepconv_half-plain": (
        "sepconv_half",
        (normal(*IMAGES).requires_grad_(), None, *leaves((5, 5, 3), (3, 4)), 1, 1),
    ),
    "separable": ("separable", (*leaves(IMAGES, (2, 3, 3, 3), (2, 3, 3), (2, 3), (2, 3)), None, 2, 2)),
    "separable-given": (
        "separable",
        (*leaves(IMAGES, (2, 5, 5, 3), (2, 3, 3), (2, 3), (2, 3)), statistics(2, 2, 3), 1, 2),
    ),
    "pointwise_norm": ("pointwise_norm", (*leaves(IMAGES, (3, 4), (4,), (4,)), None, False)),
    "pointwise_norm-reduced": (
        "pointwise_norm",
        (*leaves(IMAGES, (3, 4), (4,), (4,)), statistics(2, 1, 4), True),
    ),
    "convolution_norm": ("convolution_norm", (*leaves(IMAGES, (3, 3, 3, 4), (4,), (4,)), None)),
    "policy": ("policy", policy_arguments(PolicyCase(EnasMicro(1), 3, 2))),
    "policy-sampled": ("policy", policy_arguments(PolicyCase(EnasMicro(1), 3, 2, SETTINGS), sampled=True)),
    "policy-active": ("policy", policy_arguments(PolicyCase(Growing(), 2, 3, SETTINGS))),
}


@pytest.mark.parametrize("call", CALLS)
def test_opcheck(call: str) -> None:
    name, arguments = CALLS[call]
    # Where children keep different numbers of tensors, or nobody has looked at their routes, some are never written and
    # never equal.
    unwritten = call == "cell-concat" or (name == "cell" and arguments[-1] == shapes.full_slots(arguments[2]))
    traced = () if unwritten else ("test_aot_dispatch_dynamic",)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor", *traced)
    torch.library.opcheck(getattr(torch.ops.enas, name).default, arguments, test_utils=tests)


def test_opcheck_of_slots() -> None:
    torch.library.opcheck(torch.ops.enas.cell_slots.default, (CASE.routes(), 2), test_utils="test_schema")


@pytest.mark.parametrize("call", CALLS)
def test_opcheck_of_backward(call: str) -> None:
    """The shapes that tracers are told of are those that come."""
    name, arguments = CALLS[call]
    if name == "null":
        return
    seen: list[tuple[Any, ...]] = []
    operation = getattr(torch.ops.enas, f"{name}_backward")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops.enas, f"{name}_backward", lambda *given: (seen.append(given), operation(*given))[1])
        out = getattr(torch.ops.enas, name)(*arguments)[0]
        out.backward(normal(*out.shape))
    plain = tree_map(lambda value: value.detach() if isinstance(value, Tensor) else value, seen[0])
    torch.library.opcheck(operation.default, plain, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("call", CALLS)
def test_gradients_are_finite_differences(call: str) -> None:
    name, arguments = CALLS[call]
    places = [place for place, value in enumerate(arguments) if isinstance(value, Tensor) and value.requires_grad]
    lists = [place for place, value in enumerate(arguments) if isinstance(value, list) and isinstance(value[0], Tensor)]
    tensors = [arguments[place] for place in places] + [x for place in lists for x in arguments[place] if x.numel()]

    def function(*given: Tensor) -> Tensor:
        filled, rest = list(arguments), iter(given)
        for place in places:
            filled[place] = next(rest)
        for place in lists:
            filled[place] = [next(rest) if x.numel() else x for x in arguments[place]]
        result = getattr(torch.ops.enas, name)(*filled)
        return result if isinstance(result, Tensor) else result[0]

    check = partial(torch.autograd.gradcheck, function, rtol=GRADIENT.rtol, atol=GRADIENT.atol)
    assert check(tensors, fast_mode=True)
    if not lists:
        assert check(tensors)


def test_statistics_carry_no_gradient() -> None:
    x, *weights = leaves(IMAGES, (1, 3, 4), (1, 4), (1, 4))
    out, used = native.pointwise_norm(x, Pointwise(*weights))
    assert out.requires_grad
    assert not used.tensor().requires_grad
    _, moments = native.sepconv_half(x, None, *leaves((3, 3, 3), (3, 4)))
    assert not moments.requires_grad


def test_an_image_that_needs_no_gradient_gets_none() -> None:
    x, *weights = leaves(IMAGES, (3, 3, 3, 4), (4,), (4,))
    x = x.detach()
    out, _ = native.convolution_norm(x, *weights)
    out.backward(torch.ones_like(out))
    assert x.grad is None
    assert all(weight.grad is not None for weight in weights)


@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stride", [1, 2])
def test_no_bit_depends_on_the_number_of_threads(stride: int, storage: torch.dtype) -> None:
    case = Case(3, 11, 9, 8, channels=20, stride=stride)  # several blocks of images
    weights = [tensor.float() for tensor in case.weights().tensors()]
    tensors = [*(x.to(storage) for x in case.inputs()), normal(3, case.edges).float(), *weights]
    call = cell_call(case, case.routes(), scaled=True)
    alone = outcome(call, native, tensors)
    for threads in (2, 3, 5):
        torch.set_num_threads(threads)
        for one, other in zip(outcome(call, native, tensors), alone, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("project", [True, False], ids=["project", "concat"])
def test_no_bit_of_a_child_depends_on_the_others(stride: int, project: bool) -> None:
    case = Case(10, 23, channels=20, stride=stride, project=project)
    weights = [tensor.float() for tensor in case.weights().tensors()]
    inputs, routes = [x.float() for x in case.inputs()], case.routes()
    together = outcome(cell_call(case, routes), native, [*inputs, *weights])
    for child in (0, 4, 9):
        own = slice(child, child + 1)
        gradient = normal(*together[0].shape, seed=99).float()[own]
        alone = outcome(cell_call(case, routes[own]), native, [*(x[own] for x in inputs), *weights], gradient)
        for place in range(4):  # output, statistics, the gradients of both inputs
            assert torch.equal(alone[place][0], together[place][child])
