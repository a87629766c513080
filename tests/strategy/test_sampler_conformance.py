"""What every sampler must hold on every space: STRATEGIES x SPACES."""

import copy
import io
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from conformance import SPACES, STRATEGIES, generator, toy_table
from enas.architecture import Estimates
from enas.space import NasBench201, SearchSpace
from enas.strategy import (
    AntColony,
    Bayesian,
    Evolution,
    HierarchicalEvolution,
    LocalSearch,
    Ppo,
    ProgressiveSearch,
    Reinforce,
    Sampler,
    propose,
)


@pytest.fixture(params=SPACES.values(), ids=SPACES.keys())
def space(request: pytest.FixtureRequest) -> SearchSpace:
    found: SearchSpace = request.param
    return found


@pytest.fixture(params=STRATEGIES)
def strategy(request: pytest.FixtureRequest, space: SearchSpace) -> Sampler:
    return build(request, space)


@pytest.fixture
def twin(request: pytest.FixtureRequest, strategy: Sampler, space: SearchSpace) -> Sampler:
    """A second strategy of the same settings."""
    return build(request, space)


def build(request: pytest.FixtureRequest, space: SearchSpace) -> Sampler:
    return STRATEGIES[request.node.callspec.params["strategy"]](space)


def scored(rows: Tensor, budget: float = 1.0) -> Estimates:
    """Rows with a made-up value that depends on them."""
    weights = torch.sin(torch.arange(1.0, rows.shape[1] + 1))
    value = 0.5 + 0.1 * torch.tanh(rows.float() @ weights)
    return Estimates(rows, value, torch.zeros_like(value), {"accuracy": value}, 10, 0, budget)


def assert_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_equal(mine, theirs)
    else:
        assert one == other


def test_asked_and_derived_rows_are_legal(strategy: Sampler, space: SearchSpace) -> None:
    for draw in (strategy.ask, strategy.derive):
        for count in (1, 7):
            rows = draw(count, generator())
            assert rows.shape == (count, len(space.decisions))
            assert rows.dtype == torch.int64
            assert not rows.requires_grad
            if space.constrained:  # the search draws again what breaks a rule
                draws = generator()
                rows, _, _ = propose(lambda number, draw=draw, draws=draws: draw(number, draws), count, space.legal)
            assert space.legal(rows).all()


def test_equal_generators_give_equal_rows(strategy: Sampler, twin: Sampler) -> None:
    for draw, other in ((strategy.ask, twin.ask), (strategy.derive, twin.derive)):
        rows = draw(20, generator(1))
        assert torch.equal(draw(20, generator(1)), rows)
        assert torch.equal(other(20, generator(1)), rows)
        assert not torch.equal(draw(20, generator(2)), rows)
        assert len(rows.unique(dim=0)) > 1


def test_asking_changes_nothing(strategy: Sampler) -> None:
    strategy.tell(scored(strategy.ask(3, generator())))
    before = copy.deepcopy(strategy.state_dict())
    strategy.ask(5, generator(1))
    strategy.derive(5, generator(2))
    assert_equal(strategy.state_dict(), before)


def test_only_the_given_generator_is_drawn_from(strategy: Sampler, twin: Sampler) -> None:
    before = torch.get_rng_state()
    strategy.tell(scored(strategy.ask(3, generator())))
    assert torch.equal(torch.get_rng_state(), before)


def test_tell_learns_from_the_rows_alone(strategy: Sampler, twin: Sampler, space: SearchSpace) -> None:
    """Whatever was asked in between, or by whom, leaves no trace."""
    rows = scored(space.random(6, generator(3)))
    strategy.ask(9, generator(4))
    strategy.derive(2, generator(5))
    assert_equal(strategy.tell(rows), twin.tell(rows))
    assert_equal(strategy.state_dict(), twin.state_dict())


def test_metrics_are_scalars_under_strategy(strategy: Sampler, space: SearchSpace) -> None:
    for tag, value in strategy.tell(scored(space.random(6, generator(3)))).items():
        assert tag.startswith("strategy/")
        assert value.shape == ()
        assert not value.requires_grad
        assert torch.isfinite(value)


def test_telling_after_save_and_load_is_telling_without(strategy: Sampler, twin: Sampler, space: SearchSpace) -> None:
    for seed in range(3):
        strategy.tell(scored(space.random(4, generator(seed)), strategy.budget))
    file = io.BytesIO()
    torch.save(strategy.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True))
    for seed in range(3, 6):
        rows = scored(strategy.ask(4, generator(seed)), strategy.budget)
        assert torch.equal(twin.ask(4, generator(seed)), rows.choices)
        assert_equal(twin.tell(rows), strategy.tell(rows))
    assert_equal(twin.state_dict(), strategy.state_dict())
    assert torch.equal(twin.derive(9, generator()), strategy.derive(9, generator()))


def test_a_new_strategy_can_be_saved_and_loaded(strategy: Sampler, twin: Sampler) -> None:
    strategy.load_state_dict(twin.state_dict())
    assert torch.equal(strategy.ask(4, generator()), twin.ask(4, generator()))


def test_moving_to_the_device_it_is_on_changes_nothing(strategy: Sampler, twin: Sampler) -> None:
    strategy.to(torch.device("cpu"))
    assert torch.equal(strategy.ask(4, generator()), twin.ask(4, generator()))


LEARNING: Mapping[str, Callable[[SearchSpace], Sampler]] = {
    "reinforce": lambda space: Reinforce(space, hidden=16, learning_rate=0.05),
    "ppo": lambda space: Ppo(space, hidden=16, minibatch=10, learning_rate=0.01),
    "evolution": lambda space: Evolution(space, population=20, sample=5),
    "hierarchical_evolution": lambda space: HierarchicalEvolution(space, initial=20, mutations=10, share=0.2),
    "local_search": LocalSearch,
    "ant_colony": AntColony,
    "pnas": lambda space: ProgressiveSearch(space, beam=20, members=2, embedding=16, hidden=16, steps=20),
    "bayesian": lambda space: Bayesian(space, "hamming", pool=50),
}
"""Samplers that learn, with settings that do so from 200 rows."""


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1.0, -0.5), (1.0, -2.0), (1.0, -5.0), (100.0, 0.0)])
def test_what_is_asked_for_becomes_better_whatever_sign_and_size_values_have(
    name: str, scale: float, shift: float
) -> None:
    """Accuracies, minus losses from 0.5 to 5 nats, scores in the hundreds: all are values."""
    table = toy_table()
    sampler = LEARNING[name](NasBench201())
    draws, signals = generator(1), []
    for _ in range(20):
        rows = sampler.ask(10, draws)
        signals.append(table.signal(rows))
        value = scale * signals[-1] + shift
        sampler.tell(Estimates(rows, value, torch.zeros_like(value)))
    assert torch.cat(signals[-5:]).mean() > 0.65  # of uniform rows 0.5, with a deviation of 0.02
