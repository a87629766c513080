"""What is worth trying: the formulas, and several candidates at once."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm

from enas.strategy.acquisition import acquisitions, choose, expected_improvement
from enas.strategy.gaussian_process import Prediction

Floats = NDArray[np.float64]


@pytest.mark.parametrize(("mean", "deviation", "best"), [(0.0, 1.0, 0.5), (2.0, 0.1, 1.0), (-1.0, 0.5, 1.0)])
def test_expected_improvement_is_an_integral(mean: float, deviation: float, best: float) -> None:
    integral, _ = quad(lambda value: (value - best) * norm.pdf(value, mean, deviation), best, mean + 10 * deviation + 5)
    found = expected_improvement(np.array([mean]), np.array([deviation]), best)
    assert found[0] == pytest.approx(integral, abs=1e-7)


def test_the_bound_is_beta_deviations_above_the_mean() -> None:
    bound = acquisitions(2.576)["upper_confidence_bound"]
    assert bound(np.array([1.0, 2.0]), np.array([1.0, 0.5]), 7.0) == pytest.approx([3.576, 3.288])


@pytest.mark.parametrize("name", ["expected_improvement", "upper_confidence_bound"])
def test_chosen_candidates_count_as_estimated(name: str) -> None:
    """As conditioning the belief anew on what was chosen, with the means as values."""
    random = np.random.default_rng(1)
    root, mean, noise, best = random.normal(size=(9, 4)), random.normal(size=9), 0.1, -1.0
    covariance = root @ root.T + 0.01 * np.eye(9)
    acquisition = acquisitions(1.5)[name]
    chosen: list[int] = []
    for _ in range(5):
        shrunk = covariance
        if chosen:
            known = np.linalg.inv(covariance[np.ix_(chosen, chosen)] + noise * np.eye(len(chosen)))
            shrunk = covariance - covariance[:, chosen] @ known @ covariance[chosen]
        worth = acquisition(mean, np.sqrt(np.diag(shrunk)), max([best, *mean[chosen]]))
        worth[chosen] = -np.inf
        chosen.append(int(worth.argmax()))
    before = covariance.copy()
    found = choose(Prediction(mean, covariance), noise, best, 5, acquisition)
    assert found.tolist() == chosen
    assert np.array_equal(covariance, before)
    assert choose(Prediction(mean, covariance), noise, best, 20, acquisition).tolist()[:5] == chosen
    assert sorted(choose(Prediction(mean, covariance), noise, best, 20, acquisition).tolist()) == list(range(9))


def test_what_is_like_a_chosen_candidate_is_put_off() -> None:
    covariance = np.array([[1.0, 0.99, 0.0], [0.99, 1.0, 0.0], [0.0, 0.0, 1.0]])
    prediction = Prediction(np.array([1.0, 0.99, 0.5]), covariance)
    assert choose(prediction, 0.01, 0.0, 2, acquisitions(2.0)["upper_confidence_bound"]).tolist() == [0, 2]
