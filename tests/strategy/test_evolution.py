"""Regularized evolution on made-up values: who lives, who has children, what is remembered."""

from typing import Any

import pytest
import torch
from torch import Tensor

from conformance import Growing, generator
from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import NasBench201
from enas.strategy import Evolution
from enas.strategy.evolution import compete
from tolerances import assert_same, probability

SPACE = NasBench201()
ROWS = torch.tensor([[place // 5, place % 5, 0, 1, 2, 3] for place in range(25)])
"""Different rows."""


def told(rows: Tensor, *values: float) -> Estimates:
    value = torch.tensor(values, dtype=torch.float64)
    return Estimates(rows, value, torch.zeros_like(value))


def copies(strategy: Evolution, count: int = 200) -> set[tuple[int, ...]]:
    """Rows asked for."""
    return {tuple(row) for row in strategy.ask(count, generator()).tolist()}


def same(*places: int) -> set[tuple[int, ...]]:
    return {tuple(ROWS[place].tolist()) for place in places}


ALMOST_ALWAYS = 1 - 1e-12
"""As `identity`: children are their parents."""


def test_rows_are_random_until_the_population_is_full() -> None:
    strategy = Evolution(SPACE, population=4, sample=2)
    strategy.tell(told(ROWS[:3], 0.1, 0.2, 0.3))
    assert torch.equal(strategy.ask(30, generator(1)), SPACE.random(30, generator(1)))
    strategy.tell(told(ROWS[3:4], 0.4))
    assert not torch.equal(strategy.ask(30, generator(1)), SPACE.random(30, generator(1)))


def test_the_oldest_dies_however_good_it_is() -> None:
    strategy = Evolution(SPACE, population=3, sample=1, identity=ALMOST_ALWAYS)
    strategy.tell(told(ROWS[:3], 0.9, 0.2, 0.3))
    assert copies(strategy) == same(0, 1, 2)
    strategy.tell(told(ROWS[3:4], 0.1))
    assert copies(strategy) == same(1, 2, 3)
    strategy.tell(told(ROWS[4:6], 0.4, 0.5))
    assert copies(strategy) == same(3, 4, 5)


def test_the_best_of_the_sample_has_the_child() -> None:
    values = torch.tensor([0.3, 0.1, 0.5, 0.2])
    draws = 5000
    winners = compete(values, 2, draws, generator())
    # With replacement: the r-th from below wins where both draws are at most it and one is it.
    order = values.argsort()
    for rank in range(4):
        expected = ((rank + 1) ** 2 - rank**2) / 16
        assert abs(float((winners == order[rank]).double().mean()) - expected) < probability(draws)
    strategy = Evolution(SPACE, population=3, sample=60, identity=ALMOST_ALWAYS)
    strategy.tell(told(ROWS[:3], 0.2, 0.9, 0.3))
    assert copies(strategy) == same(1)


def test_of_equals_the_one_drawn_first_wins() -> None:
    winners = compete(torch.full((4,), 0.5), 3, 500, generator(2))
    assert torch.equal(winners, torch.randint(4, (500, 3), generator=generator(2))[:, 0])


def test_a_child_is_one_decision_away_or_its_parent() -> None:
    strategy = Evolution(SPACE, population=1, sample=1, identity=0.25)
    strategy.tell(told(ROWS[:1], 0.5))
    draws = 4000
    distance = (strategy.ask(draws, generator()) != ROWS[0]).sum(dim=1)
    assert set(distance.tolist()) == {0, 1}
    assert abs(float((distance == 0).double().mean()) - 0.25) < probability(draws)
    never = Evolution(SPACE, population=1, sample=1, identity=0.0)
    never.tell(told(ROWS[:1], 0.5))
    assert ((never.ask(draws, generator()) != ROWS[0]).sum(dim=1) == 1).all()


def test_the_population_and_the_best_row_of_all_are_remembered() -> None:
    strategy = Evolution(SPACE, population=2, sample=1)
    strategy.tell(told(ROWS[:3], 0.5, 0.9, 0.1))
    metrics = strategy.tell(told(ROWS[3:6], 0.2, 0.3, 0.4))
    assert torch.equal(strategy.remembered(), ROWS[[1, 4, 5]])
    assert torch.equal(strategy.derive(2, generator()), ROWS[[1, 5]])
    assert_same(metrics["strategy/best"], torch.tensor(0.9, dtype=torch.float64))
    assert_same(metrics["strategy/population_mean"], torch.tensor(0.35, dtype=torch.float64))


def test_new_values_of_the_remembered_rows_decide() -> None:
    strategy = Evolution(SPACE, population=2, sample=60, identity=ALMOST_ALWAYS)
    strategy.tell(told(ROWS[:3], 0.9, 0.1, 0.2))
    assert copies(strategy) == same(2)
    strategy.refresh(told(strategy.remembered(), 0.3, 0.6, 0.5))
    assert copies(strategy) == same(1)
    assert torch.equal(strategy.derive(1, generator()), ROWS[1:2])


def test_absent_layers_mutate_too() -> None:
    space = Growing()
    strategy = Evolution(space, population=1, sample=1, identity=0.0)
    strategy.tell(told(torch.zeros(1, len(space.decisions), dtype=torch.int64), 0.5))
    children = strategy.ask(200, generator())
    assert space.legal(children).all()
    assert len(children.unique(dim=0)) == 4  # the other width, or one of three first layers


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"population": 0}, "strategy.population=0: allowed is 1 or more"),
        ({"sample": 0}, "strategy.sample=0: allowed is 1 or more"),
        ({"identity": 1.0}, "strategy.identity=1.0: allowed is 0 or more, and less than 1"),
        ({"identity": -0.1}, "strategy.identity=-0.1"),
        ({"memory": 100}, "strategy.memory=100: allowed is more than strategy.population=100"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Evolution(SPACE, **settings)
