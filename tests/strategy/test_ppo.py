"""PPO: when it learns, from which probabilities, how far, and that it learns."""

from typing import Any

import pytest
import torch
from synchronisation import refuse_synchronisation
from torch import Tensor

from conformance import Growing, generator
from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import EnasMacro, EnasMicro, SearchSpace
from enas.strategy import Ppo
from tolerances import assert_same

SPACE = EnasMicro(1)


def told(rows: Tensor, *values: float) -> Estimates:
    value = torch.tensor(values)
    return Estimates(rows, value, torch.zeros_like(value))


def weights(strategy: Ppo) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in strategy.controller.parameters()])


def test_rows_are_collected_until_there_is_a_minibatch_and_refreshed_until_then() -> None:
    strategy, whole = (Ppo(SPACE, hidden=8, minibatch=4) for _ in range(2))
    rows, before = SPACE.random(4, generator()), weights(strategy)
    values = [0.5, 0.2, 0.9, 0.4]
    strategy.tell(told(rows[:1], 0.0))
    assert torch.equal(strategy.tell(told(rows[1:3], 0.1, 0.1))["strategy/loss"], torch.tensor(0.0))
    assert torch.equal(weights(strategy), before)
    assert torch.equal(strategy.remembered(), rows[:3])
    strategy.refresh(told(rows[:3], *values[:3]))
    said = strategy.tell(told(rows[3:], values[3]))
    assert strategy.remembered().shape == (0, rows.shape[1])
    assert not torch.equal(weights(strategy), before)
    for tag, value in whole.tell(told(rows, *values)).items():
        assert torch.equal(value, said[tag]), tag
    assert torch.equal(weights(strategy), weights(whole))


def test_the_first_update_is_the_one_of_reinforce_with_the_probabilities_as_they_were() -> None:
    """Ratios are 1 then: the loss is minus the mean advantage, and its gradient that of the log-probabilities."""
    strategy = Ppo(SPACE, hidden=8, minibatch=3, passes=1, entropy_weight=0.1, baseline_decay=0.5)
    strategy.baseline, strategy.started = torch.tensor(0.5), torch.tensor(True)
    rows, values = SPACE.random(3, generator()), [0.9, 0.4, 0.6]
    policy = strategy.controller.evaluate(rows)
    advantages, baseline = [], 0.5
    for value in values:
        baseline = 0.5 * baseline + 0.5 * value
        advantages.append(value - baseline)
    entropy = policy.entropy.mean()
    surrogate = -(policy.log_probability * torch.tensor(advantages)).mean() - 0.1 * entropy
    surrogate.backward()  # type: ignore[no-untyped-call]
    expected = {name: parameter.grad.clone() for name, parameter in strategy.controller.named_parameters()}  # type: ignore[union-attr]
    metrics = strategy.tell(told(rows, *values))
    assert_same(metrics["strategy/loss"], torch.tensor(-sum(advantages) / 3 - 0.1 * entropy.item()))
    assert_same(metrics["strategy/baseline"], torch.tensor(baseline))
    assert_same(metrics["strategy/clipped"], torch.tensor(0.0))
    for name, parameter in strategy.controller.named_parameters():
        assert parameter.grad is not None
        assert_same(parameter.grad, expected[name])


@pytest.mark.parametrize("reward", [0.9, 0.1])
def test_probabilities_are_not_pushed_beyond_the_clip(reward: float) -> None:
    strategy = Ppo(SPACE, hidden=8, minibatch=1, passes=60, clip=0.1, learning_rate=0.003, entropy_weight=0.0)
    strategy.baseline, strategy.started = torch.tensor(0.5), torch.tensor(True)
    row = SPACE.random(1, generator())
    before = strategy.controller.evaluate(row).log_probability.item()
    metrics = strategy.tell(told(row, reward))
    ratio = strategy.controller.evaluate(row).log_probability.sub(before).exp().item()
    assert (ratio > 1) == (reward > 0.5)
    assert 0.08 < abs(ratio - 1) < 0.5  # momentum carries it past the clip, where there is no gradient
    free = Ppo(SPACE, hidden=8, minibatch=1, passes=60, clip=0.99, learning_rate=0.003, entropy_weight=0.0)
    free.baseline, free.started = torch.tensor(0.5), torch.tensor(True)
    free.tell(told(row, reward))
    assert abs(free.controller.evaluate(row).log_probability.item() - before) > abs(ratio - 1)
    assert 0.5 < float(metrics["strategy/clipped"]) < 1.0


def test_many_rows_are_divided_evenly_into_minibatches() -> None:
    strategy = Ppo(SPACE, hidden=8, minibatch=3, passes=2)
    sizes: list[int] = []
    evaluate = strategy.controller.evaluate

    def counted(rows: Tensor) -> Any:
        sizes.append(len(rows))
        return evaluate(rows)

    strategy.controller.evaluate = counted  # type: ignore[method-assign]
    strategy.tell(told(SPACE.random(8, generator()), *[0.5] * 8))
    assert sizes == [8, 4, 4, 4, 4]


def test_a_rewarded_operation_becomes_likely() -> None:
    strategy = Ppo(SPACE, hidden=16, learning_rate=0.01)
    draw = generator(1)

    def share() -> float:
        rows = strategy.ask(500, generator(9))
        return float((rows[:, 1::2] == 3).double().mean())

    assert share() < 0.3
    for _ in range(40):
        rows = strategy.ask(20, draw)
        value = (rows[:, 1::2] == 3).float().mean(dim=1)
        strategy.tell(Estimates(rows, value, torch.zeros_like(value)))
    assert share() > 0.7


@pytest.mark.parametrize("space", [EnasMacro(4), Growing()], ids=["enas_macro", "growing"])
def test_every_weight_of_the_controller_is_trained(space: SearchSpace) -> None:
    strategy = Ppo(space, hidden=8, minibatch=8, passes=1)
    metrics = strategy.tell(told(space.random(8, generator()), *torch.rand(8, generator=generator()).tolist()))
    assert float(metrics["strategy/skip_divergence"]) > 0
    for name, parameter in strategy.controller.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("entropy", ["gradient", "reward"])
def test_neither_asking_nor_telling_waits_for_the_device(entropy: Any) -> None:
    strategy, random = Ppo(EnasMicro(2), hidden=8, minibatch=5, entropy=entropy), generator()
    for _ in range(4):
        with refuse_synchronisation():
            rows = strategy.ask(3, random)
            strategy.tell(Estimates(rows, rows[:, 0].float(), rows[:, 0].float()))
    assert weights(strategy).isfinite().all()


def test_a_loss_that_is_not_finite_is_told_when_it_is_asked_for() -> None:
    strategy = Ppo(SPACE, hidden=8, minibatch=2)
    strategy.tell(told(SPACE.random(2, generator()), 0.5, float("nan")))
    with pytest.raises(UserError, match="became NaN or infinite in epoch 3"):
        strategy.check(3)
    assert SPACE.legal(strategy.ask(5, generator())).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"clip": 0.0}, r"strategy.clip=0.0: allowed is more than 0 and less than 1"),
        ({"clip": 1.0}, r"strategy.clip=1.0"),
        ({"passes": 0}, r"strategy.passes=0: allowed is 1 or more"),
        ({"minibatch": 0}, r"strategy.minibatch=0: allowed is 1 or more"),
        ({"entropy": "both"}, "strategy.entropy=both"),
        ({"hidden": 0}, "strategy.hidden=0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Ppo(SPACE, **settings)
