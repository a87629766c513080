"""Hill climbing on made-up values: what is asked, where it stands, what is remembered."""

import pytest
import torch
from torch import Tensor

from conformance import Growing, generator
from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import EnasRnn, NasBench201, SearchSpace
from enas.strategy import LocalSearch
from tolerances import assert_same

SPACE = NasBench201()
SMALL = EnasRnn(2)
Row = tuple[int, ...]


def told(rows: Tensor, *values: float) -> Estimates:
    value = torch.tensor(values, dtype=torch.float64)
    return Estimates(rows, value, torch.zeros_like(value))


def rugged(row: Row) -> float:
    """A made-up value with many tops."""
    return float(torch.sin(torch.tensor(sum(7.3 ** (place + 1) * choice for place, choice in enumerate(row)))))


def neighbours(space: SearchSpace, row: Row) -> set[Row]:
    return {tuple(neighbour) for neighbour in space.neighbours(torch.tensor([row])).tolist()}


@pytest.mark.parametrize("space", [SPACE, Growing()], ids=["nasbench201", "growing"])
def test_it_climbs_to_the_first_better_neighbour_and_starts_anew_at_the_top(space: SearchSpace) -> None:
    """The whole method, followed row by row."""
    strategy, random = LocalSearch(space), generator(3)
    values: dict[Row, float] = {}
    current: Row | None = None
    starts = moves = 0
    for _ in range(200):
        row: Row = tuple(strategy.ask(1, random)[0].tolist())
        if current is None:
            starts, current = starts + 1, row
        else:
            assert row in neighbours(space, current)
            assert row not in values
            if rugged(row) > values[current]:
                current, moves = row, moves + 1
        values[row] = rugged(row)
        metrics = strategy.tell(told(torch.tensor([row]), values[row]))
        assert strategy.current == (None if neighbours(space, current) <= values.keys() else (current, values[current]))
        if strategy.current is None:
            current = None
    assert starts > 1
    assert moves > 3
    assert float(metrics["strategy/tops"]) == starts - (current is not None)


def test_many_rows_at_once_are_all_untold_neighbours_and_then_random_rows() -> None:
    strategy = LocalSearch(SPACE)
    start = SPACE.random(1, generator())
    strategy.tell(told(start, 0.5))
    around = SPACE.neighbours(start)
    assert len(around) == 24
    strategy.tell(told(around[:4], 0.1, 0.2, 0.3, 0.4))
    asked = strategy.ask(30, generator(1))
    assert {tuple(row) for row in asked[:20].tolist()} == {tuple(row) for row in around[4:].tolist()}
    assert not torch.equal(asked[:20], strategy.ask(20, generator(2)))
    assert len(asked[20:].unique(dim=0)) == 10
    # Told at once: the neighbours are used up, so the climb ends, and the next one starts at the next row.
    strategy.tell(told(asked[:23], *[0.2] * 20, 0.15, 0.1, 0.12))
    assert strategy.current == (tuple(asked[20].tolist()), 0.15)


@pytest.mark.parametrize("count", [2, 7, 40])
def test_telling_at_once_is_telling_one_by_one(count: int) -> None:
    together, alone, random = LocalSearch(SMALL), LocalSearch(SMALL), generator(1)
    for _ in range(20):
        rows = together.ask(count, random)
        values = [rugged(tuple(row)) for row in rows.tolist()]
        together.tell(told(rows, *values))
        for row, value in zip(rows, values, strict=True):
            alone.tell(told(row[None], value))
    assert together.current == alone.current
    assert together.untold == alone.untold
    assert together.tops == alone.tops > 0


def test_a_better_row_is_stood_on_wherever_it_is() -> None:
    strategy = LocalSearch(SPACE)
    far = torch.tensor([[0, 1, 2, 3, 4, 0], [4, 3, 2, 1, 0, 1]])
    strategy.tell(told(far, 0.5, 0.6))
    assert strategy.current == (tuple(far[1].tolist()), 0.6)


def test_the_value_of_the_current_row_may_move() -> None:
    strategy = LocalSearch(SPACE, memory=2)
    start = SPACE.random(1, generator())
    strategy.tell(told(start, 0.9))
    around = SPACE.neighbours(start)
    strategy.tell(told(around[:3], 0.1, 0.2, 0.3))
    assert torch.equal(strategy.remembered(), torch.cat([start, around[2:3], start]))
    strategy.refresh(told(strategy.remembered(), 0.25, 0.35, 0.25))
    assert strategy.current == (tuple(start[0].tolist()), 0.25)
    assert torch.equal(strategy.derive(1, generator()), around[2:3])
    strategy.tell(told(start, 0.15))
    assert strategy.current == (tuple(start[0].tolist()), 0.15)
    strategy.tell(told(around[3:4], 0.2))
    assert strategy.current == (tuple(around[3].tolist()), 0.2)


def test_it_finds_the_top_of_a_hill() -> None:
    strategy, random, top = LocalSearch(SPACE), generator(), torch.tensor([1, 2, 3, 4, 0, 1])
    for _ in range(60):
        rows = strategy.ask(1, random)
        strategy.tell(told(rows, float((rows == top).sum())))
    assert torch.equal(strategy.derive(1, random)[0], top)


def test_rows_that_will_be_refused_are_not_asked_for() -> None:
    """A neighbour that limits refuse would never be told, and the climb never end."""
    strategy = LocalSearch(SPACE)
    strategy.accept = lambda rows: (rows == 3).sum(dim=1) <= 2
    start = torch.tensor([[3, 3, 0, 0, 0, 0]])
    strategy.tell(told(start, 0.9))
    left = [tuple(row) for row in SPACE.neighbours(start).tolist() if row.count(3) <= 2]
    assert {tuple(row) for row in strategy.ask(len(left), generator()).tolist()} == {*left}
    assert len(left) == 20
    metrics = strategy.tell(told(torch.tensor(left), *[0.1] * 20))
    assert_same(metrics["strategy/tops"], torch.tensor(1.0))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(UserError, match=r"strategy\.memory=0: allowed is 1 or more"):
        LocalSearch(SPACE, memory=0)
