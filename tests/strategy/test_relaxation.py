"""What relaxations have in common: rows out of the relaxed distribution, and a watch for NaN."""

import math

import pytest
import torch
from synchronisation import refuse_synchronisation

from conformance import generator
from enas.errors import UserError
from enas.space import Darts as DartsSpace
from enas.space import NasBench201
from enas.strategy import Darts
from enas.strategy.relaxation import gumbel
from strategy.one_edge import OneEdge, levels


def test_operations_are_asked_for_in_proportion_to_the_softmax() -> None:
    strategy, space = Darts(NasBench201()), NasBench201()
    shares = torch.tensor([0.1, 0.4, 0.2, 0.05, 0.25])
    strategy.alpha.data.copy_(shares.log().expand(6, 5))
    rows = strategy.ask(1000, generator())
    for place in range(len(space.decisions)):
        counts = torch.bincount(rows[:, place], minlength=5) / 1000
        torch.testing.assert_close(counts, shares, rtol=0, atol=4 * math.sqrt(0.25 / 1000))


def test_a_node_keeps_edges_in_proportion_to_what_is_not_none() -> None:
    """Node 2 of a DARTS cell has two edges and keeps both; node 3 has three and drops the one that is mostly none."""
    space = DartsSpace(2)
    strategy = Darts(space, initial=0.0)
    strategy.alpha.data[4, 0] = 5.0  # node 3 of the normal cell from node 2
    rows = strategy.ask(400, generator())
    places = {decision.name: place for place, decision in enumerate(space.decisions)}
    decision = space.decisions[places["normal/node3/sources"]]
    kept = torch.bincount(rows[:, places[decision.name]], minlength=3) / 400
    assert decision.alternatives[0] == "input0+input1"
    assert kept[0] > 0.85
    equal = Darts(space, initial=0.0).ask(400, generator())
    shares = torch.bincount(equal[:, places[decision.name]], minlength=3) / 400
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), rtol=0, atol=0.1)


def test_what_is_derived_is_the_published_rule_however_often() -> None:
    space = NasBench201()
    strategy = Darts(space, initial=1.0)
    rows = strategy.derive(5, generator())
    assert rows.tolist() == [strategy.alpha.argmax(dim=1).tolist()] * 5


def test_measures_are_of_the_softmax() -> None:
    strategy = Darts(OneEdge())
    strategy.alpha.data.copy_(torch.tensor([[0.5, 0.3, 0.2]]).log())
    found = strategy.measures(0.0)
    assert found["strategy/none_share"].item() == pytest.approx(0.5)
    assert found["strategy/skip_share"].item() == pytest.approx(0.3)
    entropy = -sum(share * math.log(share) for share in (0.5, 0.3, 0.2))
    assert found["strategy/entropy"].item() == pytest.approx(entropy)


def test_gumbel_noise_has_its_mean_and_is_finite() -> None:
    noise = gumbel((20000,), generator(), torch.zeros(()))
    assert torch.isfinite(noise).all()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.04)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, rel=0.1)


@pytest.mark.parametrize("order", [1, 2])
def test_an_update_never_waits_for_the_device(order: int) -> None:
    strategy = Darts(OneEdge(), order=order)  # type: ignore[arg-type]
    problem = levels(lambda w, m, b: (m[0] * w["w"] ** 2).sum(), {"w": torch.ones(3)})
    strategy.update(problem, generator(), 0.0)
    with refuse_synchronisation():
        strategy.update(problem, generator(), 0.0)


def test_a_loss_that_does_not_depend_on_alpha_moves_it_by_decay_alone() -> None:
    strategy = Darts(OneEdge(), order=1, weight_decay=0.0)
    before = strategy.alpha.detach().clone()
    assert strategy.update(levels(lambda w, m, b: w["w"].sum(), {"w": torch.ones(3)}), generator(), 0.0) == 0
    assert torch.equal(strategy.alpha, before)


def test_a_gradient_that_is_not_finite_is_told_when_it_is_asked_for() -> None:
    strategy = Darts(OneEdge(), order=1)
    good = levels(lambda w, m, b: m[0, 0] * w["w"], {"w": torch.ones(())})
    strategy.update(good, generator(), 0.0)
    strategy.check(1)
    strategy.update(levels(lambda w, m, b: m[0, 0] * w["w"] / 0, {"w": torch.ones(())}), generator(), 0.0)
    strategy.update(good, generator(), 0.0)
    with pytest.raises(
        UserError, match="the gradient of the architecture parameters became NaN or infinite in epoch 7;"
    ):
        strategy.check(7)
    assert OneEdge().legal(strategy.ask(3, generator())).all()
