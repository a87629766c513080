"""DARTS against problems of two levels with known answers, and its Hessian-vector product against autograd's."""

from typing import Any

import pytest
import torch
from torch import Tensor

from conformance import generator
from enas.errors import UserError
from enas.space import EnasMicro
from enas.strategy import Darts
from enas.strategy.relaxation import Levels
from strategy.one_edge import OneEdge, levels


class Free(Darts):
    """The mixing is alpha itself, in float64."""

    def __init__(self, **settings: Any):
        super().__init__(OneEdge(("free",)), **settings)
        self.to_double()

    def to_double(self) -> None:
        self.alpha.data = self.alpha.data.double()

    def mixing(self, generator: torch.Generator, progress: float) -> Tensor:
        return self.alpha


def quadratic(weights: Any, mixing: Tensor, batch: Any) -> Tensor:
    """The example of the paper (Liu et al. 2019, figure 2): the weight that fits alpha is alpha, the best alpha 1."""
    weight, alpha = weights["weight"], mixing[0, 0]
    if batch == "train":
        return weight**2 - 2 * alpha * weight + alpha**2
    return alpha * weight - 2 * alpha + 1


def solved(order: Any, rate: float) -> tuple[float, float]:
    """Alpha and weight at the end, from where the paper starts: alpha 2, weight -2."""
    strategy = Free(order=order, learning_rate=0.06, betas=(0.0, 0.99), weight_decay=0.0)
    strategy.alpha.data.fill_(2.0)
    weight = torch.tensor(-2.0, dtype=torch.float64)
    for step in range(300):
        problem = levels(quadratic, {"weight": weight}, rate)
        strategy.optimiser.param_groups[0]["lr"] = 0.06 * (1 - step / 300)
        strategy.update(problem, generator(), 0.0)
        weight = weight - rate * (2 * weight - 2 * strategy.alpha.item())
    return strategy.alpha.item(), weight.item()


def test_second_order_finds_the_known_optimum() -> None:
    """With a step of 1/2 the weight's own step leads to its best, and the gradient is exact."""
    alpha, weight = solved(order=2, rate=0.5)
    assert alpha == pytest.approx(1.0, abs=0.01)
    assert weight == pytest.approx(1.0, abs=0.01)


def test_a_shorter_step_has_the_bias_it_must_have() -> None:
    """Where the weight is at its best, the gradient is alpha - 2 + 2 rate alpha."""
    alpha, _ = solved(order=2, rate=0.25)
    assert alpha == pytest.approx(2 / 1.5, abs=0.01)


def test_first_order_has_its_known_bias() -> None:
    """It takes the weight as a constant, and so ends where weight - 2 is 0."""
    alpha, weight = solved(order=1, rate=0.5)
    assert alpha == pytest.approx(2.0, abs=0.01)
    assert weight == pytest.approx(2.0, abs=0.01)


def test_the_second_order_gradient_is_that_of_the_unrolled_step() -> None:
    """Against autograd through the step itself, with exact second derivatives, on losses that are not quadratic."""
    weights = {
        "first": torch.randn(4, 3, generator=generator(1), dtype=torch.float64),
        "second": torch.randn(3, generator=generator(2), dtype=torch.float64),
    }
    data = torch.randn(2, 5, 4, generator=generator(3), dtype=torch.float64)

    def loss(weights: Any, mixing: Tensor, batch: Any) -> Tensor:
        hidden = data[0 if batch == "train" else 1] @ weights["first"]
        operations = torch.stack([hidden.tanh(), hidden.sigmoid(), hidden.square() / 4])
        return ((mixing[0][:, None, None] * operations).sum(dim=0) @ weights["second"] - 1).square().mean()

    strategy = Darts(OneEdge(), order=2, initial=0.5)
    strategy.alpha.data = strategy.alpha.data.double()
    seen: list[Tensor] = []
    strategy.move = lambda gradients: seen.extend(gradients) or torch.zeros(())  # type: ignore[method-assign, func-returns-value]
    strategy.update(levels(loss, weights, 0.3), generator(), 0.0)

    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    mixing = strategy.alpha.softmax(dim=1)
    slopes = torch.autograd.grad(loss(leaves, mixing, "train"), list(leaves.values()), create_graph=True)
    moved = {name: leaves[name] - 0.3 * slope for name, slope in zip(leaves, slopes, strict=True)}
    (exact,) = torch.autograd.grad(loss(moved, mixing, "valid"), strategy.alpha)
    (first,) = torch.autograd.grad(loss(weights, strategy.alpha.softmax(dim=1), "valid"), strategy.alpha)
    torch.testing.assert_close(seen[0], exact, rtol=1e-4, atol=1e-7)
    assert (exact - first).abs().max() > 100 * (exact - seen[0]).abs().max()


def test_a_validation_loss_that_no_weight_is_in_leaves_the_product_zero() -> None:
    strategy = Darts(OneEdge(), order=2)
    norm = strategy.update(
        levels(lambda w, m, b: m[0, 1] * (1 + (b == "train") * w["w"]), {"w": torch.ones(())}), generator(), 0.0
    )
    assert torch.isfinite(norm)
    assert norm > 0
    strategy.check(1)


def test_the_problem_is_left_as_it_was() -> None:
    weights = {"w": torch.ones((), requires_grad=True)}

    def unroll(gradients: Any) -> Any:
        return {"w": weights["w"].detach() - 0.1 * gradients["w"]}, 0.1

    for order in (1, 2):
        strategy = Darts(OneEdge(), order=order)  # type: ignore[arg-type]
        strategy.update(Levels(lambda w, m, b: m[0, 0] * w["w"] ** 2, weights, 0, 1, unroll), generator(), 0.0)
        assert weights["w"].grad is None
        assert weights["w"] == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"order": 3}, "strategy.order=3: allowed are 1 and 2"),
        ({"learning_rate": -1.0}, "strategy.learning_rate=-1.0: allowed is 0 or more"),
        ({"weight_decay": float("nan")}, "strategy.weight_decay=nan"),
        ({"initial": -1.0}, "strategy.initial=-1.0"),
        ({"betas": [0.5]}, r"strategy.betas=\[0.5\]: allowed are two numbers"),
        ({"betas": [0.5, 1.0]}, r"strategy.betas=\[0.5, 1.0\]"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Darts(OneEdge(), **settings)


def test_another_space_is_refused() -> None:
    with pytest.raises(
        UserError, match="space enas_micro has no mixture of operations that a gradient could move; use"
    ):
        Darts(EnasMicro(2))
