"""The native kernels on a CUDA device: every operation, cells, and a step of a whole network, against the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_map

from enas import kernels
from enas.kernels import descent, native, reference
from enas.randomness import seeded
from enas.space import EnasMicro, Scale
from enas.supernet import Supernet
from kernels.descent_cases import Weights, assert_all_same, steps, weights_of
from kernels.device import flat
from kernels.half_cases import HALF_CASES
from kernels.native_cases import Case, cell_call, normal, outcome
from kernels.operations import CASES, convert
from kernels.operations import Case as Call
from tolerances import NEAR_GRADIENTS, assert_near, assert_same, assert_stored

pytestmark = pytest.mark.gpu

DEVICE = torch.device("cuda")
STORAGE = pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
CELLS = {
    "small": Case(channels=5, height=4, width=4),
    "normal": Case(channels=20, batch=3, height=32, width=32, nodes=5),
    "reduction": Case(channels=40, batch=3, height=16, width=16, nodes=5, stride=2, seed=1),
    "concatenated": Case(channels=80, batch=3, height=8, width=8, nodes=5, project=False, seed=2),
    "odd": Case(children=2, channels=33, height=7, width=13, nodes=3, stride=2, seed=3),
}


@pytest.fixture(autouse=True)
def _native() -> None:
    kernels.select("native", DEVICE)


def to_device(arguments: Any) -> Any:
    return tree_map(lambda one: one.to(DEVICE) if isinstance(one, Tensor) else one, arguments)


def test_the_native_kernels_are_there() -> None:
    assert native.absence("cuda") is None
    assert kernels.in_use(DEVICE) == "native"


@STORAGE
@pytest.mark.parametrize("case", [*CASES, *HALF_CASES], ids=lambda case: case.name)
def test_an_operation(case: Call, storage: torch.dtype) -> None:
    arguments = case.arguments(storage)
    expected = case.expected(storage, *convert(arguments, torch.float64))
    found = flat(getattr(torch.ops.enas, case.operation)(*to_device(arguments)))
    for one, other in zip(found, expected, strict=True):
        if other is None:
            continue
        if case in HALF_CASES:
            assert_near(one.cpu(), other.to(one.dtype), storage, NEAR_GRADIENTS)
        else:  # some of them are zero but for rounding
            assert_same(one.cpu(), other.to(one.dtype))


@STORAGE
@pytest.mark.parametrize("name", CELLS)
def test_a_cell(name: str, storage: torch.dtype) -> None:
    case = CELLS[name]
    tensors = [*case.inputs(), *case.weights().tensors()]
    typed = [tensor.to(storage if place < 2 else torch.float32) for place, tensor in enumerate(tensors)]
    exact = [tensor.double() for tensor in typed] if storage == torch.float32 else typed
    expected = outcome(cell_call(case, case.routes()), reference, exact)
    gradient = normal(*expected[0].shape, seed=99).to(storage).to(DEVICE)
    found = outcome(cell_call(case, case.routes().to(DEVICE)), native, to_device(typed), gradient)
    for one, other in zip(found, expected, strict=True):
        assert_near(one.cpu(), other, storage, NEAR_GRADIENTS)


def step(network: Supernet, inputs: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and all gradients in one row."""
    logits = network(inputs, row)[0]
    gradients = torch.autograd.grad(
        functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device)),
        list(network.parameters()),
        allow_unused=True,
        materialize_grads=True,
    )
    return logits.detach().cpu(), torch.cat([gradient.flatten() for gradient in gradients]).cpu()


def test_a_step_of_a_network_and_the_same_bits_again() -> None:
    space, scale = EnasMicro(), Scale(layers=3, filters=20, height=16, width=16, channels=3, classes=10)
    network = Supernet(space, scale, seeded(0, "weights"))
    inputs = torch.randn(1, 8, 16, 16, 3, generator=seeded(0, "inputs"))
    rows = space.random(3, seeded(0, "children"))
    kernels.select("reference", torch.device("cpu"))
    expected = [step(network.double(), inputs.double(), row[None]) for row in rows]
    network = network.float().to(DEVICE)
    kernels.select("native", DEVICE)
    for row, (logits, gradients) in zip(rows, expected, strict=True):
        one, other = (step(network, inputs.to(DEVICE), row[None].to(DEVICE)) for _ in range(2))
        assert_same(one[0], logits.float())
        assert_stored(one[1], gradients)
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_steps_of_descent_and_the_same_bits_again(nesterov: bool, clip: float | None) -> None:
    defined, *both = (weights_of(torch.float32) for _ in range(3))
    both = [Weights([weight.to(DEVICE) for weight in own.weights], own.momenta.to(DEVICE), own.decays) for own in both]
    expected = [*steps(descent.descend, defined, nesterov, clip), *defined.tensors()]
    one, other = ([*steps(native.descend, own, nesterov, clip), *own.tensors()] for own in both)
    assert_all_same([tensor.cpu() for tensor in one], expected)
    assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
