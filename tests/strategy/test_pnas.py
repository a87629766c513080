"""Progressive search: its levels, what stands in line, what is asked for, and that it finds more than chance."""

from typing import Any

import pytest
import torch
from torch import Tensor

from conformance import Growing, generator
from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import EnasRnn, NasBench201, Pnas, SearchSpace
from enas.strategy import ProgressiveSearch, propose

SPACE = NasBench201()
SMALL: dict[str, Any] = {"members": 2, "embedding": 8, "hidden": 8, "steps": 20, "learning_rate": 0.03}


def worth(rows: Tensor) -> Estimates:
    """Later alternatives are better, early decisions matter most."""
    value = (rows / torch.arange(1, rows.shape[1] + 1)).sum(dim=1).double()
    return Estimates(rows, value, torch.zeros_like(value))


def asked_and_told(strategy: ProgressiveSearch, evaluations: int, seed: int = 1) -> Tensor:
    draw, rows = generator(seed), []
    for _ in range(evaluations):
        rows.append(strategy.ask(1, draw))
        strategy.tell(worth(rows[-1]))
    return torch.cat(rows)


def test_levels_expand_one_block_after_the_other_and_begin_again() -> None:
    strategy = ProgressiveSearch(SPACE, beam=6, **SMALL)
    asked_and_told(strategy, 6)
    best, levels = strategy.history.best(6), []
    for _ in range(4):
        levels.append(strategy.level)
        assert len(strategy.line) == strategy.due == 6
        places = strategy.expansion.blocks[(strategy.level - 1) % 3]
        rest = [place for place in range(6) if place not in places.tolist()]
        beam = {tuple(row) for row in best[:, rest].tolist()}
        assert {tuple(row) for row in strategy.line[:, rest].tolist()} <= beam
        asked_and_told(strategy, 6)
        best = strategy.history.best(6)
    assert levels == [2, 3, 4, 5]


def test_nothing_is_asked_for_twice_while_there_is_something_in_line() -> None:
    strategy = ProgressiveSearch(SPACE, beam=8, **SMALL)
    rows = asked_and_told(strategy, 8)
    rows = torch.cat([rows.unique(dim=0), asked_and_told(strategy, 48)])
    assert len(SPACE.canonical(rows[-48:]).unique(dim=0)) == 48
    assert len(SPACE.canonical(rows).unique(dim=0)) == len(SPACE.canonical(rows[:-48]).unique(dim=0)) + 48


def test_what_is_in_line_was_ranked_best_first_and_is_mostly_asked_for_in_this_order() -> None:
    strategy = ProgressiveSearch(SPACE, beam=20, **SMALL)
    asked_and_told(strategy, 20)
    assert (strategy.predicted.diff() <= 0).all()
    first = [strategy.ask(1, generator(seed))[0] for seed in range(200)]
    places = torch.stack([(strategy.line == row).all(dim=1).int().argmax() for row in first])
    assert (places == 0).double().mean() > 2 * (places == 1).double().mean() * 0.6
    assert (places < 5).double().mean() > 0.5
    everything = strategy.ask(20, generator(1))
    assert torch.equal(everything.unique(dim=0), strategy.line.unique(dim=0))


@pytest.mark.parametrize("space", [SPACE, Pnas(2, growing=True)], ids=["nasbench201", "pnas"])
def test_what_limits_refuse_is_not_asked_for_while_something_else_is_in_line(space: SearchSpace) -> None:
    strategy = ProgressiveSearch(space, beam=10, **SMALL)
    strategy.accept = lambda rows: (rows == 3).sum(dim=1) < 2
    draw, refused = generator(1), 0
    for _ in range(60):
        rows, _, again = propose(lambda count: strategy.ask(count, draw), 1, strategy.accept)
        if strategy.level > 1:
            assert strategy.accept(strategy.line).all()
            refused += again
        strategy.tell(worth(rows))
    assert strategy.level > 3
    assert refused == 0


def test_a_growing_space_begins_with_its_first_block_and_grows_by_one_a_level() -> None:
    strategy = ProgressiveSearch(Growing(), beam=30, **SMALL)
    levels: dict[int, list[Tensor]] = {}
    draw = generator(1)
    for _ in range(100):
        levels.setdefault(strategy.level, []).append(strategy.ask(1, draw))
        strategy.tell(worth(levels[strategy.level][-1]))
    for level, asked in levels.items():
        layers = (Growing().active(torch.cat(asked)).sum(dim=1) > 2).int()
        assert layers.max() == int(level > 1)
    operations = [place for place, decision in enumerate(Growing().decisions) if decision.kind == "operation"]
    for level in range(1, 5):
        present = (torch.cat(levels[level])[:, operations] > 0).sum(dim=1)
        assert present.max() == level - 1
    assert len(levels[1]) == 2


def test_the_published_search_begins_with_136_cells() -> None:
    strategy = ProgressiveSearch(Pnas(growing=True), **SMALL)
    assert len(strategy.line) == strategy.due == 136
    rows = strategy.ask(136, generator())
    strategy.tell(worth(rows))
    assert (strategy.level, strategy.due) == (2, 256)
    assert (strategy.line[:, [4, 9]] == torch.tensor([1, 0])).all()


def test_a_level_ends_when_as_many_rows_were_told_as_stood_in_line_whatever_they_are() -> None:
    strategy = ProgressiveSearch(SPACE, beam=5, **SMALL)
    asked_and_told(strategy, 5)
    assert strategy.level == 2
    strategy.tell(worth(SPACE.random(4, generator(7))))
    assert (strategy.level, strategy.due) == (2, 1)
    strategy.tell(worth(SPACE.random(9, generator(8))))
    assert (strategy.level, strategy.due) == (3, 5)


def test_new_values_line_up_what_is_left_anew() -> None:
    strategy = ProgressiveSearch(SPACE, beam=12, **SMALL)
    asked_and_told(strategy, 15)
    before, due = strategy.line, strategy.due
    strategy.refresh(worth(strategy.remembered()))
    rows = strategy.remembered()
    upside_down = worth(rows)
    strategy.refresh(Estimates(rows, -upside_down.value, upside_down.error))
    assert (strategy.level, strategy.due, len(strategy.line)) == (2, due, due)
    assert worth(strategy.line).value.mean() < worth(before).value.mean() - 1


def test_the_surrogate_is_measured_on_what_it_ranked() -> None:
    strategy = ProgressiveSearch(SPACE, beam=20, **SMALL)
    asked_and_told(strategy, 39)
    rows = strategy.ask(1, generator(1))
    assert float(strategy.rank) == 0
    said, found = torch.cat([strategy.checked, torch.stack([strategy.predicted[:1], worth(rows).value])], dim=1)
    metrics = strategy.tell(worth(rows))
    ranks = [numbers.argsort().argsort().double() for numbers in (said, found)]
    expected = torch.corrcoef(torch.stack(ranks))[0, 1]
    assert abs(float(metrics["strategy/surrogate_rank"]) - float(expected)) < 0.1  # but for equal values
    assert float(metrics["strategy/level"]) == 3


@pytest.mark.parametrize("surrogate", ["mlp", "lstm"])
def test_it_finds_better_rows_than_chance(surrogate: Any) -> None:
    strategy = ProgressiveSearch(SPACE, beam=10, surrogate=surrogate, **SMALL)
    values = worth(asked_and_told(strategy, 60)).value
    chance = worth(SPACE.random(1000, generator())).value
    assert values[30:].mean() > chance.mean() + 1.5 * chance.std()
    assert worth(strategy.derive(1, generator())).value == values.max()


def test_a_space_that_is_used_up_is_searched_by_chance() -> None:
    space = EnasRnn(2)
    strategy = ProgressiveSearch(space, beam=5, **SMALL)
    strategy.tell(worth(space.random(500, generator()).unique(dim=0)))
    assert not len(strategy.line)
    assert strategy.due == 5
    assert space.legal(strategy.ask(7, generator())).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"beam": 0}, "strategy.beam=0: allowed is 1 or more"),
        ({"expansions": 0}, "strategy.expansions=0"),
        ({"members": 0}, "strategy.members=0"),
        ({"embedding": 0}, "strategy.embedding=0"),
        ({"hidden": 0}, "strategy.hidden=0"),
        ({"steps": 0}, "strategy.steps=0"),
        ({"memory": 0}, "strategy.memory=0"),
        ({"surrogate": "tree"}, "strategy.surrogate=tree: allowed are mlp, lstm"),
        ({"learning_rate": 0.0}, "strategy.learning_rate=0.0: allowed is more than 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    space: SearchSpace = SPACE
    with pytest.raises(UserError, match=said):
        ProgressiveSearch(space, **settings)
