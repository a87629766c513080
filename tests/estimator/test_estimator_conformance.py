"""What every estimator must hold: ESTIMATORS, on supernets of both outputs."""

import copy

import pytest
import torch

from conformance import ESTIMATORS, SCALE, generator, toy_data
from enas.data import DataSet
from enas.estimator import Estimator
from enas.space import EnasMicro
from enas.supernet import Supernet

DATA = toy_data()


@pytest.fixture(params=["project", "concat"])
def space(request: pytest.FixtureRequest) -> EnasMicro:
    return EnasMicro(2, request.param)


@pytest.fixture
def supernet(space: EnasMicro) -> Supernet:
    return Supernet(space, SCALE, generator(1))


@pytest.fixture
def data() -> DataSet:
    return DATA


@pytest.fixture(params=ESTIMATORS)
def estimator(request: pytest.FixtureRequest, supernet: Supernet, data: DataSet) -> Estimator:
    return ESTIMATORS[request.param](supernet, data)


def test_estimates_are_one_entry_a_row(estimator: Estimator, space: EnasMicro) -> None:
    rows = space.random(9, generator())
    estimator.step = 17
    found = estimator.estimate(rows, generator(1))
    assert torch.equal(found.choices, rows)
    for entry in (found.value, found.error, *found.metrics.values()):
        assert entry.shape == (9,)
        assert torch.isfinite(entry).all()
        assert not entry.requires_grad
    assert (found.error > 0).any()
    assert {"accuracy", "loss"} <= found.metrics.keys()
    assert ((found.metrics["accuracy"] >= 0) & (found.metrics["accuracy"] <= 1)).all()
    assert (found.metrics["loss"] > 0).all()
    assert found.step == 17
    assert 0 < found.images <= len(DATA.valid)


def test_all_rows_of_a_call_see_the_same_images(estimator: Estimator, space: EnasMicro) -> None:
    row = space.random(1, generator())
    for draw in (generator(1), None):
        value = estimator.estimate(row.expand(11, -1), draw).metrics["loss"]
        assert len(value.unique()) == 1


def test_a_row_alone_is_estimated_as_among_ten(estimator: Estimator, space: EnasMicro) -> None:
    rows = space.random(10, generator())
    together = estimator.estimate(rows, generator(1))
    for index in (0, 4, 9):
        alone = estimator.estimate(rows[index, None], generator(1))
        for one, other in zip((alone.value, alone.error), (together.value, together.error), strict=True):
            assert torch.equal(one[0], other[index])
        for name, entry in alone.metrics.items():
            assert torch.equal(entry[0], together.metrics[name][index])


def test_without_a_generator_all_validation_images_are_used(estimator: Estimator, space: EnasMicro) -> None:
    rows = space.random(3, generator())
    found = estimator.estimate(rows)
    assert found.images == len(DATA.valid) == 30
    assert torch.equal(estimator.estimate(rows).value, found.value)


def test_the_generator_chooses_the_images(estimator: Estimator, space: EnasMicro) -> None:
    rows = space.random(3, generator())
    losses = [estimator.estimate(rows, generator(seed)).metrics["loss"] for seed in (1, 1, 2)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])
    one = generator(1)
    first, second = (estimator.estimate(rows, one).metrics["loss"] for _ in range(2))
    assert not torch.equal(first, second)  # the next comparison is made on other images


def test_estimating_changes_nothing(estimator: Estimator, space: EnasMicro, supernet: Supernet) -> None:
    state = copy.deepcopy(supernet.state_dict())
    random = torch.get_rng_state()
    estimator.estimate(space.random(5, generator()), generator(1))
    estimator.estimate(space.random(5, generator()))
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in supernet.state_dict().items():
        assert torch.equal(value, state[name])
    assert all(parameter.grad is None for parameter in supernet.parameters())
