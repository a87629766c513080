"""What every relaxation must hold on every relaxable space: RELAXATIONS x RELAXABLE_SPACES."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from conformance import RELAXABLE_SPACES, RELAXATIONS, SCALE, SPACES, generator
from enas.errors import UserError
from enas.space import RelaxableSpace
from enas.strategy import Relaxation, Sampler
from enas.strategy.relaxation import Levels

LATE = 0.75
"""A share of the training at which every relaxation learns."""

Make = Callable[[RelaxableSpace], Relaxation]
makes = pytest.mark.parametrize("make", RELAXATIONS.values(), ids=RELAXATIONS)
spaces = pytest.mark.parametrize("space", RELAXABLE_SPACES.values(), ids=RELAXABLE_SPACES)


def loss(weights: Any, mixing: Tensor, batch: Tensor) -> Tensor:
    """Made up: smooth in both, and other on each batch."""
    bent = (torch.tanh(mixing * weights["first"]) * batch).sum()
    return bent + (weights["second"] * mixing.sum(dim=0)).square().mean()


def levels_of(strategy: Relaxation, seed: int = 0) -> Levels:
    shape = strategy.alpha.shape
    first, train, valid = (torch.randn(*shape, generator=generator(3 * seed + place)) for place in range(3))
    weights = {"first": first, "second": torch.ones(shape[1])}
    return Levels(
        loss, weights, train, valid, lambda slopes: ({name: weights[name] - 0.1 * slopes[name] for name in slopes}, 0.1)
    )


def learned(make: Make, space: RelaxableSpace, steps: int = 3) -> Relaxation:
    strategy, random = make(space), generator(1)
    strategy.settle(SCALE)
    for step in range(steps):
        strategy.update(levels_of(strategy, step), random, LATE)
    return strategy


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        for mine, theirs in zip(one, other, strict=True):
            assert_equal(mine, theirs)
    else:
        assert one == other


@makes
@spaces
def test_a_mixing_is_weights_of_all_operations(make: Make, space: RelaxableSpace) -> None:
    strategy = learned(make, space)
    for progress in (0.0, 0.5, 1.0):
        mixing = strategy.mixing(generator(), progress)
        assert mixing.shape == (len(space.edges), len(space.candidates))
        assert mixing.dtype == torch.float32
        assert (mixing >= 0).all()
        assert (mixing.sum(dim=1) <= 1 + 1e-5).all()
        assert mixing.requires_grad
        assert torch.equal(strategy.mixing(generator(), progress), mixing)
        if strategy.hard:
            assert ((mixing == 0) | (mixing == 1)).all()


@makes
@spaces
def test_rows_are_legal(make: Make, space: RelaxableSpace) -> None:
    strategy = learned(make, space)
    for draw in (strategy.ask, strategy.derive):
        for count in (1, 7):
            rows = draw(count, generator())
            assert rows.shape == (count, len(space.decisions))
            assert rows.dtype == torch.int64
            assert space.legal(rows).all()


@makes
@spaces
def test_equal_generators_give_equal_rows(make: Make, space: RelaxableSpace) -> None:
    strategy, twin = learned(make, space), learned(make, space)
    rows = strategy.ask(20, generator(1))
    assert torch.equal(twin.ask(20, generator(1)), rows)
    assert not torch.equal(strategy.ask(20, generator(2)), rows)
    assert len(rows.unique(dim=0)) > 1
    assert torch.equal(twin.derive(3, generator(1)), strategy.derive(3, generator(2)))
    assert len(strategy.derive(3, generator()).unique(dim=0)) == 1


@makes
@spaces
def test_only_updates_change_it_and_only_the_given_generator_is_drawn_from(make: Make, space: RelaxableSpace) -> None:
    random = torch.get_rng_state()
    strategy = learned(make, space)
    before = copy.deepcopy(strategy.state_dict())
    strategy.ask(5, generator())
    strategy.derive(5, generator())
    strategy.mixing(generator(), LATE)
    strategy.measures(LATE)
    strategy.check(1)
    assert_equal(strategy.state_dict(), before)
    strategy.update(levels_of(strategy), generator(), LATE)
    assert not torch.equal(strategy.alpha, before["learned"]["alpha"])
    assert torch.equal(torch.get_rng_state(), random)


@makes
@spaces
def test_learning_goes_down_the_loss(make: Make, space: RelaxableSpace) -> None:
    """Alpha is led to the operation that the loss rewards on each edge."""
    strategy, random = make(space), generator(1)
    strategy.settle(SCALE)
    for group in strategy.optimiser.param_groups:
        group["lr"] = 0.1
    wanted = space.to_mixing(space.random(1, generator(4))[0].tolist())
    weights = {"w": torch.ones(())}

    def reward(weights: Any, mixing: Tensor, batch: Any) -> Tensor:
        return -(mixing * wanted).sum() * weights["w"]

    for _ in range(60):
        levels = Levels(reward, weights, None, None, lambda slopes: (weights, 0.0))
        strategy.update(levels, random, LATE)
    assert torch.equal(strategy.alpha.argmax(dim=1), wanted.argmax(dim=1))


@makes
@spaces
def test_metrics_are_finite_scalars_under_strategy(make: Make, space: RelaxableSpace) -> None:
    strategy = learned(make, space)
    norm = strategy.update(levels_of(strategy), generator(), LATE)
    for tag, value in {**strategy.measures(LATE), "strategy/norm": norm}.items():
        assert tag.startswith("strategy/")
        assert value.shape == ()
        assert not value.requires_grad
        assert torch.isfinite(value)


@makes
@spaces
def test_learning_after_save_and_load_is_learning_without(make: Make, space: RelaxableSpace) -> None:
    strategy, twin, random = learned(make, space), make(space), generator(7)
    twin.settle(SCALE)
    file = io.BytesIO()
    torch.save(strategy.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True))
    position = random.get_state()
    for one in (strategy, twin):
        random.set_state(position)
        for step in range(2):
            one.update(levels_of(one, 5 + step), random, LATE)
    assert_equal(twin.state_dict(), strategy.state_dict())
    assert torch.equal(twin.ask(9, generator()), strategy.ask(9, generator()))


@makes
@spaces
def test_moving_to_the_device_it_is_on_changes_nothing(make: Make, space: RelaxableSpace) -> None:
    strategy, twin = learned(make, space), learned(make, space)
    strategy.to(torch.device("cpu"))
    for one in (strategy, twin):
        one.update(levels_of(one), generator(), LATE)
    assert torch.equal(strategy.alpha, twin.alpha)


@makes
def test_it_is_no_sampler_and_other_spaces_are_refused(make: Make) -> None:
    for space in SPACES.values():
        if not isinstance(space, RelaxableSpace):
            with pytest.raises(UserError, match=f"space {space.name} has no mixture of operations that a gradient"):
                make(space)  # type: ignore[arg-type]
    assert not isinstance(make(RELAXABLE_SPACES["nasbench201"]), Sampler)
