"""The controller: a distribution over rows, the published one on the published space, and what its settings do."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from conformance import PUBLISHED_SETTINGS, Growing, generator
from enas.errors import UserError
from enas.space import EnasMicro, SearchSpace
from enas.strategy.controller import Controller
from strategy.written_out import Skipping, published_log_probability, skipping_scores
from tolerances import PUBLISHED, assert_same, probability


class TwoLayers(Growing):
    layers = 2


SINGLE = EnasMicro(1)


def controller(
    space: SearchSpace, hidden: int = 8, seed: int = 0, sharpened: float = 1.0, **settings: Any
) -> Controller:
    """In float64; `sharpened` multiplies the weights, so that the policy is far from uniform."""
    parts = {name: settings.pop(name, {}) for name in ("temperature", "bound", "initial_bias", "prior")}
    made = Controller(space, hidden, **parts, generator=generator(seed), **settings).double()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if not name.startswith("bias"):
                parameter.mul_(sharpened)
    return made


def every_row(space: SearchSpace) -> Tensor:
    rows = torch.tensor(list(product(*(range(len(decision.alternatives)) for decision in space.decisions))))
    return rows[space.legal(rows)]


def share(rows: Tensor, weight: Tensor, space: SearchSpace, name: str) -> Tensor:
    """Probability of each alternative of one decision: float64 [A]."""
    place = next(place for place, decision in enumerate(space.decisions) if decision.name == name)
    shares = torch.zeros(len(space.decisions[place].alternatives), dtype=torch.float64)
    return shares.index_add(0, rows[:, place], weight)


@pytest.mark.parametrize("space", [SINGLE, TwoLayers()], ids=["enas_micro", "growing"])
def test_the_probabilities_of_all_rows_sum_to_one(space: SearchSpace) -> None:
    rows = every_row(space)
    with torch.no_grad():
        policy = controller(space, sharpened=20.0).evaluate(rows)
    total = policy.log_probability.exp()
    assert_same(total.sum(), torch.ones((), dtype=torch.float64))
    assert float(total.max()) > 5 / len(rows)  # far from uniform
    assert torch.equal(policy.choices, rows)
    # By the chain rule the expectation of the summed entropies is the entropy of the row.
    assert_same((total * policy.entropy).sum(), -(total * policy.log_probability).sum())


@pytest.mark.parametrize("space", [SINGLE, TwoLayers()], ids=["enas_micro", "growing"])
def test_rows_are_as_frequent_as_they_are_probable(space: SearchSpace) -> None:
    made = controller(space, sharpened=20.0)
    draws = 20_000
    sampled = made.sample(draws, generator(1))
    rows = every_row(space)
    with torch.no_grad():
        weight = made.evaluate(rows).log_probability.exp()
    for one, other in product(range(len(space.decisions)), repeat=2):  # pairs: later choices follow earlier ones
        size = len(space.decisions[other].alternatives)
        count = len(space.decisions[one].alternatives) * size
        expected = torch.zeros(count, dtype=torch.float64).index_add(0, rows[:, one] * size + rows[:, other], weight)
        found = torch.bincount(sampled[:, one] * size + sampled[:, other], minlength=count) / draws
        assert float((found - expected).abs().max()) < probability(draws)


def test_an_absent_node_counts_in_nothing() -> None:
    space = TwoLayers()
    made = controller(space, sharpened=20.0)
    rows = every_row(space)
    operation = next(place for place, d in enumerate(space.decisions) if d.name == "layer0/operation")
    absent = rows[rows[:, operation] == 0]
    assert len(absent) == 2  # the two widths
    with torch.no_grad():
        policy = made.evaluate(absent)
        total = made.evaluate(rows).log_probability.exp()
    width = share(rows, total, space, "width")
    chosen = share(rows, total, space, "layer0/operation")[0]
    assert_same(policy.log_probability.exp().sum(), chosen)
    assert (policy.log_probability.exp() < width).all()
    assert (policy.entropy <= math.log(2) + math.log(4)).all()  # of the width and the operation only


@pytest.mark.parametrize("nodes", [1, 3])
def test_on_enas_micro_it_is_the_published_controller(nodes: int) -> None:
    space = EnasMicro(nodes)
    bounds = {"source": 1.1, "operation": 0.44}
    made = controller(space, sharpened=20.0, bound=bounds, initial_bias={"operation": [0.3, 0.1, 0.0, -0.2, 0.0]})
    rows = space.random(5, generator(2))
    expected = [published_log_probability(made, row, nodes, bounds) for row in rows.tolist()]
    assert_same(made.evaluate(rows).log_probability.detach(), torch.tensor(expected, dtype=torch.float64))


def test_skips_are_sampled_together_and_averaged() -> None:
    space = Skipping()
    made = controller(space, sharpened=20.0, skip_target=0.4)
    rows = every_row(space)
    assert len(rows) == 2**6
    expected = torch.tensor([skipping_scores(made, row, 0.4) for row in rows.tolist()], dtype=torch.float64)
    policy = made.evaluate(rows)
    assert_same(policy.log_probability.detach(), expected[:, 0])
    assert_same(policy.skip_divergence.detach(), expected[:, 1])
    assert float(expected[:, 1].min()) > 0.1


def test_without_a_target_skips_diverge_from_nothing() -> None:
    policy = controller(Skipping(), sharpened=20.0).evaluate(every_row(Skipping()))
    assert (policy.skip_divergence == 0).all()


@pytest.mark.parametrize("target", [-0.1, 1.0, float("nan")])
def test_a_target_is_a_probability(target: float) -> None:
    with pytest.raises(
        UserError, match=r"strategy\.skip_target=.*allowed is more than 0, or 0 for none, and less than 1"
    ):
        controller(SINGLE, skip_target=target)


def test_published_settings_give_the_published_first_probabilities() -> None:
    settings = {name: PUBLISHED_SETTINGS[name] for name in ("bound", "initial_bias", "prior")}
    rows = every_row(SINGLE)
    with torch.no_grad():
        weight = controller(SINGLE, hidden=64, **settings).evaluate(rows).log_probability.exp()
    for side in ("left", "right"):
        normal = share(rows, weight, SINGLE, f"normal/node2/{side}/operation").tolist()
        reduction = share(rows, weight, SINGLE, f"reduction/node2/{side}/operation").tolist()
        assert normal == pytest.approx([0.315, 0.315, 0.123, 0.123, 0.123], abs=PUBLISHED)
        assert reduction == pytest.approx([0.254, 0.254, 0.164, 0.164, 0.164], abs=PUBLISHED)


def operations(**settings: Any) -> list[float]:
    """Probabilities of the first operation of the normal cell, from a start of almost equal logits."""
    rows = every_row(SINGLE)
    with torch.no_grad():
        weight = controller(SINGLE, **settings).evaluate(rows).log_probability.exp()
    return share(rows, weight, SINGLE, "normal/node2/left/operation").tolist()


def softmax(*logits: float) -> list[float]:
    return torch.tensor(logits, dtype=torch.float64).softmax(0).tolist()


BIAS = {"operation": [5.0, 0.0, 0.0, 0.0, 0.0]}
SECOND = [0.0, 1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("settings", "logits"),
    [
        ({}, [0, 0, 0, 0, 0]),
        ({"initial_bias": BIAS}, [5, 0, 0, 0, 0]),
        ({"initial_bias": BIAS, "temperature": {"operation": 5.0}}, [1, 0, 0, 0, 0]),
        ({"initial_bias": BIAS, "bound": {"operation": 2.0}}, [2 * math.tanh(5), 0, 0, 0, 0]),
        (
            {"initial_bias": BIAS, "temperature": {"operation": 5.0}, "bound": {"operation": 2.0}},
            [2 * math.tanh(1), 0, 0, 0, 0],
        ),
        (
            {"initial_bias": BIAS, "bound": {"operation": 2.0}, "prior": {"normal/*/operation": SECOND}},
            [2 * math.tanh(5), 1, 0, 0, 0],
        ),
        ({"initial_bias": BIAS, "temperature": {"source": 5.0}, "bound": {"source": 2.0}}, [5, 0, 0, 0, 0]),
        ({"prior": {"normal/*/operation": SECOND, "*/left/operation": SECOND}}, [0, 2, 0, 0, 0]),
        ({"prior": {"reduction/*/operation": SECOND}}, [0, 0, 0, 0, 0]),
    ],
    ids=["none", "bias", "temperature", "bound", "both", "prior", "other kind", "two priors", "other cell"],
)
def test_settings_do_to_the_logits_what_they_say(settings: dict[str, Any], logits: list[float]) -> None:
    assert operations(**settings) == pytest.approx(softmax(*logits), abs=PUBLISHED)


def test_a_bound_holds_however_large_the_weights() -> None:
    low, high = min(operations(sharpened=1e4, bound={"operation": 0.44})), math.exp(0.44)
    assert low >= (1 / high) / (4 * high + 1 / high) - PUBLISHED
    assert max(operations(sharpened=1e4, bound={"operation": 0.44})) <= high / (high + 4 / high) + PUBLISHED


def test_a_prior_is_not_trained_and_an_initial_bias_is() -> None:
    prior = {"normal/*/operation": [0.25, 0.25, -0.25, -0.25, -0.25]}
    made = controller(SINGLE, prior=prior, initial_bias={"operation": [1, 2, 3, 4, 5]})
    assert made.bias["operation"].tolist() == [1, 2, 3, 4, 5]
    plain = controller(SINGLE, initial_bias={"operation": [1, 2, 3, 4, 5]})
    assert [name for name, _ in made.named_parameters()] == [name for name, _ in plain.named_parameters()]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"initial_bias": {"operations": [0] * 5}}, r"strategy.initial_bias.operations=.*operation \(5 values\)"),
        ({"initial_bias": {"operation": [0, 1]}}, r"initial_bias.operation=\[0, 1\]: allowed are operation \(5"),
        ({"prior": {"normal/*/operation": [1, 2]}}, "prior.*needs 5 values"),
        ({"prior": {"norm/*": [1, 2]}}, r"strategy.prior.norm/\*: no decision of space enas_micro"),
        ({"temperature": {"operations": 5.0}}, r"strategy.temperature.operations=5.0: allowed is a number above 0"),
        ({"temperature": {"operation": 0.0}}, "strategy.temperature.operation=0.0"),
        ({"bound": {"source": -1.0}}, "strategy.bound.source=-1.0"),
        ({"bound": {"index": 1.0}}, "strategy.bound.index=1.0: .* operation, source, skip"),
        ({"bound": {"source": "high"}}, "strategy.bound.source=high"),
    ],
)
def test_settings_that_fit_nothing_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        controller(SINGLE, **settings)


def test_initial_weights_are_small_and_follow_from_the_seed() -> None:
    one, same, other = (Controller(SINGLE, 8, {}, {}, {}, {}, generator(seed)) for seed in (1, 1, 2))
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, same.get_parameter(name))
        assert float(parameter.detach().abs().max()) <= 0.1
    assert not torch.equal(one.recurrent, other.recurrent)
