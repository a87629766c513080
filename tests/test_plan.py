"""How a search proceeds: whose turn it is, when it ends, and what a row may cost."""

from typing import Any

import pytest
import torch

from conformance import generator
from enas.errors import UserError
from enas.plan import Limits, Plan
from enas.space import EnasMicro, Scale

SPACE = EnasMicro(nodes=2)
SCALE = Scale(layers=1, filters=4, height=8, width=8, channels=3, classes=3)


def test_who_picks_the_children_and_who_waits() -> None:
    def turns(**settings: Any) -> list[tuple[bool, bool]]:
        plan = Plan(4, **settings)
        return [(plan.chance_picks(epoch), plan.waits(epoch)) for epoch in range(4)]

    chance, strategy, waiting = (True, False), (False, False), (True, True)
    assert turns() == [strategy] * 4
    assert turns(children="uniform") == [chance] * 4
    assert turns(children="uniform_then_strategy", uniform_epochs=2) == [waiting] * 2 + [strategy] * 2


def test_when_a_search_is_over() -> None:
    assert [Plan(3).over(epochs, 1e9) for epochs in range(5)] == [False, False, False, True, True]
    assert [Plan(3, time_budget=60.0).over(1, seconds) for seconds in (0.0, 59.9, 60.0)] == [False, False, True]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0), ("updates", -1), ("samples", 0), ("uniform_epochs", -1), ("candidates", 0), ("rescored", 0),
        ("watched", 0), ("time_budget", -1.0), ("checkpoint_every", 0), ("log_every", 0), ("children", "none"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^{key}={value}: allowed (is|are) "):
        Plan(**{"epochs": 1, key: value})


def test_no_updates_and_no_uniform_epochs_are_allowed() -> None:
    assert (Plan(1, updates=0).updates, Plan(1, uniform_epochs=0).uniform_epochs) == (0, 0)


@pytest.mark.parametrize(
    ("children", "uniform_epochs", "said"),
    [
        ("strategy", 1, "it belongs to children=uniform_then_strategy, not to children=strategy"),
        ("uniform", 2, "it belongs to children=uniform_then_strategy"),
        ("uniform_then_strategy", 0, "allowed are 1 to 3, fewer than epochs=4"),
        ("uniform_then_strategy", 4, "allowed are 1 to 3"),
    ],
)
def test_uniform_epochs_that_would_do_nothing_or_all_are_refused(children: Any, uniform_epochs: int, said: str) -> None:
    with pytest.raises(UserError, match=f"^uniform_epochs={uniform_epochs}: .*{said}"):
        Plan(4, children=children, uniform_epochs=uniform_epochs)


def test_the_baseline_has_as_many_rows_as_were_spent_or_derived() -> None:
    assert [Plan(1, candidates=5).chances(spent) for spent in (0.0, 0.3, 7.6)] == [5, 5, 8]
    assert Plan(1, candidates=5, baseline=2).chances(7.6) == 2


def test_no_more_is_asked_for_than_a_strategy_has_use_for() -> None:
    assert [Plan(1, samples=4).asked(wanted) for wanted in (None, 1, 9)] == [4, 1, 4]


@pytest.mark.parametrize("kind", ["params", "macs"])
def test_a_limit_is_reached_and_not_passed(kind: str) -> None:
    rows = SPACE.random(60, generator())
    spent = getattr(SPACE.cost(rows, SCALE), kind)
    limit = int(spent.sort().values[30])
    accepted = Limits(SCALE, **{kind: limit}).accept(SPACE, rows)
    assert torch.equal(accepted, spent <= limit)
    assert 30 < int(accepted.sum()) < 60
    assert not Limits(SCALE, **{kind: int(spent.min()) - 1}).accept(SPACE, rows).any()
    assert Limits(SCALE, **{kind: int(spent.max())}).accept(SPACE, rows).all()


def test_both_limits_hold_together_and_at_their_own_scale() -> None:
    rows = SPACE.random(60, generator())
    cost = SPACE.cost(rows, SCALE)
    params, macs = int(cost.params.median()), int(cost.macs.median())
    expected = (cost.params <= params) & (cost.macs <= macs)
    assert torch.equal(Limits(SCALE, params, macs).accept(SPACE, rows), expected)
    larger = Scale(layers=3, filters=8, height=8, width=8, channels=3, classes=3)
    assert not Limits(larger, params, macs).accept(SPACE, rows).any()


def test_without_limits_every_legal_row_passes() -> None:
    rows = SPACE.random(3, generator())
    rows[1, 0] = 99
    assert Limits(SCALE).accept(SPACE, rows).tolist() == [True, False, True]
    assert Limits(SCALE, params=10**9).accept(SPACE, rows[::2]).all()
