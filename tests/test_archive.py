"""The estimates that stay true: what is kept of them, and which is best."""

import io

import pytest
import torch

from conformance import generator
from enas.architecture import Estimates
from enas.archive import Archive
from enas.space import NasBench201

SPACE = NasBench201()


def estimates(rows: list[list[int]], values: list[float], budget: float = 1.0, step: int = 0) -> Estimates:
    value = torch.tensor(values, dtype=torch.float64)
    return Estimates(torch.tensor(rows), value, torch.zeros_like(value), {"accuracy": value}, 3, step, budget)


A, B, C = [3, 3, 3, 3, 3, 3], [2, 2, 2, 2, 2, 2], [1, 1, 1, 1, 1, 1]
DEAD, ALSO_DEAD = [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]  # one function: nothing reads node 1


@pytest.fixture
def archive() -> Archive:
    kept = Archive()
    kept.add(estimates([A, DEAD], [0.5, 0.2]))
    kept.add(estimates([B, A], [0.9, 0.4], budget=0.25))
    kept.add(estimates([C, ALSO_DEAD, B], [0.5, 0.6, 0.3]))
    return kept


def test_the_best_are_full_estimates_of_different_functions(archive: Archive) -> None:
    found = archive.best(3, SPACE.canonical)
    assert found is not None
    assert found.choices.tolist() == [ALSO_DEAD, A, C]
    assert found.value.tolist() == [0.6, 0.5, 0.5]
    whole = archive.best(99, SPACE.canonical)
    assert whole is not None
    assert len(whole) == 4


def test_everything_counts_as_spent(archive: Archive) -> None:
    assert len(archive) == 7
    assert archive.spent == pytest.approx(5.5)


def test_estimates_by_weights_that_were_trained_are_not_kept(archive: Archive) -> None:
    archive.add(estimates([A], [1.0], step=3))
    assert len(archive) == 7


def test_there_is_no_best_without_a_full_estimate() -> None:
    archive = Archive()
    assert archive.best(1, SPACE.canonical) is None
    archive.add(estimates([A], [0.5], budget=0.5))
    assert archive.full() is None


def test_it_is_saved_and_loaded(archive: Archive) -> None:
    file = io.BytesIO()
    torch.save(archive.state_dict(), file)
    file.seek(0)
    other = Archive()
    other.load_state_dict(torch.load(file, weights_only=True))
    mine, theirs = archive.full(), other.full()
    assert mine is not None
    assert theirs is not None
    assert torch.equal(mine.choices, theirs.choices)
    assert torch.equal(mine.metrics["accuracy"], theirs.metrics["accuracy"])
    assert (other.spent, theirs.images) == (archive.spent, 3)


def test_random_rows_of_the_space_are_told_apart() -> None:
    rows = SPACE.random(50, generator())
    archive = Archive()
    archive.add(Estimates(rows, torch.arange(50.0), torch.zeros(50)))
    found = archive.best(50, SPACE.canonical)
    assert found is not None
    assert len(found) == len(SPACE.canonical(rows).unique(dim=0))
