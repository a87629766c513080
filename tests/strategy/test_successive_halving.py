"""Brackets, rungs and budgets; the better a row, the more is spent on it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from conformance import generator
from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import NasBench201, SearchSpace
from enas.strategy import SuccessiveHalving

SPACE = NasBench201()


def told(rows: Tensor, budget: float, value: Tensor | None = None) -> Estimates:
    """By default a row is worth its sum of choices."""
    value = rows.sum(dim=1).double() if value is None else value
    return Estimates(rows, value, torch.zeros_like(value), {}, 1, 0, budget)


def built(space: SearchSpace = SPACE, **settings: Any) -> SuccessiveHalving:
    return SuccessiveHalving(space, **({"width": 9, "eta": 3, "rungs": 3} | settings))


def distinct(count: int, seed: int = 0) -> Tensor:
    """Rows of different functions."""
    rows = SPACE.random(5 * count, generator(seed))
    first = {tuple(row): place for place, row in reversed(list(enumerate(SPACE.canonical(rows).tolist())))}
    return rows[sorted(first.values())[:count]]


def best(rows: Tensor, count: int) -> Tensor:
    return rows[torch.sort(rows.sum(dim=1), descending=True, stable=True).indices[:count]]


def test_a_bracket_spends_more_on_fewer_rows() -> None:
    strategy, rows = built(), distinct(9)
    assert strategy.budget == pytest.approx(1 / 9)
    strategy.tell(told(rows, strategy.budget))
    assert strategy.budget == pytest.approx(1 / 3)
    second = strategy.ask(3, generator())
    assert torch.equal(second, best(rows, 3))
    strategy.tell(told(second, strategy.budget))
    assert strategy.budget == 1.0
    last = strategy.ask(1, generator())
    assert torch.equal(last, best(rows, 1))
    strategy.tell(told(last, strategy.budget))
    assert strategy.budget == pytest.approx(1 / 9)  # a new bracket
    assert not torch.equal(strategy.ask(3, generator(1)), strategy.ask(3, generator(2)))


def test_a_rung_may_be_told_one_row_at_a_time() -> None:
    strategy, rows = built(), distinct(9)
    for row in rows:
        assert strategy.rung == 0
        strategy.tell(told(row[None], strategy.budget))
    for left in (3, 2, 1):
        assert strategy.rung == 1
        assert torch.equal(strategy.ask(left, generator()), best(rows, 3)[-left:])
        strategy.tell(told(strategy.ask(1, generator()), strategy.budget))
    assert strategy.rung == 2


def test_more_rows_than_wanted_make_a_wider_bracket() -> None:
    strategy, rows = built(), distinct(20)
    strategy.tell(told(rows, strategy.budget))
    assert torch.equal(strategy.ask(6, generator()), best(rows, 6))


def test_where_a_rung_has_fewer_rows_than_are_asked_for_they_come_again() -> None:
    strategy, rows = built(), distinct(9)
    strategy.tell(told(rows, strategy.budget))
    asked = strategy.ask(7, generator(1))
    three = best(rows, 3)
    assert torch.equal(asked, three[[0, 1, 2, 0, 1, 2, 0]])
    strategy.tell(told(asked[2:], strategy.budget, torch.tensor([1.0, 2, 3, 4, 5]).double()))
    assert strategy.rung == 2
    assert torch.equal(strategy.ask(1, generator()), three[1:2])  # of each the first value counts: 2, 3, 1


def test_rows_that_a_rung_does_not_wait_for_move_nothing() -> None:
    strategy, rows = built(), distinct(12)
    strategy.tell(told(rows[:9], strategy.budget))
    waiting = strategy.ask(3, generator())
    strategy.tell(told(rows[9:], strategy.budget, torch.full((3,), 99.0).double()))
    assert strategy.rung == 1
    assert torch.equal(strategy.ask(3, generator()), waiting)
    strategy.tell(told(waiting, strategy.budget))
    assert torch.equal(strategy.ask(1, generator()), best(waiting, 1))


def test_it_says_how_many_rows_it_has_use_for() -> None:
    strategy, rows = built(), distinct(9)
    wanted = []
    for count in (4, 5, 2, 1, 1):
        wanted.append(strategy.wanted)
        asked = rows[:count] if strategy.rung == 0 else strategy.ask(count, generator())
        rows = rows[count:]
        strategy.tell(told(asked, strategy.budget))
    assert wanted == [9, 5, 3, 1, 1]
    assert strategy.wanted == 9


def test_what_is_told_at_another_budget_moves_no_rung() -> None:
    strategy, rows = built(), distinct(9)
    strategy.tell(told(rows, 1.0))
    assert strategy.rung == 0
    strategy.tell(told(rows[:8], strategy.budget))
    assert strategy.rung == 0
    strategy.tell(told(rows[8:], strategy.budget))
    strategy.tell(told(strategy.ask(3, generator()), 1.0))
    assert strategy.rung == 1


def test_the_value_at_the_rungs_own_budget_decides() -> None:
    strategy, rows = built(), distinct(9)
    strategy.tell(told(rows, strategy.budget))
    second = strategy.ask(3, generator())
    strategy.tell(told(second, strategy.budget, torch.tensor([0.0, 1.0, 0.5]).double()))
    assert torch.equal(strategy.ask(1, generator()), second[1:2])


def test_derived_rows_are_those_of_the_highest_budget_first() -> None:
    strategy, rows = built(), distinct(12)
    strategy.tell(told(rows[:9], strategy.budget, torch.arange(9.0).double() + 100))
    strategy.tell(told(rows[[8, 7]], strategy.budget, torch.tensor([1.0, 2.0]).double()))
    strategy.tell(told(rows[[9]], 1.0, torch.tensor([-5.0]).double()))
    assert torch.equal(strategy.derive(5, generator()), rows[[9, 7, 8, 6, 5]])
    derived = strategy.derive(12, generator(3))
    assert torch.equal(derived[10:], SPACE.random(2, generator(3)))


def test_equal_functions_go_on_once() -> None:
    """In a space of few functions a rung may run short of rows, and still it ends."""
    row = distinct(1)
    strategy = built()
    strategy.tell(told(row.expand(9, -1), strategy.budget))
    for rung in (1, 2, 0):
        assert strategy.rung == rung
        assert torch.equal(strategy.ask(1, generator(1)), row) == (rung > 0)
        strategy.tell(told(row, strategy.budget))


def test_refreshed_values_decide_from_then_on() -> None:
    strategy, rows = built(), distinct(9)
    strategy.tell(told(rows[:8], strategy.budget))
    remembered = strategy.remembered()
    assert torch.equal(remembered, torch.cat([rows[:8], rows[:8]]))  # for the end, and in this rung
    strategy.refresh(told(remembered, 1.0, -remembered.sum(dim=1).double()))
    assert torch.equal(strategy.derive(1, generator()), best(-rows[:8], 1).neg())
    strategy.tell(told(rows[8:], strategy.budget, torch.tensor([-1e9]).double()))
    assert torch.equal(strategy.ask(3, generator()), best(-rows[:8], 3).neg())


def test_a_bracket_goes_on_after_save_and_load() -> None:
    one, other = built(), built()
    for seed in range(12):
        one.tell(told(one.ask(2, generator(seed)), one.budget))
        other.load_state_dict(one.state_dict())
        assert other.budget == one.budget
        assert torch.equal(other.ask(4, generator(99)), one.ask(4, generator(99)))
        assert torch.equal(other.derive(4, generator(99)), one.derive(4, generator(99)))


def test_metrics_tell_rung_and_budget() -> None:
    strategy, rows = built(), distinct(9)
    metrics = strategy.tell(told(rows, strategy.budget))
    assert metrics["strategy/rung"].item() == 1
    assert metrics["strategy/budget"].item() == pytest.approx(1 / 3)
    assert metrics["strategy/best"].item() == rows.sum(dim=1).max()
    metrics = strategy.tell(told(best(rows, 3)[2:], strategy.budget))
    assert metrics["strategy/best"].item() == best(rows, 3)[2].sum()  # of the highest budget so far


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"eta": 1}, r"^strategy\.eta=1: allowed is 2 or more$"),
        ({"rungs": 1}, r"^strategy\.rungs=1: allowed is 2 or more$"),
        ({"width": 8}, r"^strategy\.width=8: allowed is 9 or more"),
        ({"memory": 0}, r"^strategy\.memory=0: allowed is 1 or more$"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        built(**settings)
