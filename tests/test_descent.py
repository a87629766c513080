"""Steps of gradient descent against the formula."""

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from enas.descent import Descent
from enas.errors import UserError
from tolerances import assert_same

TARGET = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def weights() -> dict[str, nn.Parameter]:
    """A weight, a gain, and one that no loss reads."""
    values = {"cell.weight": [0.3, 0.2, -0.4], "cell.gain": [1.0, 1.0, 1.0], "cell.unused": [2.0, -1.0]}
    return {name: nn.Parameter(torch.tensor(value, dtype=torch.float64)) for name, value in values.items()}


def loss_of(parameters: dict[str, nn.Parameter]) -> Tensor:
    return (parameters["cell.weight"] * parameters["cell.gain"] - TARGET).square().sum()


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("decay_norms", [True, False])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_steps_are_the_formula(nesterov: bool, decay_norms: bool, clip: float | None) -> None:
    parameters, own = weights(), weights()
    descent = Descent(parameters.items(), 0.9, nesterov, 0.1, decay_norms, clip)
    velocity = {name: torch.zeros_like(parameter) for name, parameter in own.items()}
    for rate in (0.05, 0.02, 0.1):
        norm = descent.step(loss_of(parameters), rate)
        gradients = torch.autograd.grad(loss_of(own), list(own.values()), allow_unused=True)
        total = torch.stack([g.square().sum() for g in gradients if g is not None]).sum().sqrt()
        assert_same(norm, total)
        factor = 1.0 if clip is None else min(1.0, clip / (float(total) + 1e-6))  # as torch guards against 0
        with torch.no_grad():
            for (name, parameter), gradient in zip(own.items(), gradients, strict=True):
                decay = 0.0 if name == "cell.gain" and not decay_norms else 0.1
                moved = decay * parameter + (0.0 if gradient is None else factor * gradient)
                velocity[name] = 0.9 * velocity[name] + moved
                parameter -= rate * (moved + 0.9 * velocity[name] if nesterov else velocity[name])
        for name, parameter in parameters.items():
            assert_same(parameter.detach(), own[name].detach())


def test_a_weight_that_no_loss_reads_still_decays() -> None:
    parameters = weights()
    Descent(parameters.items(), momentum=0.0, nesterov=False, weight_decay=0.5).step(loss_of(parameters), 0.1)
    assert_same(parameters["cell.unused"].detach(), torch.tensor([1.9, -0.95], dtype=torch.float64))


def test_momentum_goes_on_where_the_gradient_has_ended() -> None:
    parameters = weights()
    descent = Descent(parameters.items(), momentum=0.5, nesterov=False)
    descent.step(parameters["cell.unused"].sum(), 0.1)
    descent.step(loss_of(parameters), 0.1)
    assert_same(parameters["cell.unused"].detach(), torch.tensor([1.85, -1.15], dtype=torch.float64))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_remembered(value: float) -> None:
    parameters = weights()
    descent = Descent(parameters.items())
    descent.step(loss_of(parameters), 0.1)
    assert bool(descent.finite)
    descent.step(loss_of(parameters) * value, 0.1)
    assert not bool(descent.finite)
    with torch.no_grad():
        for parameter, whole in zip(parameters.values(), weights().values(), strict=True):
            parameter.copy_(whole)
    assert torch.isfinite(descent.step(loss_of(parameters), 0.0))
    assert not bool(descent.finite)


def test_a_gradient_that_is_not_finite_is_remembered() -> None:
    parameters = weights()
    descent = Descent(parameters.items())
    descent.step((parameters["cell.weight"] * 0).sqrt().sum(), 0.1)  # the loss is 0, its slope is not a number
    assert not bool(descent.finite)


def test_a_loaded_descent_goes_on_as_the_saved_one() -> None:
    runs = []
    for interrupted in (False, True):
        parameters = weights()
        descent = Descent(parameters.items(), weight_decay=0.1)
        descent.step(loss_of(parameters), 0.1)
        if interrupted:
            file = io.BytesIO()
            torch.save(descent.state_dict(), file)
            file.seek(0)
            descent = Descent(parameters.items(), weight_decay=0.1)
            descent.load_state_dict(torch.load(file, weights_only=True))
        for _ in range(3):
            descent.step(loss_of(parameters), 0.1)
        runs.append(parameters)
    for one, other in zip(runs[0].values(), runs[1].values(), strict=True):
        assert torch.equal(one, other)


def test_a_loaded_state_is_where_captured_steps_read_the_old_one() -> None:
    parameters = weights()
    descent = Descent(parameters.items())
    descent.step(loss_of(parameters), 0.1)
    before = {name: value.clone() for name, value in descent.state_dict().items()}
    places = {name: value.data_ptr() for name, value in descent.state_dict().items()}
    descent.step(loss_of(parameters), 0.1)
    descent.load_state_dict(before)
    for name, value in descent.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.data_ptr() == places[name]


def test_a_gradient_stays_as_it_was_and_may_be_absent() -> None:
    parameters = weights()
    descent = Descent(parameters.items(), clip=0.5)
    descent.differentiate(loss_of(parameters))
    assert parameters["cell.unused"].grad is None
    gradient = parameters["cell.weight"].grad
    assert gradient is not None
    before = gradient.clone()
    descent.move(loss_of(parameters), 0.1)
    assert torch.equal(gradient, before)


def test_the_caller_is_told_in_one_sentence() -> None:
    parameters = weights()
    descent = Descent(parameters.items())
    descent.step(loss_of(parameters), 0.1)
    descent.check(3)
    descent.step(loss_of(parameters) * float("nan"), 0.1)
    with pytest.raises(UserError, match="NaN or infinite in epoch 3; the last checkpoint is good") as caught:
        descent.check(3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"momentum": 1.0}, r"train\.momentum=1\.0"),
        ({"momentum": -0.1, "nesterov": False}, r"train\.momentum=-0\.1: allowed is 0 to less than 1"),
        ({"momentum": 0.0}, r"train\.nesterov=true: needs train\.momentum above 0"),
        ({"weight_decay": -1e-4}, r"train\.weight_decay=-0\.0001: allowed is 0 or more"),
        ({"clip": 0.0}, r"train\.clip=0\.0: allowed is more than 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Descent(weights().items(), **settings)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("decay_norms", [True, False])
def test_an_unrolled_step_is_where_the_next_one_leads(nesterov: bool, decay_norms: bool) -> None:
    parameters = weights()
    descent = Descent(parameters.items(), 0.9, nesterov, 0.1, decay_norms)
    for rate in (0.05, 0.02, 0.1):
        found = torch.autograd.grad(loss_of(parameters), list(parameters.values()), allow_unused=True)
        gradients = {
            name: torch.zeros_like(parameter) if gradient is None else gradient
            for (name, parameter), gradient in zip(parameters.items(), found, strict=True)
        }
        before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        moved, reach = descent.unroll(gradients, rate)
        further, _ = descent.unroll({name: gradient + 1 for name, gradient in gradients.items()}, rate)
        for name, parameter in parameters.items():
            assert torch.equal(parameter, before[name])
            assert_same(moved[name] - further[name], torch.full_like(moved[name], float(reach)))
        descent.step(loss_of(parameters), rate)
        for name, parameter in parameters.items():
            assert_same(moved[name], parameter.detach())
