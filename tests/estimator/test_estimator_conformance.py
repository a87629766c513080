"""What every estimator must hold: ESTIMATORS, on supernets of both outputs, and TEXT_ESTIMATORS."""

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
    assert len(found.value.unique()) > 1
    for name, entry in found.metrics.items():
        if name == "perplexity":
            assert (entry > 1).all()
        elif name == "accuracy":
            assert ((entry >= 0) & (entry <= 1)).all()
        elif name == "loss":
            assert (entry > 0).all()
    assert ("loss" in found.metrics) == bool((found.error > 0).any())  # else it has measured nothing on images
    assert found.step == 17
    assert 0 < found.images <= len(TEXT.valid if space.reads == "text" else DATA.valid)


def test_all_rows_of_a_call_see_the_same_images(estimator: Estimator, space: SearchSpace) -> None:
    row = space.random(1, generator())
    for draw in (generator(1), None):
        found = estimator.estimate(row.expand(11, -1), draw)
        for entry in (found.value, *found.metrics.values()):
            assert len(entry.unique()) == 1


def test_a_row_alone_is_estimated_as_among_ten(estimator: Estimator, space: SearchSpace) -> None:
    rows = space.random(10, generator())
    together = estimator.estimate(rows, generator(1))
    for index in (0, 4, 9):
        alone = estimator.estimate(rows[index, None], generator(1))
        for one, other in zip((alone.value, alone.error), (together.value, together.error), strict=True):
            assert torch.equal(one[0], other[index])
        for name, entry in alone.metrics.items():
            assert torch.equal(entry[0], together.metrics[name][index])


def test_without_a_generator_all_images_are_used(
    estimator: Estimator, space: SearchSpace, case: tuple[str, str]
) -> None:
    rows = space.random(3, generator())
    found = estimator.estimate(rows)
    # Text in columns: of each the first word is not predicted, and what does not fill all columns is left out.
    expected = {("text", "language"): 95, ("text", "language-loss"): 96, ("text", "scratch"): 90}
    # Before any training there is nothing to validate: it looks at training images.
    assert found.images == (8 if case[1] == "zero_cost" else expected.get(case, len(DATA.valid)))
    assert torch.equal(estimator.estimate(rows).value, found.value)


def test_the_generator_chooses_the_images(estimator: Estimator, space: SearchSpace) -> None:
    rows = space.random(3, generator())
    values = [estimator.estimate(rows, generator(seed)).value for seed in (1, 1, 2)]
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2]) != estimator.draws
    one = generator(1)
    first, second = (estimator.estimate(rows, one).value for _ in range(2))
    assert torch.equal(first, second) != estimator.draws  # the next comparison is made on other images
    assert torch.equal(one.get_state(), generator(1).get_state()) != estimator.draws


def test_rows_of_one_key_have_one_value(estimator: Estimator, space: SearchSpace) -> None:
    rows = space.random(12, generator())
    keys = estimator.key(rows)
    assert keys.shape == rows.shape
    values = estimator.estimate(torch.cat([rows[:4], keys[:4]])).value
    assert torch.equal(values[:4], values[4:])


def test_a_share_of_an_estimate_is_its_own(estimator: Estimator, space: SearchSpace) -> None:
    found = estimator.estimate(space.random(2, generator()), generator(1), 0.25 if estimator.divisible else 1.0)
    assert found.budget == (0.25 if estimator.divisible else 1.0)


def test_estimating_changes_nothing(estimator: Estimator, space: SearchSpace, supernet: Supernet) -> None:
    state = copy.deepcopy(supernet.state_dict())
    random = torch.get_rng_state()
    estimator.estimate(space.random(5, generator()), generator(1))
    estimator.estimate(space.random(5, generator()))
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in supernet.state_dict().items():
        assert torch.equal(value, state[name])
    assert all(parameter.grad is None for parameter in supernet.parameters())
