"""SNAS: samples of the concrete distribution, its temperature, and what a network is charged."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from conformance import RELAXABLE_SPACES, SCALE, generator
from enas.errors import UserError
from enas.space import Cost, Darts, NasBench201, RelaxableSpace
from enas.strategy import Snas
from strategy.one_edge import OneEdge


def test_the_temperature_falls_exponentially() -> None:
    strategy = Snas(OneEdge(), temperature=2.0, final_temperature=0.02)
    assert [strategy.temperature(progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([2.0, 0.2, 0.02])
    assert strategy.measures(0.5)["strategy/temperature"].item() == pytest.approx(0.2)


def test_samples_become_hard_as_the_temperature_falls() -> None:
    strategy = Snas(Darts())
    strongest = [strategy.mixing(generator(), progress).amax(dim=1).mean().item() for progress in (0.0, 0.5, 1.0)]
    assert strongest == sorted(strongest)
    assert strongest[0] < 0.6
    assert strongest[2] > 0.95


def test_a_sample_and_its_gradient_are_the_formula() -> None:
    strategy = Snas(OneEdge(), temperature=0.5, final_temperature=0.5, initial=1.0)
    mixing = strategy.mixing(generator(2), 0.3)
    noise = -torch.empty(1, 3).exponential_(generator=generator(2)).log()
    scores = [math.exp((a + n) / 0.5) for a, n in zip(strategy.alpha[0].tolist(), noise[0].tolist(), strict=True)]
    soft = torch.tensor(scores) / sum(scores)
    torch.testing.assert_close(mixing[0].detach(), soft, rtol=1e-4, atol=1e-6)
    (gradient,) = torch.autograd.grad(mixing[0, 1], strategy.alpha)
    expected = soft[1] * (torch.eye(3)[1] - soft) / 0.5
    torch.testing.assert_close(gradient[0], expected, rtol=1e-4, atol=1e-6)


def test_the_charge_is_the_expected_share_of_the_dearest_mixture() -> None:
    """The operations of this space cost 0, 1 and 2 parameters."""
    strategy = Snas(OneEdge(), resource="params", resource_weight=0.1)
    assert strategy.penalty() == 0
    strategy.settle(SCALE)
    torch.testing.assert_close(strategy.prices, torch.tensor([[0.0, 0.05, 0.1]]))
    strategy.alpha.data.copy_(torch.tensor([[0.5, 0.3, 0.2]]).log())
    assert strategy.penalty().item() == pytest.approx(0.3 * 0.05 + 0.2 * 0.1)
    assert strategy.measures(0.0)["strategy/penalty"].item() == pytest.approx(0.035)
    (gradient,) = torch.autograd.grad(strategy.penalty(), strategy.alpha)
    shares, prices = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.0, 0.05, 0.1])
    torch.testing.assert_close(gradient[0], shares * (prices - 0.035))


@pytest.mark.parametrize("resource", ["params", "macs"])
def test_charged_alone_alpha_ends_at_what_is_free(resource: Any) -> None:
    strategy = Snas(NasBench201(), resource=resource, resource_weight=1.0, learning_rate=0.1, weight_decay=0.0)
    strategy.settle(SCALE)
    for _ in range(30):
        strategy.move(torch.autograd.grad(strategy.penalty(), [strategy.alpha]))
    assert strategy.alpha.softmax(dim=1)[:, [2, 3]].sum(dim=1).max() < 0.05


@pytest.mark.parametrize("space", RELAXABLE_SPACES.values(), ids=RELAXABLE_SPACES)
@pytest.mark.parametrize("partial", [1, 2])
def test_costs_of_edges_add_up_to_the_cost_of_rows(space: RelaxableSpace, partial: int) -> None:
    scale = replace(SCALE, layers=3, partial=partial)
    params, macs = space.edge_costs(scale)
    rows = space.random(30, generator(9))
    mixings = torch.stack([space.to_mixing(row) for row in rows.tolist()]).long()
    for edges, whole in zip((params, macs), space.cost(rows, scale), strict=True):
        rest = whole - (mixings * edges).sum(dim=(1, 2))
        assert (rest == rest[0]).all()
        assert (edges >= 0).all()
        assert (edges.amax(dim=1) > 0).all()


def test_a_cost_that_is_no_sum_over_edges_cannot_be_charged() -> None:
    class Bent(NasBench201):
        def cost(self, choices: torch.Tensor, scale: Any) -> Cost:
            params, macs = super().cost(choices, scale)
            return Cost(params**2, macs)

    with pytest.raises(UserError, match="space nasbench201: the cost of a row is no sum over its edges"):
        Snas(Bent(), resource_weight=0.1).settle(SCALE)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 0.0}, r"strategy\.temperature=0\.0: allowed is more than 0"),
        ({"final_temperature": -1.0}, r"strategy\.final_temperature=-1\.0"),
        ({"resource": "latency"}, r"strategy\.resource=latency: allowed are params and macs"),
        ({"resource_weight": -1.0}, r"strategy\.resource_weight=-1\.0: allowed is 0 or more"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Snas(OneEdge(), **settings)
