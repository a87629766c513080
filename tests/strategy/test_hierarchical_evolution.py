"""Evolution without death, on made-up values."""

from typing import Any

import pytest
import torch
from torch import Tensor

from conformance import generator
from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import Hierarchical, NasBench201
from enas.strategy import HierarchicalEvolution, hierarchical_evolution
from tolerances import assert_same

SPACE = NasBench201()


def told(rows: Tensor, value: Tensor) -> Estimates:
    return Estimates(rows, value, torch.zeros_like(value))


def test_the_first_rows_are_so_many_mutations_away_from_the_trivial_one() -> None:
    space = Hierarchical()
    for mutations in (1, 3):
        rows = HierarchicalEvolution(space, mutations=mutations).ask(100, generator())
        distance = (rows != 0).sum(dim=1)
        assert (distance <= mutations).all()
        assert bool((distance == mutations).any())
    assert torch.equal(
        HierarchicalEvolution(space, mutations=1).ask(9, generator()), space.mutate(rows[:9] * 0, generator())
    )


def test_where_the_trivial_row_is_not_legal_the_first_rows_start_from_random_ones() -> None:
    class NeverNothing(NasBench201):
        def legal(self, choices: Tensor) -> Tensor:
            return super().legal(choices) & (choices != 0).any(dim=1)

    space = NeverNothing()
    rows = HierarchicalEvolution(space, mutations=1).ask(100, generator())
    random = generator()
    assert torch.equal(rows, space.mutate(space.random(100, random), random))


def test_nothing_dies_and_the_sample_grows_with_the_population(monkeypatch: pytest.MonkeyPatch) -> None:
    sampled: list[tuple[int, int]] = []

    def compete(values: Tensor, sample: int, count: int, generator: torch.Generator) -> Tensor:
        sampled.append((len(values), sample))
        return values.argmax().expand(count)

    monkeypatch.setattr(hierarchical_evolution, "compete", compete)
    strategy = HierarchicalEvolution(SPACE, initial=10, share=0.05, mutations=5)
    rows = SPACE.random(200, generator())
    values = torch.linspace(0.9, 0.1, 200)  # the first told is the best
    strategy.tell(told(rows[:9], values[:9]))
    strategy.ask(3, generator())
    assert not sampled  # the first population is not complete
    for first, last in ((9, 10), (10, 60), (60, 200)):
        metrics = strategy.tell(told(rows[first:last], values[first:last]))
        children = strategy.ask(50, generator())
        assert ((children != rows[0]).sum(dim=1) == 1).all()
    assert sampled == [(10, 2), (60, 3), (200, 10)]
    assert torch.equal(strategy.remembered(), rows)
    assert_same(metrics["strategy/population_mean"], values.double().mean())


def test_beyond_the_memory_the_oldest_are_forgotten() -> None:
    strategy = HierarchicalEvolution(SPACE, initial=3, mutations=5, memory=4)
    rows = SPACE.random(6, generator())
    strategy.tell(told(rows, torch.tensor([0.1, 0.9, 0.2, 0.3, 0.4, 0.5])))
    assert torch.equal(strategy.remembered(), rows[[1, 3, 4, 5]])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"initial": 0}, "strategy.initial=0: allowed is 1 or more"),
        ({"mutations": 0}, "strategy.mutations=0: allowed is 1 or more"),
        ({"share": 0.0}, "strategy.share=0.0: allowed is more than 0, at most 1"),
        ({"share": 1.1}, "strategy.share=1.1"),
        ({"memory": 199}, "strategy.memory=199: allowed is strategy.initial=200 or more"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        HierarchicalEvolution(SPACE, **settings)
