"""What every estimator must hold: ESTIMATORS, on supernets of both outputs."""

import copy

import pytest
import torch

from conformance import ESTIMATORS, SCALE, TEXT_ESTIMATORS, TEXT_SCALE, generator, toy_data, toy_text
from enas.estimator import Estimator
from enas.space import EnasMicro, EnasRnn, SearchSpace
from enas.supernet import Supernet

DATA, TEXT = toy_data(), toy_text()
SPACES = {"project": EnasMicro(2, "project"), "concat": EnasMicro(2, "concat"), "text": EnasRnn(2)}
CASES = [
    *((space, estimator) for space in ("project", "concat") for estimator in ESTIMATORS),
    *(("text", estimator) for estimator in TEXT_ESTIMATORS),
]


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def space(case: tuple[str, str]) -> SearchSpace:
    return SPACES[case[0]]


@pytest.fixture
def supernet(space: SearchSpace) -> Supernet:
    return Supernet(space, TEXT_SCALE if space.reads == "text" else SCALE, generator(1))


@pytest.fixture
def estimator(case: tuple[str, str], supernet: Supernet) -> Estimator:
    if case[0] == "text":
        return TEXT_ESTIMATORS[case[1]](supernet, TEXT)
    return ESTIMATORS[case[1]](supernet, DATA)


def test_estimates_are_one_entry_a_row(estimator: Estimator, space: SearchSpace) -> None:
    rows = space.random(9, generator())
    estimator.step = 17
    found = estimator.estimate(rows, generator(1))
    assert torch.equal(found.choices, rows)
    for entry in (found.value, found.error, *found.metrics.values()):
        assert entry.shape == (9,)
        assert torch.isfinite(entry).all()
        assert not entry.requires_grad
    assert (found.error > 0).any()
    if space.reads == "text":
        assert (found.metrics["perplexity"] > 1).all()
    else:
        assert ((found.metrics["accuracy"] >= 0) & (found.metrics["accuracy"] <= 1)).all()
    assert (found.metrics["loss"] > 0).all()
    assert found.step == 17
    assert 0 < found.images <= len(TEXT.valid if space.reads == "text" else DATA.valid)


def test_all_rows_of_a_call_see_the_same_images(estimator: Estimator, space: SearchSpace) -> None:
    row = space.random(1, generator())
    for draw in (generator(1), None):
        value = estimator.estimate(row.expand(11, -1), draw).metrics["loss"]
        assert len(value.unique()) == 1


def test_a_row_alone_is_estimated_as_among_ten(estimator: Estimator, space: SearchSpace) -> None:
    rows = space.random(10, generator())
    together = estimator.estimate(rows, generator(1))
    for index in (0, 4, 9):
        alone = estimator.estimate(rows[index, None], generator(1))
        for one, other in zip((alone.value, alone.error), (together.value, together.error), strict=True):
            assert torch.equal(one[0], other[index])
        for name, entry in alone.metrics.items():
            assert torch.equal(entry[0], together.metrics[name][index])


def test_without_a_generator_all_validation_images_are_used(
    estimator: Estimator, space: SearchSpace, case: tuple[str, str]
) -> None:
    rows = space.random(3, generator())
    found = estimator.estimate(rows)
    # Text in columns: of each the first word is not predicted, and what does not fill all columns is left out.
    assert found.images == {"language": 95, "language-loss": 96}.get(case[1], len(DATA.valid))
    assert torch.equal(estimator.estimate(rows).value, found.value)


def test_the_generator_chooses_the_images(estimator: Estimator, space: SearchSpace) -> None:
    rows = space.random(3, generator())
    losses = [estimator.estimate(rows, generator(seed)).metrics["loss"] for seed in (1, 1, 2)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])
    one = generator(1)
    first, second = (estimator.estimate(rows, one).metrics["loss"] for _ in range(2))
    assert not torch.equal(first, second)  # the next comparison is made on other images


def test_estimating_changes_nothing(estimator: Estimator, space: SearchSpace, supernet: Supernet) -> None:
    state = copy.deepcopy(supernet.state_dict())
    random = torch.get_rng_state()
    estimator.estimate(space.random(5, generator()), generator(1))
    estimator.estimate(space.random(5, generator()))
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in supernet.state_dict().items():
        assert torch.equal(value, state[name])
    assert all(parameter.grad is None for parameter in supernet.parameters())
