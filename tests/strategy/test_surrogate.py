"""The surrogate: it ranks rows it has not seen, leaves inactive decisions out, and is made anew from its generator."""

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from conformance import generator
from enas.space import NasBench201
from enas.strategy.surrogate import Family, Fitting, fit

SPACE = NasBench201()
both = pytest.mark.parametrize("family", ["mlp", "lstm"])


def fitting(family: Family, steps: int = 40, members: int = 3) -> Fitting:
    return Fitting(family, members, embedding=8, hidden=8, steps=steps, learning_rate=0.03)


def worth(rows: Tensor) -> Tensor:
    """Convolutions are good, nothing is bad, and one row in ten is a disaster."""
    good = torch.tensor([0.0, 1.0, 2.0, 3.0, 0.5])[rows].sum(dim=1)
    return torch.where(rows[:, 0] * 5 + rows[:, 1] < 2, good - 1000, good).double()


@both
def test_rows_it_has_not_seen_are_ranked(family: Family) -> None:
    rows, others = SPACE.random(60, generator(1)), SPACE.random(300, generator(2))
    others = others[worth(others) > 0]
    for sign in (1, -1):
        predict = fit(SPACE, rows, sign * worth(rows), fitting(family), generator(3))
        assert spearmanr(predict(others), sign * worth(others)).statistic > 0.6


@both
def test_equal_generators_give_equal_surrogates_and_others_do_not(family: Family) -> None:
    rows = SPACE.random(20, generator(1))
    one, same, other = (fit(SPACE, rows, worth(rows), fitting(family, 3), generator(seed))(rows) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@both
def test_rows_are_scored_each_alone(family: Family) -> None:
    rows = SPACE.random(20, generator(1))
    predict = fit(SPACE, rows, worth(rows), fitting(family, 3), generator())
    alone = torch.cat([predict(row[None]) for row in rows])
    assert torch.allclose(alone, predict(rows), atol=1e-5)


class Conditional(NasBench201):
    """Its second decision takes no part where the first one is 0; all later ones do."""

    conditional = True

    def active(self, choices: Tensor) -> Tensor:
        active = torch.ones_like(choices, dtype=torch.bool)
        active[:, 1] = choices[:, 0] != 0
        return active


@both
def test_decisions_that_take_no_part_are_left_out(family: Family) -> None:
    space = Conditional()
    rows = space.random(30, generator(1))
    predict = fit(space, rows, rows.double().sum(dim=1), fitting(family, 3), generator())
    row = torch.tensor([[0, 0, 1, 2, 3, 4]])
    other = torch.tensor([[0, 3, 1, 2, 3, 4]])
    assert torch.equal(predict(row), predict(other))
    row[0, 0] = other[0, 0] = 1
    assert not torch.equal(predict(row), predict(other))


@both
@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_or_equal_rows_are_no_trouble(family: Family, count: int) -> None:
    rows = SPACE.random(count, generator(1))
    predict = fit(SPACE, rows, torch.ones(count, dtype=torch.float64), fitting(family, 3), generator())
    assert predict(SPACE.random(5, generator())).isfinite().all()


def test_each_member_leaves_out_a_part_of_its_own() -> None:
    """One that sees all five rows can say what they are worth; of five that each miss one nobody knows all."""
    rows = torch.arange(5)[:, None].expand(-1, 6)
    values = torch.tensor([0.0, 3.0, 1.0, 4.0, 2.0])
    errors = []
    for members in (1, 5):
        wide = Fitting("mlp", members, embedding=16, hidden=64, steps=100, learning_rate=0.03)
        said = fit(SPACE, rows, values, wide, generator())(rows)
        errors.append(float((said - (values - 2) / 2**0.5).abs().max()))
    assert errors[0] < 0.01
    assert errors[1] > 0.1
