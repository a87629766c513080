"""A step of gradient descent: the native operation against its definition, and both against torch's own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from tape import Tape
from torch import Tensor, nn

from enas import kernels
from enas.bench.launches import TABLE
from enas.graph import WARM_UP, Captured
from enas.kernels import descent, native
from kernels.descent_cases import (
    SHAPES,
    STEPS,
    Descend,
    Weights,
    assert_all_same,
    gradients_of,
    rate_of,
    steps,
    weights_of,
)
from kernels.device import HostDevice
from kernels.operations import normal, shift
from shim.library import launches
from tolerances import assert_same

assert native.load() is None
CPU = torch.device("cpu")
TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
RULES = list(product((True, False), (None, 0.5, 1e6)))  # nesterov; clips that bind and that do not


def on_device(device: HostDevice) -> Descend:
    def descend(*arguments: object) -> Tensor:
        (norm,) = device.call("descend", *arguments)
        return norm

    return descend


def of_torch(own: Weights, nesterov: bool, clip: float | None) -> list[Tensor]:
    """The same steps by torch's optimiser, without momenta."""
    parameters = [nn.Parameter(weight) for weight in own.weights]
    groups = [{"params": [one], "weight_decay": decay} for one, decay in zip(parameters, own.decays, strict=True)]
    optimiser = torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=nesterov)
    norms = []
    for number, rate in enumerate(STEPS):
        for parameter, gradient in zip(parameters, gradients_of(own.weights, 100 * number), strict=True):
            parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient
        norms.append(nn.utils.clip_grad_norm_(parameters, float("inf") if clip is None else clip))
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()
    return norms


@TYPES
@pytest.mark.parametrize(("nesterov", "clip"), RULES)
@pytest.mark.parametrize("descend", [descent.descend, native.descend], ids=["reference", "native"])
def test_steps_are_those_of_torch(descend: Descend, nesterov: bool, clip: float | None, dtype: torch.dtype) -> None:
    own, theirs = weights_of(dtype), weights_of(dtype)
    norms = steps(descend, own, nesterov, clip)
    assert_all_same(norms, of_torch(theirs, nesterov, clip))
    assert_all_same(own.weights, theirs.weights)


@TYPES
@pytest.mark.parametrize(("nesterov", "clip"), RULES)
def test_native_steps_are_the_definition(nesterov: bool, clip: float | None, dtype: torch.dtype) -> None:
    own, defined = weights_of(dtype), weights_of(dtype)
    norms = steps(native.descend, own, nesterov, clip)
    assert_all_same(norms, steps(descent.descend, defined, nesterov, clip))
    assert_all_same(own.tensors(), defined.tensors())


@TYPES
@pytest.mark.parametrize(("nesterov", "clip"), RULES)
def test_device_code_steps_as_the_definition(
    device: HostDevice, nesterov: bool, clip: float | None, dtype: torch.dtype
) -> None:
    own, defined = weights_of(dtype), weights_of(dtype)
    norms = steps(on_device(device), own, nesterov, clip)
    assert_all_same(norms, steps(descent.descend, defined, nesterov, clip))
    assert_all_same(own.tensors(), defined.tensors())


@TYPES
def test_addresses_change_no_bit(device: HostDevice, dtype: torch.dtype) -> None:
    """Slices of larger tensors, aligned for one number only."""
    start = weights_of(dtype)
    start.momenta.copy_(normal(len(start.momenta), seed=50))
    gradients = gradients_of(start.weights, 0)
    for descend in (native.descend, on_device(device)):
        own, loose = start.copy(), Weights(*shift((start.weights, start.momenta)), start.decays)  # type: ignore[arg-type]
        shifted = [None if one is None else shift((one,))[0] for one in gradients]
        norms = [
            descend(it.weights, it.momenta, given, it.decays, rate_of(it, 0.1), 0.9, True, 0.5)
            for it, given in ((own, gradients), (loose, shifted))
        ]
        for one, other in zip([norms[0], *own.tensors()], [norms[1], *loose.tensors()], strict=True):
            assert torch.equal(one, other)


def test_no_bit_depends_on_the_order_of_blocks(device: HostDevice) -> None:
    found = []
    for order in (0, 1, 17):
        own = weights_of(torch.float32)
        arguments = (gradients_of(own.weights, 0), own.decays, rate_of(own, 0.1), 0.9, True, 0.5)
        (norm,) = device.call("descend", own.weights, own.momenta, *arguments, order=order)
        found.append([norm, *own.tensors()])
    for other in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], other, strict=True))


def test_no_bit_depends_on_the_number_of_threads() -> None:
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        own = weights_of(torch.float32, [(100_003,), *SHAPES, (70_000,)])
        found.append([*steps(native.descend, own, True, 0.5), *own.tensors()])
    for other in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], other, strict=True))


def test_more_tensors_than_a_launch_has_room_for(device: HostDevice) -> None:
    shapes = [(1 + number % 9,) for number in range(300)]
    for descend in (native.descend, on_device(device)):
        own, defined = weights_of(torch.float32, shapes), weights_of(torch.float32, shapes)
        before = launches(device.library)
        norms = steps(descend, own, True, 0.5)
        assert_all_same(norms, steps(descent.descend, defined, True, 0.5))
        assert_all_same(own.tensors(), defined.tensors())
    assert launches(device.library) - before == len(STEPS) * 2 * -(-len(shapes) // TABLE)


def test_blocks_grow_with_the_number_of_weights(device: HostDevice) -> None:
    """Beyond 1024 blocks of 4096 numbers."""
    own, native_ones = (weights_of(torch.float32, [(4_200_005,), (3,)]) for _ in range(2))
    gradients = gradients_of(own.weights, 0)
    norms = [
        descend(it.weights, it.momenta, gradients, it.decays, rate_of(it, 0.1), 0.9, True, 0.5)
        for descend, it in ((on_device(device), own), (native.descend, native_ones))
    ]
    assert_same(*norms)
    assert_all_same(own.tensors(), native_ones.tensors())


@pytest.mark.parametrize("shapes", [[(0,), (0, 3)], [(4,), (2, 3)]], ids=["empty", "absent"])
def test_without_any_gradient_the_norm_is_zero(device: HostDevice, shapes: list[tuple[int, ...]]) -> None:
    for descend in (descent.descend, native.descend, on_device(device)):
        own = weights_of(torch.float32, shapes)
        before = own.copy()
        nothing = [None] * len(shapes)
        norm = descend(own.weights, own.momenta, nothing, own.decays, rate_of(own, 0.1), 0.9, False, 0.5)
        assert norm.item() == 0
        for one, other, decay in zip(own.weights, before.weights, own.decays, strict=True):
            assert_same(one, other * (1 - 0.1 * decay))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_what_is_not_finite_shows_in_the_norm(device: HostDevice, value: float, clip: float | None) -> None:
    for descend in (descent.descend, native.descend, on_device(device)):
        for tensor, place in ((0, 7), (6, 39_999), (5, 32)):
            own = weights_of(torch.float32)
            gradients = gradients_of(own.weights, 0)
            gradients[tensor].view(-1)[place] = value  # type: ignore[union-attr]
            norm = descend(own.weights, own.momenta, gradients, own.decays, rate_of(own, 0.1), 0.9, True, clip)
            assert not torch.isfinite(norm)
            assert not torch.isfinite(own.weights[tensor].view(-1)[place])


def test_large_and_small_gradients_have_a_norm(device: HostDevice) -> None:
    """Their squares are beyond float32."""
    for scale in (1e25, 1e-30):
        for descend in (native.descend, on_device(device)):
            own = weights_of(torch.float32, [(5,)])
            gradient = torch.full((5,), scale)
            norm = descend(own.weights, own.momenta, [gradient], own.decays, rate_of(own, 0.1), 0.9, True, 1.0)
            torch.testing.assert_close(norm / scale, torch.tensor(5.0).sqrt())
            assert_same(own.momenta, gradient * min(1.0, 1 / (scale * 5**0.5)))


def test_a_weight_may_lie_otherwise_in_memory() -> None:
    own, plain = (weights_of(torch.float32, [(4, 6), (3,)]) for _ in range(2))
    turned = [own.weights[0].t().contiguous().t(), own.weights[1]]
    gradients = gradients_of(plain.weights, 0)
    for weights, momenta, given in (
        (turned, own.momenta, [gradients[0].t().contiguous().t(), gradients[1]]),  # type: ignore[union-attr]
        (plain.weights, plain.momenta, gradients),
    ):
        native.descend(weights, momenta, given, plain.decays, rate_of(plain, 0.1), 0.9, True, None)
    assert all(torch.equal(*pair) for pair in zip(turned, plain.weights, strict=True))


def test_a_captured_step_takes_another_rate() -> None:
    """Nothing of the rate is read when the step is captured, and everything stays where it is."""
    own, plain = weights_of(torch.float32), weights_of(torch.float32)
    gradients = gradients_of(own.weights, 0)

    def step(rate: Tensor) -> Tensor:
        return native.descend(own.weights, own.momenta, gradients, own.decays, rate, 0.9, True, 0.5)

    captured = Captured(step, capture=True, record=Tape)
    before = [tensor.data_ptr() for tensor in own.tensors()]
    for number in range(WARM_UP + 3):
        rate = rate_of(plain, 0.1 / (1 + number))
        norm = captured(rate)
        expected = native.descend(plain.weights, plain.momenta, gradients, plain.decays, rate, 0.9, True, 0.5)
        assert torch.equal(norm, expected)
        assert all(torch.equal(*pair) for pair in zip(own.tensors(), plain.tensors(), strict=True))
    assert [tensor.data_ptr() for tensor in own.tensors()] == before


@pytest.mark.parametrize("chosen", ["native", "reference"])
def test_autograd_notices_a_weight_that_moved(chosen: str) -> None:
    kernels.select(chosen, CPU)
    weight = torch.ones(3, requires_grad=True)
    loss, momenta = weight.square().sum(), torch.zeros(3)
    kernels.descend([weight], momenta, [torch.ones(3)], [0.0], torch.tensor(0.1))
    assert weight.requires_grad
    assert_same(weight.detach(), torch.full((3,), 0.9))
    assert momenta._version > 0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(("chosen", "module"), [("native", native), ("reference", descent)])
def test_the_chosen_one_computes(monkeypatch: pytest.MonkeyPatch, chosen: str, module: Any) -> None:
    kernels.select(chosen, CPU)
    seen = []
    monkeypatch.setattr(module, "descend", lambda *arguments: seen.append(arguments))
    weights, momenta = [torch.ones(3)], torch.zeros(3)
    kernels.descend(weights, momenta, [None], [0.0], torch.tensor(0.1), 0.9, True, 5.0)
    assert seen == [(weights, momenta, [None], [0.0], torch.tensor(0.1), 0.9, True, 5.0)]


def test_torch_knows_its_schema_and_shapes() -> None:
    own = weights_of(torch.float64, [(3, 4), (5,), (2,)])
    gradients = gradients_of(own.weights, 0, absent=(1,))
    arguments = (own.weights, own.momenta, gradients, own.decays, rate_of(own, 0.1), 0.9, True, 0.5)
    torch.library.opcheck(torch.ops.enas.descend.default, arguments)


def test_mistakes_are_refused() -> None:
    own = weights_of(torch.float32, [(3, 4), (5,)])
    gradients, rate = gradients_of(own.weights, 0, absent=()), rate_of(own, 0.1)

    def call(
        weights: Sequence[Tensor] = own.weights,
        momenta: Tensor = own.momenta,
        gradients: Sequence[Tensor | None] = gradients,
        decays: Sequence[float] = own.decays,
        rate: Tensor = rate,
    ) -> Tensor:
        result: Tensor = torch.ops.enas.descend(weights, momenta, gradients, decays, rate, 0.9, True, None)
        return result

    before = own.copy()
    for said, mistake in {
        "every weight needs a gradient": {"gradients": gradients[:1]},
        "which may be None, and a decay": {"decays": [0.1]},
        "every number of the weights needs one of momenta": {"momenta": own.momenta[:-1]},
        "weights must be contiguous": {"weights": [torch.zeros(4, 3).t(), own.weights[1]]},
        "weights must be of the type of momenta": {"weights": [own.weights[0].double(), own.weights[1]]},
        "gradients must be of the size of what they belong to": {"gradients": [gradients[1], gradients[0]]},
        "rate must be of the size": {"rate": torch.zeros(2)},
        "rate must be of the type": {"rate": rate.double()},
    }.items():
        with pytest.raises(RuntimeError, match=said):
            call(**mistake)  # type: ignore[arg-type]
    whole = [tensor.bfloat16() for tensor in own.weights]
    with pytest.raises(RuntimeError, match="weights must be float32, or on the CPU float64"):
        call(whole, own.momenta.bfloat16(), [None, None], rate=rate.bfloat16())
    assert all(torch.equal(*pair) for pair in zip(own.tensors(), before.tensors(), strict=True))
