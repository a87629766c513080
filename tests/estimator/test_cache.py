"""What the cache gives is what the estimator gives, and it asks only for what it does not know."""

import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from conformance import ESTIMATORS, SCALE, TEXT_ESTIMATORS, TEXT_SCALE, generator, toy_data, toy_text
from enas.architecture import Estimates
from enas.comparison import Basis
from enas.estimator import Cached, Estimator
from enas.space import EnasMicro, EnasRnn, NasBench201, SearchSpace
from enas.supernet import Supernet

SPACE = EnasMicro(2)
ROWS = SPACE.random(5, generator())


class Counting(Estimator):
    """Values that depend on row, step, budget and drawn data; it notes what it was asked."""

    label = "made up"

    def __init__(self, weights: Basis = "shared", draws: bool = True, space: SearchSpace = SPACE):
        self.weights, self.draws, self.divisible, self._space = weights, draws, True, space
        self.asked: list[Tensor] = []

    def key(self, choices: Tensor) -> Tensor:
        return choices if self.weights == "shared" else self._space.canonical(choices)

    def estimate(self, choices: Tensor, generator: torch.Generator | None = None, budget: float = 1.0) -> Estimates:
        self.asked.append(choices)
        value = torch.sin(self.key(choices).double() @ torch.arange(1.0, choices.shape[1] + 1).double()) * budget
        if generator is not None and self.draws:
            value = value + torch.rand((), generator=generator)
        if self.weights == "shared":
            value = value + self.step
        return Estimates(choices, value, value.abs() / 10, {"loss": -value}, 7, self.step, budget)


def assert_equal(one: Estimates, other: Estimates) -> None:
    assert torch.equal(one.choices, other.choices)
    assert torch.equal(one.value, other.value)
    assert torch.equal(one.error, other.error)
    assert one.metrics.keys() == other.metrics.keys()
    assert all(torch.equal(one.metrics[name], other.metrics[name]) for name in one.metrics)
    assert (one.images, one.step, one.budget) == (other.images, other.step, other.budget)


@pytest.mark.parametrize("name", [*ESTIMATORS, "text"])
def test_estimates_are_those_without_it(name: str) -> None:
    space: SearchSpace = EnasRnn(2) if name == "text" else SPACE
    rows = space.random(4, generator(1))
    supernet = Supernet(space, TEXT_SCALE if name == "text" else SCALE, generator(1))
    plain, cached = (
        TEXT_ESTIMATORS["language"](supernet, toy_text()) if name == "text" else ESTIMATORS[name](supernet, toy_data())
        for _ in range(2)
    )
    cached = Cached(cached)
    assert (cached.label, cached.divisible) == (plain.label, plain.divisible)
    for asked in ([0, 1], [2, 1, 1, 0], [3]):
        for draw in (None, 7):
            given = [None if draw is None else generator(draw) for _ in range(2)]
            assert_equal(cached.estimate(rows[asked], given[0]), plain.estimate(rows[asked], given[1]))
    assert cached.saved >= 4


def test_only_unknown_rows_are_estimated_each_once() -> None:
    inner = Counting()
    cached = Cached(inner)
    cached.estimate(ROWS[[0, 1, 0]])
    cached.estimate(ROWS[[1, 2, 0, 2]])
    cached.estimate(ROWS[[2, 1]])
    assert [rows.tolist() for rows in inner.asked] == [ROWS[[0, 1]].tolist(), ROWS[[2]].tolist()]
    assert cached.saved == 1 + 3 + 2


def test_each_budget_is_known_by_itself() -> None:
    inner = Counting()
    cached = Cached(inner)
    first = cached.estimate(ROWS, None, 0.25)
    assert torch.equal(cached.estimate(ROWS).value, Counting().estimate(ROWS).value)
    assert_equal(cached.estimate(ROWS, None, 0.25), first)
    assert len(inner.asked) == 2


def test_drawn_data_are_never_known() -> None:
    inner, draws = Counting(), generator(3)
    cached = Cached(inner)
    first, second = (cached.estimate(ROWS[[0, 0, 1]], draws) for _ in range(2))
    assert [len(rows) for rows in inner.asked] == [2, 2]  # the same row twice is the same row
    assert not torch.equal(first.value, second.value)
    assert_equal(cached.estimate(ROWS), Counting().estimate(ROWS))


def test_a_generator_that_draws_nothing_is_no_hindrance() -> None:
    inner = Counting(draws=False)
    cached = Cached(inner)
    for seed in range(3):
        cached.estimate(ROWS, generator(seed))
    assert len(inner.asked) == 1


def test_moved_weights_are_other_weights() -> None:
    inner = Counting()
    cached = Cached(inner)
    values = []
    for step in (0, 0, 5, 0):
        cached.step = step
        found = cached.estimate(ROWS)
        assert found.step == step
        values.append(found.value)
    assert len(inner.asked) == 3  # step 0 was forgotten
    assert torch.equal(values[0], values[3])
    assert torch.equal(values[2], values[0] + 5)
    assert len(cached.state_dict()["known"]) == 1


def test_a_row_trained_for_itself_is_known_at_every_step_and_by_its_function() -> None:
    space = NasBench201()
    rows = torch.tensor([[1, 0, 0, 2, 0, 0], [1, 3, 0, 2, 0, 0]])  # the second has an edge into nowhere more
    inner = Counting("own", space=space)
    cached = Cached(inner)
    cached.estimate(rows[:1])
    cached.step = 9
    found = cached.estimate(rows)
    assert len(inner.asked) == 1
    assert torch.equal(found.choices, rows)
    assert found.value[0] == found.value[1]
    assert found.step == 9


@pytest.mark.parametrize("weights", ["shared", "own"])
def test_a_resumed_run_estimates_nothing_again(weights: Basis) -> None:
    cached = Cached(Counting(weights))
    cached.step = 4
    expected = [cached.estimate(ROWS), cached.estimate(ROWS[:2], None, 0.5)]
    inner = Counting(weights)
    resumed = Cached(inner)
    resumed.load_state_dict(stored(cached.state_dict()))
    resumed.step = 4
    assert resumed.saved == cached.saved
    assert_equal(resumed.estimate(ROWS), expected[0])
    assert_equal(resumed.estimate(ROWS[:2], None, 0.5), expected[1])
    assert inner.asked == []
    resumed.estimate(SPACE.random(1, generator(9)))
    assert [len(rows) for rows in inner.asked] == [1]


def stored(state: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint gives back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def test_no_rows_are_no_trouble() -> None:
    cached = Cached(Counting())
    assert len(cached.estimate(ROWS[:0])) == 0
    assert_equal(cached.estimate(ROWS), Counting().estimate(ROWS))
    assert_equal(cached.estimate(ROWS[:0]), replace(Counting().estimate(ROWS[:0])))
