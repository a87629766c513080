"""A search beside chance: numbers, margins, verdict and words."""

import math
from collections.abc import Sequence

import pytest
import torch

from conformance import generator
from enas.architecture import Estimates
from enas.comparison import Comparison, Contender
from enas.space import EnasMicro

ROWS = EnasMicro(nodes=2).random(8, generator())


def estimates(first: int, values: Sequence[float], error: float = 0.0, images: int = 10) -> Estimates:
    value = torch.tensor(values, dtype=torch.float64)
    return Estimates(ROWS[first : first + len(values)], value, torch.full_like(value, error), {}, images)


def comparison(best: float = 0.8, error: float = 0.03) -> Comparison:
    search = Contender(estimates(0, [0.5, 0.7, 0.9, 0.7]), estimates(2, [best, 0.7], error, 40))
    random = Contender(estimates(4, [0.4, 0.6, 0.5, 0.5]), estimates(5, [0.6, 0.5], 0.04, 40))
    return Comparison(search, random)


def test_a_contender_in_numbers() -> None:
    assert comparison().search.summary() == pytest.approx(
        {
            "candidates": 4, "images": 10, "mean": 0.7, "std": math.sqrt(0.02), "best": 0.9,
            "rescored": 2, "rescored_images": 40, "rescored_best": 0.8, "rescored_error": 0.03,
        }
    )  # fmt: skip


def test_the_margins_and_their_errors() -> None:
    assert comparison().margins() == pytest.approx(
        {
            "mean_margin": 0.2,
            "mean_margin_error": math.sqrt(0.02 / 4 + 0.005 / 4),
            "best_margin": 0.2,
            "best_margin_error": 0.05,
        }
    )


@pytest.mark.parametrize(
    ("best", "verdict"),
    [
        (0.71, "beats"),
        (0.69, "is not distinguishable from"),
        (0.6, "is not distinguishable from"),
        (0.51, "is not distinguishable from"),
        (0.49, "is beaten by"),
    ],
)
def test_the_verdict_needs_two_standard_errors(best: float, verdict: str) -> None:
    found = comparison(best)
    assert found.verdict() == verdict
    assert f"the search {verdict} its random baseline: best {best - 0.6:+.4f} +- 0.0500" in found.text("accuracy")


def test_the_best_is_the_first_rescored_row() -> None:
    best = comparison().best
    assert torch.equal(best.choices, ROWS[2:3])
    assert (float(best.value), best.images) == (0.8, 40)


def test_the_text_shows_both_sides() -> None:
    [title, search, random, _] = comparison().text("accuracy").splitlines()
    assert title == "accuracy on validation images, with shared weights:"
    assert search == (
        "  search: 4 candidates, mean 0.7000, std 0.1414, best 0.9000 (10 images); "
        "best of 2 estimated again 0.8000 +- 0.0300 (40 images)"
    )
    assert random.startswith("  random: 4 candidates, mean 0.5000, std 0.0707, best 0.6000 (10 images); ")


def test_values_without_an_error_are_compared_by_one_draw_and_it_is_said() -> None:
    ours, theirs = estimates(0, [0.5, 0.7], images=0), estimates(4, [0.4, 0.6], images=0)
    found = Comparison(Contender(ours, ours.top(1)), Contender(theirs, theirs.top(1)), {"test accuracy": 0.25})
    text = found.text("a table's accuracy", basis="none").splitlines()
    assert text[0] == "a table's accuracy, without training:"
    assert text[1] == "  search: 2 candidates, mean 0.6000, std 0.1000, best 0.7000"
    assert text[3] == "  test accuracy of the search's best: 0.2500"
    assert "the search is ahead of its random baseline" in text[4]
    assert "one draw of chance" in text[5]
    same = Comparison(Contender(ours, ours.top(1)), Contender(ours, ours.top(1)))
    assert same.verdict() == "is not distinguishable from"
