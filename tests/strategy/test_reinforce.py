"""REINFORCE: its baseline, its gradient, what its entropy does, and that it learns."""

from typing import Any

import pytest
import torch
from synchronisation import refuse_synchronisation
from torch import Tensor

from conformance import PUBLISHED_SETTINGS, Growing, generator
from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import EnasMacro, EnasMicro, SearchSpace
from enas.strategy import Random, Reinforce
from tolerances import assert_same

SPACE = EnasMicro(1)


def told(rows: Tensor, *values: float) -> Estimates:
    value = torch.tensor(values)
    return Estimates(rows, value, torch.zeros_like(value))


def test_the_baseline_starts_at_the_first_reward_and_moves_once_a_sample() -> None:
    strategy = Reinforce(SPACE, hidden=8, baseline_decay=0.75, entropy_weight=0.0)
    assert not strategy.started
    metrics = strategy.tell(told(SPACE.random(3, generator()), 0.4, 0.8, 0.2))
    second = 0.75 * 0.4 + 0.25 * 0.8
    third = 0.75 * second + 0.25 * 0.2
    assert_same(metrics["strategy/baseline"], torch.tensor(third))
    # The baseline moves before the advantage is taken.
    assert_same(metrics["strategy/advantage"], torch.tensor((0.0 + 0.8 - second + 0.2 - third) / 3))
    fourth = 0.75 * third + 0.25 * 1.0
    assert_same(strategy.tell(told(SPACE.random(1, generator()), 1.0))["strategy/baseline"], torch.tensor(fourth))


def test_a_first_single_reward_teaches_nothing() -> None:
    strategy = Reinforce(SPACE, hidden=8, entropy_weight=0.0)
    before = {name: value.clone() for name, value in strategy.controller.state_dict().items()}
    strategy.tell(told(SPACE.random(1, generator()), 0.7))
    for name, value in strategy.controller.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("reward", [0.9, 0.1])
def test_a_row_becomes_likelier_exactly_when_it_beats_the_baseline(reward: float) -> None:
    strategy = Reinforce(SPACE, hidden=8, entropy_weight=0.0)
    strategy.baseline, strategy.started = torch.tensor(0.5), torch.tensor(True)
    row = SPACE.random(1, generator())
    before = strategy.controller.evaluate(row).log_probability.item()
    strategy.tell(told(row, reward))
    after = strategy.controller.evaluate(row).log_probability.item()
    assert (after > before) == (reward > 0.5)
    assert after != before


@pytest.mark.parametrize("entropy", ["gradient", "reward"])
def test_the_loss_is_the_mean_over_samples(entropy: Any) -> None:
    strategy = Reinforce(SPACE, hidden=8, entropy_weight=0.1, entropy=entropy, baseline_decay=0.5)
    strategy.baseline, strategy.started = torch.tensor(0.5), torch.tensor(True)
    rows, values = SPACE.random(3, generator()), [0.9, 0.4, 0.6]
    policy = strategy.controller.evaluate(rows)
    bonus = (0.1 * policy.entropy).tolist() if entropy == "reward" else [0.0] * 3
    baseline, expected = 0.5, 0.0
    for value, extra, log_probability in zip(values, bonus, policy.log_probability.tolist(), strict=True):
        baseline = 0.5 * baseline + 0.5 * (value + extra)
        expected -= log_probability * (value + extra - baseline) / 3
    if entropy == "gradient":
        expected -= 0.1 * policy.entropy.mean().item()
    metrics = strategy.tell(told(rows, *values))
    assert_same(metrics["strategy/loss"], torch.tensor(expected))
    assert_same(metrics["strategy/entropy"], policy.entropy.detach().mean())
    assert_same(metrics["strategy/log_probability"], policy.log_probability.detach().mean())


@pytest.mark.parametrize("weight", [0.8, 0.0])
def test_the_distance_of_skips_from_their_target_is_a_term_of_the_loss(weight: float) -> None:
    """The sum over the skips of a layer, the mean over the layers that have any: three of four."""
    space = EnasMacro(4)
    strategy = Reinforce(space, hidden=8, entropy_weight=0.0, skip_weight=weight, skip_target=0.4)
    rows = space.random(3, generator())
    policy = strategy.controller.evaluate(rows)
    metrics = strategy.tell(told(rows, 0.5, 0.5, 0.5))  # no advantage
    mean = policy.skip_divergence.detach().mean() / 3
    assert_same(metrics["strategy/skip_divergence"], mean)
    assert_same(metrics["strategy/loss"], weight * mean)


@pytest.mark.parametrize("target", [0.4, 0.9, 0.0])
def test_skips_come_to_be_taken_as_often_as_wished(target: float) -> None:
    space = EnasMacro(5)
    strategy, draw = Reinforce(space, hidden=8, skip_target=target, learning_rate=0.02), generator(1)
    skips = [place for place, decision in enumerate(space.decisions) if decision.kind == "skip"]
    for _ in range(60):
        strategy.tell(told(strategy.ask(4, draw), *[0.5] * 4))
    share = float(strategy.ask(500, draw)[:, skips].double().mean())
    assert share == pytest.approx(target or 0.5, abs=0.04)


def test_without_skips_or_a_target_nothing_is_said_of_skips() -> None:
    for strategy in (Reinforce(SPACE, hidden=8), Reinforce(EnasMacro(3), hidden=8, skip_target=0.0)):
        metrics = strategy.tell(told(strategy.space.random(2, generator()), 0.4, 0.6))
        assert "strategy/skip_divergence" not in metrics


def mean_entropy(strategy: Reinforce) -> float:
    return strategy.controller.evaluate(SPACE.random(200, generator(8))).entropy.mean().item()


def test_entropy_as_a_gradient_opens_the_policy() -> None:
    bias = {"operation": [3.0, 0.0, 0.0, 0.0, 0.0]}
    strategy = Reinforce(SPACE, hidden=8, initial_bias=bias, entropy_weight=1.0, learning_rate=0.05)
    before = mean_entropy(strategy)
    for _ in range(20):
        strategy.tell(told(SPACE.random(2, generator()), 0.5, 0.5))
    assert mean_entropy(strategy) > before + 0.5


def test_a_rewarded_operation_becomes_likely() -> None:
    strategy = Reinforce(SPACE, hidden=16, learning_rate=0.02, baseline_decay=0.9)
    draw = generator(1)

    def share() -> float:
        rows = strategy.ask(500, generator(9))
        return float((rows[:, 1::2] == 3).double().mean())

    first = share()
    assert first < 0.3
    for _ in range(60):
        rows = strategy.ask(20, draw)
        value = (rows[:, 1::2] == 3).float().mean(dim=1)
        strategy.tell(Estimates(rows, value, torch.zeros_like(value)))
    assert share() > 0.7
    derived = strategy.derive(200, generator(2))
    assert float((derived[:, 1::2] == 3).double().mean()) > 0.7


@pytest.mark.parametrize("space", [EnasMicro(2), Growing()], ids=["enas_micro", "growing"])
def test_every_weight_of_the_controller_is_trained(space: SearchSpace) -> None:
    strategy = Reinforce(space, hidden=8)
    strategy.tell(told(space.random(8, generator()), *torch.rand(8, generator=generator()).tolist()))
    for name, parameter in strategy.controller.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0, name


def test_published_settings_train() -> None:
    strategy = Reinforce(EnasMicro(2), **PUBLISHED_SETTINGS)
    rows = strategy.ask(10, generator())
    metrics = strategy.tell(told(rows, *torch.rand(10, generator=generator()).tolist()))
    assert torch.isfinite(metrics["strategy/loss"])


def test_rewards_of_any_float_type_are_taken() -> None:
    strategies = [Reinforce(SPACE, hidden=8) for _ in range(2)]
    rows = SPACE.random(2, generator())
    values = torch.tensor([0.25, 0.5])
    for strategy, kind in zip(strategies, (torch.float32, torch.float64), strict=True):
        strategy.tell(Estimates(rows, values.to(kind), values))
    assert torch.equal(*(strategy.ask(50, generator()) for strategy in strategies))


@pytest.mark.parametrize("entropy", ["gradient", "reward"])
def test_neither_asking_nor_telling_waits_for_the_device(entropy: Any) -> None:
    strategy, random = Reinforce(EnasMicro(2), hidden=8, entropy=entropy), generator()
    for _ in range(2):
        with refuse_synchronisation():
            rows = strategy.ask(3, random)
            strategy.tell(Estimates(rows, rows[:, 0].float(), rows[:, 0].float()))


def test_a_loss_that_is_not_finite_is_told_when_it_is_asked_for() -> None:
    strategy = Reinforce(SPACE, hidden=8)
    strategy.tell(told(SPACE.random(2, generator()), 0.5, 0.6))
    strategy.check(1)
    strategy.tell(told(SPACE.random(2, generator()), 0.5, float("nan")))
    strategy.tell(told(SPACE.random(2, generator()), 0.5, 0.6))
    with pytest.raises(UserError, match="the loss of the strategy became NaN or infinite in epoch 7; the last checkp"):
        strategy.check(7)


def test_with_a_lost_policy_rows_are_still_legal() -> None:
    """The search goes on with them until somebody checks."""
    strategy = Reinforce(SPACE, hidden=8)
    strategy.tell(told(SPACE.random(2, generator()), 0.5, float("nan")))
    assert strategy.controller.recurrent.isnan().any()
    assert SPACE.legal(strategy.ask(5, generator())).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"entropy": "both"}, "strategy.entropy=both: allowed are reward and gradient"),
        ({"baseline_decay": 1.0}, "strategy.baseline_decay=1.0"),
        ({"baseline_decay": 0.0}, "strategy.baseline_decay=0.0"),
        ({"hidden": 0}, "strategy.hidden=0: allowed is 1 or more"),
        ({"learning_rate": -0.1}, "strategy.learning_rate=-0.1: allowed is 0 or more"),
        ({"epsilon": -1.0}, "strategy.epsilon=-1.0"),
        ({"entropy_weight": -1.0}, "strategy.entropy_weight=-1.0"),
        ({"skip_weight": -1.0}, "strategy.skip_weight=-1.0"),
        ({"skip_target": 1.0}, "strategy.skip_target=1.0"),
        ({"betas": [0.0, 1.0]}, r"strategy.betas=\[0.0, 1.0\]: allowed are two numbers"),
        ({"betas": [0.9]}, r"strategy.betas=\[0.9\]"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Reinforce(SPACE, **settings)


def test_random_search_refuses_the_state_of_another_strategy() -> None:
    with pytest.raises(ValueError, match="no state"):
        Random(SPACE).load_state_dict(Reinforce(SPACE, hidden=8).state_dict())
