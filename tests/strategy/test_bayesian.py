"""Bayesian optimisation: what it asks for, what it avoids, and that it finds more than chance does."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from conformance import SPACES, generator
from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import NasBench201, SearchSpace
from enas.strategy import Bayesian, Random, Sampler

Score = Callable[[Tensor], Tensor]


def convolutions(rows: Tensor) -> Tensor:
    """A made-up accuracy of NAS-Bench-201's rows, float [n]: functions of equal rows have equal ones."""
    canonical = NasBench201().canonical(rows)
    return torch.tensor([0.0, 0.5, 0.7, 1.0, 0.2])[canonical] @ torch.tensor([1.0, 0.6, 0.9, 1.2, 0.4, 0.8])


def told(values: Tensor, rows: Tensor) -> Estimates:
    return Estimates(rows, values, torch.zeros_like(values))


def search(strategy: Sampler, score: Score, seed: int, evaluations: int, batch: int = 1) -> float:
    """The best value found."""
    draws, best = generator(seed), -float("inf")
    for _ in range(evaluations // batch):
        rows = strategy.ask(batch, draws)
        values = score(rows)
        strategy.tell(told(values, rows))
        best = max(best, float(values.max()))
    return best


@pytest.mark.parametrize(
    ("kernel", "acquisition", "batch"),
    [
        ("otmann", "expected_improvement", 4),
        ("otmann", "upper_confidence_bound", 8),
        ("edit", "expected_improvement", 8),
        ("hamming", "upper_confidence_bound", 2),
    ],
)
def test_it_finds_more_than_chance(kernel: str, acquisition: str, batch: int) -> None:
    space = NasBench201()
    settings: dict[str, Any] = {"kernel": kernel, "acquisition": acquisition, "pool": 40, "landmarks": 8}
    found = [search(Bayesian(space, **settings), convolutions, seed, 48, batch) for seed in range(3)]
    chance = [search(Random(space), convolutions, seed, 48) for seed in range(3)]
    assert sum(found) / 3 > sum(chance) / 3 + 0.25
    assert max(found) <= 4.9 + 1e-6


def test_the_first_rows_are_random() -> None:
    space = NasBench201()
    strategy = Bayesian(space, initial=5)
    for count in (4, 1):
        assert torch.equal(strategy.ask(3, generator(1)), space.random(3, generator(1)))
        rows = space.random(count, generator(count))
        strategy.tell(told(convolutions(rows), rows))
    assert not torch.equal(strategy.ask(3, generator(1)), space.random(3, generator(1)))


def test_what_was_told_is_not_asked_again() -> None:
    space = NasBench201()
    strategy = Bayesian(space, "hamming", initial=1, chance=0.0, parents=1, pool=60)
    best = torch.tensor([[3, 3, 3, 3, 3, 3]])
    rows = torch.cat([best, *(best.scatter(1, torch.tensor([[place]]), 2) for place in range(6))])
    strategy.tell(told(convolutions(rows), rows))
    known = {tuple(row) for row in space.canonical(rows).tolist()}
    mutants = space.canonical(strategy._mutants(best, 60, generator(1))).tolist()
    assert known & {tuple(row) for row in mutants}
    candidates = [tuple(row) for row in space.canonical(strategy._candidates(best, generator(1))).tolist()]
    assert not known & set(candidates)
    assert 8 < len(candidates) == len(set(candidates))
    asked = space.canonical(strategy.ask(8, generator(1))).tolist()
    assert {tuple(row) for row in asked} <= set(candidates)


def test_a_space_that_is_told_out_is_still_asked() -> None:
    space = SPACES["enas_micro-1-concat"]
    rows = space.random(1, generator()).expand(4, -1)
    strategy = Bayesian(space, initial=1, pool=1, chance=0.0, landmarks=2)
    every = torch.cat([space.mutate(rows, generator(seed)) for seed in range(60)]).unique(dim=0)
    strategy.tell(told(torch.arange(len(every)).float(), every))
    assert space.legal(strategy.ask(5, generator(1))).all()


def test_candidates_are_within_the_limits() -> None:
    space = NasBench201()
    strategy = Bayesian(space, "hamming", initial=1, hallucinated=20)
    rows = space.random(20, generator())
    strategy.tell(told(convolutions(rows), rows))
    assert ((strategy.ask(8, generator(1)) == 3).sum(dim=1) > 2).any()
    strategy.accept = lambda rows: (rows == 3).sum(dim=1) <= 2
    assert strategy.accept(strategy.ask(8, generator(1))).all()
    strategy.accept = lambda rows: torch.zeros(len(rows), dtype=torch.bool)
    assert len(strategy.ask(8, generator(1))) == 8


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_candidates_may_be_all_mutants_or_all_random(chance: float) -> None:
    space = NasBench201()
    strategy = Bayesian(space, "hamming", initial=2, chance=chance)
    rows = torch.tensor([[3, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0]])
    strategy.tell(told(torch.tensor([1.0, 0.0]), rows))
    strategy.parents = 1
    candidates = strategy._candidates(rows[:1], generator())
    changed = (candidates != 3).sum(dim=1).float()
    assert (changed.mean() < 2.5) == (chance == 0.0)
    assert changed.max() == (5 if chance == 0.0 else 6)


def test_many_rows_are_the_chosen_ones_and_mutants() -> None:
    space = NasBench201()
    strategy = Bayesian(space, "hamming", initial=4, hallucinated=6)
    rows = space.random(20, generator())
    strategy.tell(told(convolutions(rows), rows))
    few, many = strategy.ask(6, generator(1)), strategy.ask(256, generator(1))
    assert torch.equal(many[:6], few)
    assert many.shape == (256, 6)
    assert convolutions(many).mean() > convolutions(rows).mean() + 0.3


def test_values_far_from_zero_make_no_difference() -> None:
    space, rows = NasBench201(), NasBench201().random(15, generator())
    asked = []
    for scale, offset in ((1.0, 0.0), (8.0, -64.0)):
        strategy = Bayesian(space, initial=4, landmarks=4)
        for row in rows.split(1):
            strategy.tell(told(convolutions(row).double() * scale + offset, row))
        asked.append(strategy.ask(3, generator(1)))
    assert torch.equal(*asked)


def test_it_remembers_so_many_rows_and_takes_new_values_of_them() -> None:
    space = NasBench201()
    strategy = Bayesian(space, memory=12, initial=4, landmarks=4)
    rows = space.random(30, generator())
    strategy.tell(told(convolutions(rows), rows))
    remembered = strategy.remembered()
    assert len(remembered) == 12
    before = strategy.ask(4, generator(1))
    strategy.refresh(told(-convolutions(remembered), remembered))
    after = strategy.ask(4, generator(1))
    assert convolutions(after).mean() < convolutions(before).mean()
    assert torch.equal(strategy.derive(1, generator())[0], remembered[convolutions(remembered).argmin()])


def test_length_scale_and_noise_are_fitted_every_few_tells() -> None:
    space = NasBench201()
    strategy = Bayesian(space, "hamming", refit=3)
    fitted = []
    for seed in range(6):
        rows = space.random(20, generator(seed))
        metrics = strategy.tell(told(convolutions(rows), rows))
        fitted.append(float(metrics["strategy/length_scale"]))
        assert metrics["strategy/noise"] == np.float32(strategy.noise)
    assert fitted[:2] == [1.0, 1.0]
    assert fitted[2] == fitted[3] == fitted[4] > 1.0


def test_what_is_kept_of_rows_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    space = NasBench201()
    strategies = [Bayesian(space, initial=4, landmarks=3, pool=20) for _ in range(2)]
    rows = space.random(20, generator())
    asked = []
    for strategy, most in zip(strategies, (20_000, 1), strict=True):
        monkeypatch.setattr("enas.strategy.bayesian.MOST_KNOWN", most)
        strategy.tell(told(convolutions(rows), rows))
        asked.append([strategy.ask(4, generator(seed)) for seed in range(3)])
    assert all(torch.equal(one, other) for one, other in zip(*asked, strict=True))
    assert len(strategies[1]._described) <= 40


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kernel": "path"}, "strategy.kernel=path: allowed are otmann, edit, hamming"),
        ({"acquisition": "ei"}, "allowed are expected_improvement, upper_confidence_bound"),
        ({"memory": 0}, "strategy.memory=0"),
        ({"memory": 9}, "strategy.memory=9: allowed is strategy.initial=10 or more"),
        ({"initial": 0}, "strategy.initial=0"),
        ({"pool": 1.5}, "strategy.pool=1.5"),
        ({"parents": 0}, "strategy.parents=0"),
        ({"hallucinated": 0}, "strategy.hallucinated=0"),
        ({"landmarks": -1}, "strategy.landmarks=-1"),
        ({"refit": 0}, "strategy.refit=0"),
        ({"chance": 1.5}, "strategy.chance=1.5"),
        ({"beta": -1.0}, "strategy.beta=-1.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], said: str) -> None:
    space: SearchSpace = NasBench201()
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        Bayesian(space, **settings)
