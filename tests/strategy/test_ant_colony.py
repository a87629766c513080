"""An ant colony: its pheromone worked out by hand, what ants choose by, how deep they walk."""

from typing import Any

import pytest
import torch
from torch import Tensor

from conformance import SPACES, Growing, generator
from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import NasBench201
from enas.strategy import AntColony
from tolerances import assert_same, probability

SPACE = NasBench201()
ONE = torch.tensor([[0, 1, 2, 3, 4, 0]])
TWO = torch.tensor([[0, 2, 2, 3, 3, 1]])


def told(rows: Tensor, *values: float) -> Estimates:
    value = torch.tensor(values, dtype=torch.float64)
    return Estimates(rows, value, torch.zeros_like(value))


def pheromone(**placed: float) -> Tensor:
    """0.1 everywhere but at `d<decision>a<alternative>`."""
    expected = torch.full((6, 5), 0.1, dtype=torch.float64)
    for name, value in placed.items():
        place, alternative = name[1:].split("a")
        expected[int(place), int(alternative)] = value
    return expected


def test_pheromone_by_hand() -> None:
    colony = AntColony(SPACE, ants=2)
    colony.tell(told(ONE, 0.8))  # (1 - 0.1) * 0.1 + 0.1 * 0.1: an ant alone changes nothing at first
    assert_same(colony.pheromone, pheromone())
    colony.tell(told(TWO, 0.5))  # the generation's end, ONE is the best: 0.9 * 0.1 + 0.1
    best = {"d0a0": 0.19, "d1a1": 0.19, "d2a2": 0.19, "d3a3": 0.19, "d4a4": 0.19, "d5a0": 0.19}
    assert_same(colony.pheromone, pheromone(**best))
    colony.tell(told(TWO, 0.9))  # what it shares with ONE decays: 0.9 * 0.19 + 0.1 * 0.1
    decayed = {**best, "d0a0": 0.181, "d2a2": 0.181, "d3a3": 0.181}
    assert_same(colony.pheromone, pheromone(**decayed))
    colony.tell(told(ONE, 0.3))  # all of ONE decays, then TWO, now the best, acts: 0.9 * p + 0.1
    twice, other = 0.9 * 0.181 + 0.01, 0.9 * 0.19 + 0.01
    shared = 0.9 * twice + 0.1
    expected = {"d0a0": shared, "d2a2": shared, "d3a3": shared, "d1a1": other, "d4a4": other, "d5a0": other}
    assert_same(colony.pheromone, pheromone(**expected, d1a2=0.19, d4a3=0.19, d5a1=0.19))


@pytest.mark.parametrize("value", [0.8, 0.0, -0.5, -2.0, -1e6, 250.0])
def test_the_reward_is_above_the_start_whatever_the_value(value: float) -> None:
    colony = AntColony(SPACE, ants=1, decay=0.3, evaporation=0.25, start=0.4)
    colony.tell(told(ONE, value))
    assert_same(colony.pheromone[0, 0], torch.tensor(0.75 * 0.4 + 0.25, dtype=torch.float64))


def test_the_best_row_of_all_acts_though_it_is_old() -> None:
    colony = AntColony(SPACE, ants=1, memory=1)
    colony.tell(told(ONE, 0.8))
    colony.tell(told(TWO, 0.5))
    assert float(colony.pheromone[1, 1]) > 0.2  # ONE acted twice
    assert_same(colony.pheromone[1, 2], torch.tensor(0.1, dtype=torch.float64))
    colony.refresh(told(colony.remembered(), 0.4))
    colony.tell(told(TWO, 0.5))
    assert float(colony.pheromone[1, 2]) > 0.1


def test_telling_at_once_is_telling_one_by_one() -> None:
    rows = SPACE.random(40, generator())
    values = torch.rand(40, generator=generator(1), dtype=torch.float64).tolist()
    together, alone = AntColony(SPACE, ants=16), AntColony(SPACE, ants=16)
    together.tell(told(rows, *values))
    for row, value in zip(rows, values, strict=True):
        alone.tell(told(row[None], value))
    assert torch.equal(together.pheromone, alone.pheromone)
    assert together.walked == alone.walked == 40
    assert float(together.pheromone.max()) > 0.1


@pytest.mark.parametrize("greediness", [0.0, 0.6, 1.0])
def test_ants_follow_pheromone_times_heuristic(greediness: float) -> None:
    colony = AntColony(SPACE, ants=1, greediness=greediness, heuristic={"none": 3.0, "skip_connect": 0.5})
    colony.tell(told(ONE, 0.5))
    draws = 5000
    rows = colony.ask(draws, generator())
    weights = colony.pheromone * torch.tensor([3.0, 0.5, 1.0, 1.0, 1.0], dtype=torch.float64)
    for place in range(6):
        expected = (1 - greediness) * weights[place] / weights[place].sum()
        expected[weights[place].argmax()] += greediness
        found = torch.bincount(rows[:, place], minlength=5) / draws
        assert float((found - expected).abs().max()) < probability(draws)


def test_of_equals_a_random_one_is_taken() -> None:
    colony = AntColony(SPACE, ants=16, greediness=1.0)
    colony.tell(told(ONE, 0.5))
    draws = 5000
    found = torch.bincount(colony.ask(draws, generator())[:, 0], minlength=5) / draws
    assert float((found - 0.2).abs().max()) < probability(draws)


def test_the_first_ant_of_all_is_random() -> None:
    colony = AntColony(SPACE, greediness=1.0, heuristic={"none": 100.0})
    assert [len(colony.ask(3, generator(seed))[:1].unique()) > 1 for seed in range(20)].count(True) > 15
    assert (colony.ask(3, generator())[1:] == 0).all()
    colony.tell(told(ONE, 0.5))
    assert (colony.ask(3, generator()) == 0).all()


def test_absent_layers_appear_one_a_generation_and_what_could_not_be_is_no_choice() -> None:
    space = Growing()
    colony = AntColony(space, ants=2)
    places = colony.layers
    assert [space.decisions[place].name for place in places] == [f"layer{layer}/operation" for layer in range(3)]
    for generation in range(4):
        rows = colony.ask(300, generator(generation))
        assert space.legal(rows).all()
        present = (rows[:, places] != 0).any(dim=0).tolist()
        assert present == [layer <= generation for layer in range(3)]
        whole = rows[(rows[:, places] != 0).sum(dim=1) == min(generation + 1, 3)][:2]
        colony.tell(told(whole, 0.5, 0.5))
        if generation == 0:
            assert_same(colony.pheromone[places[1], 0], torch.tensor(0.1, dtype=torch.float64))
            assert float(colony.pheromone[places[0]].max()) > 0.1


def test_a_growing_cell_has_its_first_node_beside_those_that_may_be_absent() -> None:
    space = SPACES["pnas-growing"]
    colony = AntColony(space)
    assert [space.decisions[place].owner.rpartition("/")[2] for place in colony.layers] == ["node3", "node4"]
    present = colony.ask(200, generator())[:, colony.layers] != 0
    assert present.any(dim=0).tolist() == [True, False]


def test_what_an_absent_layer_does_not_choose_gets_no_pheromone() -> None:
    space = Growing()
    colony = AntColony(space, ants=1)
    colony.walked = 5
    row = torch.zeros(1, len(space.decisions), dtype=torch.int64)
    colony.tell(told(row, 0.9))
    moved = (colony.pheromone[:, 0] > 0.1 + 1e-9).nonzero().flatten().tolist()
    assert moved == [0, colony.layers[0]]


def test_rows_that_the_space_forbids_are_drawn_again() -> None:
    class FewNothings(NasBench201):
        constrained = True

        def legal(self, choices: Tensor) -> Tensor:
            return super().legal(choices) & ((choices == 0).sum(dim=1) <= 1)

        def random(self, count: int, generator: torch.Generator) -> Tensor:
            return super().random(count, generator).clamp_min(1)

    for heuristic in ({}, {"none": 1e6}):
        colony = AntColony(FewNothings(), greediness=0.0, heuristic=heuristic)
        rows = colony.ask(100, generator())
        assert ((rows == 0).sum(dim=1) <= 1).all()
        assert len(rows.unique(dim=0)) > 90


def test_what_the_space_forbids_is_not_repaired_and_costs_no_walks_once_all_is_legal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space, draws = SPACES["nasbench101"], 4000
    rows = AntColony(space).ask(draws, generator())
    assert space.legal(rows).all()
    uniform = space.random(draws, generator(1))  # so is a new colony, among legal rows
    assert float((rows.double().mean(dim=0) - uniform.double().mean(dim=0)).abs().max()) < 2 * probability(draws)
    walks, walk = [], AntColony._walk
    monkeypatch.setattr(AntColony, "_walk", lambda self, *given: (walks.append(given[0]), walk(self, *given))[1])
    AntColony(space).ask(draws, generator())
    assert len(walks) < 15
    assert walks == sorted(walks, reverse=True)
    assert walks[1] < 0.4 * draws


def test_a_large_space_and_many_ants() -> None:
    space = SPACES["enas_macro-6-sum"]
    colony = AntColony(space)
    rows = colony.ask(256, generator())
    colony.tell(told(rows, *torch.rand(256, generator=generator()).tolist()))
    assert colony.walked == 256
    assert torch.isfinite(colony.pheromone).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ants": 0}, "strategy.ants=0: allowed is 1 or more"),
        ({"greediness": 1.5}, "strategy.greediness=1.5: allowed is 0 to 1"),
        ({"start": 0.0}, "strategy.start=0.0: allowed is more than 0, and less than 1"),
        ({"start": 1.0}, "strategy.start=1.0: allowed is more than 0, and less than 1"),
        ({"decay": 1.0}, "strategy.decay=1.0: allowed is 0 or more, and less than 1"),
        ({"evaporation": -0.1}, "strategy.evaporation=-0.1"),
        ({"heuristic": {"none": 0.0}}, "strategy.heuristic.none=0.0: allowed is more than 0"),
        ({"heuristic": {"some": 1.0}}, "strategy.heuristic.some=1.0: allowed are weights of none, skip_connect, "),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        AntColony(SPACE, **settings)
