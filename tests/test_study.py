"""Several strategies over seeds: means, intervals, tests, curves; and what a search among many remembers."""

import math

import numpy as np
import pytest
import torch

from enas.architecture import Estimates
from enas.comparison import Comparison, Contender
from enas.draw_curves import draw_curves
from enas.study import Track, curve, summarise, table
from enas.tally import Tally


def track(seed: int, final: float, spent: list[float] | None = None, best: list[float] | None = None) -> Track:
    return Track(seed, spent or [1.0, 3.0], best or [final - 0.1, final], final, 0.002, 1.5, 4.0)


def test_a_mean_its_interval_and_the_margin_over_random() -> None:
    tracks = {
        "random": [track(seed, 0.1 * seed) for seed in range(5)],
        "better": [track(seed, 0.6 + 0.1 * seed) for seed in range(5)],
    }
    better, random = summarise(tracks)
    assert (better.name, random.name) == ("better", "random")
    assert better.mean == pytest.approx(0.8)
    assert better.std == pytest.approx(math.sqrt(0.025))
    assert better.high - better.mean == pytest.approx(2.776 * math.sqrt(0.025 / 5), rel=1e-3)  # t with 4 degrees
    assert better.margin == pytest.approx(0.6)
    assert better.p == pytest.approx(2 / 252)  # of all orders of ten the two most extreme
    assert (random.margin, random.p) == (None, None)
    assert better.seconds == pytest.approx(7.5)


def test_one_search_has_no_interval_and_no_random_no_margin() -> None:
    [own] = summarise({"evolution, strategy.population=5": [track(0, 0.5)]})
    assert (own.mean, own.margin, own.p) == (0.5, None, None)
    assert math.isnan(own.std)
    assert "| evolution, strategy.population=5 | 50.00 |  |  |" in table([own], "accuracy", percent=True)


def test_variants_of_random_are_what_others_are_compared_with() -> None:
    tracks = {"random, a=2": [track(0, 0.5)], "random, a=3": [track(0, 0.1)], "ppo, a=2": [track(0, 0.7)]}
    found = {own.name: own.margin for own in summarise({**tracks, "ppo, a=3": [track(0, 0.6)]})}
    assert (found["ppo, a=2"], found["ppo, a=3"]) == (pytest.approx(0.2), pytest.approx(0.5))
    assert found["random, a=2"] is None


def test_a_curve_holds_the_best_row_until_a_better_one_is_found() -> None:
    values = curve([track(0, 0.5), track(1, 0.9, [2.0], [0.9])], np.array([1.0, 2.0, 3.0, 4.0]))
    np.testing.assert_allclose(values, [[0.4, 0.4, 0.5, 0.5], [math.nan, 0.9, 0.9, 0.9]])


def test_curves_are_drawn_where_every_search_has_found_something() -> None:
    spent = np.array([1.0, 2.0, 3.0])
    values = np.array([[math.nan, 0.5, 0.6], [0.1, 0.3, 0.6]])
    figure = draw_curves({"one": values, "none": np.full((2, 3), math.nan)}, spent, "title", "accuracy")
    [line] = figure.axes[0].lines
    np.testing.assert_allclose(line.get_xdata(), [2, 3])
    np.testing.assert_allclose(line.get_ydata(), [0.4, 0.6])
    [band] = figure.axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    # The first shown values are 0.5 and 0.3: standard deviation 0.1414, of their mean 0.1.
    assert heights.max() == pytest.approx(0.4 + 12.706 * 0.1, rel=1e-4)  # t with one degree of freedom


def estimates(values: list[float], budget: float = 1.0, step: int = 0) -> Estimates:
    value = torch.tensor(values, dtype=torch.float64)
    rows = (100 * value).long().unsqueeze(1)
    return Estimates(rows, value, torch.zeros_like(value), {}, 0, step, budget)


def finished(told: list[Estimates]) -> Tally:
    tally = Tally("accuracy")
    for each in told:
        tally.told(each)
    epoch = {"time/share/strategy": 0.25, "time/epoch_seconds": 2.0}
    for _ in range(2):
        tally.epoch(1, epoch, [], told[0], told[0].choices, 1)
    both = Contender(told[-1], told[-1].top(1))
    tally.finish(Comparison(both, both), None, 3.0, 1)
    return tally


def worth(found: Estimates) -> torch.Tensor:
    """Something else than the estimate."""
    return found.choices[:, 0].double() / 1000


def test_a_tally_keeps_each_row_that_was_better_and_what_it_is_worth() -> None:
    told = [estimates([0.25, 0.5]), estimates([0.99], budget=0.5), estimates([0.4, 0.75])]
    own = finished(told).track(7, worth)
    assert (own.seed, own.spent, own.best) == (7, [1.0, 2.0, 4.5], [0.025, 0.05, 0.075])
    assert (own.final, own.budget, own.seconds) == (0.075, 4.5, 3.0)
    assert own.overhead == pytest.approx(1.0 / 5)


def test_estimates_by_shared_weights_make_no_curve() -> None:
    own = finished([estimates([0.25, 0.5], step=3)]).track(0, worth)
    assert (own.spent, own.best, own.final) == ([], [], 0.05)
