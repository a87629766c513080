"""Gaussian process regression against its closed forms."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from enas.strategy.gaussian_process import LENGTHS, NOISES, GaussianProcess, fit

Floats = NDArray[np.float64]
RANDOM = np.random.default_rng(0)
POINTS, NEW = RANDOM.normal(size=(12, 2)), RANDOM.normal(size=(5, 2))
VALUES = 3 + 2 * np.sin(POINTS[:, 0]) + POINTS[:, 1]


def gaussian(one: Floats, other: Floats, length: float = 1.0) -> Floats:
    found: Floats = np.exp(-((one[:, None] - other) ** 2).sum(axis=2) / (2 * length**2))
    return found


@pytest.mark.parametrize("noise", [1e-3, 0.3])
def test_the_posterior_is_the_closed_form(noise: float) -> None:
    process = GaussianProcess(gaussian(POINTS, POINTS), VALUES, noise)
    prediction = process.predict(gaussian(NEW, POINTS), gaussian(NEW, NEW))
    standardised = (VALUES - VALUES.mean()) / VALUES.std()
    inverse = np.linalg.inv(gaussian(POINTS, POINTS) + noise * np.eye(12))
    mean = VALUES.mean() + VALUES.std() * gaussian(NEW, POINTS) @ inverse @ standardised
    signal = VALUES.var() * (standardised @ inverse @ standardised) / 12
    covariance = signal * (gaussian(NEW, NEW) - gaussian(NEW, POINTS) @ inverse @ gaussian(POINTS, NEW))
    assert np.allclose(prediction.mean, mean)
    assert np.allclose(prediction.covariance, covariance)
    assert process.noise_variance == pytest.approx(noise * signal)
    known = process.predict(gaussian(POINTS, POINTS), gaussian(POINTS, POINTS))
    assert np.allclose(process.fitted(), known.mean)


def test_the_likelihood_is_that_of_a_normal_at_the_likeliest_variance() -> None:
    covariance = gaussian(POINTS, POINTS) + 0.1 * np.eye(12)
    standardised = (VALUES - VALUES.mean()) / VALUES.std()

    def likelihood(variance: float) -> float:
        return float(multivariate_normal(np.zeros(12), variance * covariance).logpdf(standardised))

    process = GaussianProcess(gaussian(POINTS, POINTS), VALUES, 0.1)
    signal = process.noise_variance / 0.1 / VALUES.var()
    assert process.log_likelihood == pytest.approx(likelihood(signal))
    assert process.log_likelihood > max(likelihood(0.9 * signal), likelihood(1.1 * signal))


@pytest.mark.parametrize(("length", "noise"), [(0.5, 1e-3), (2.0, 0.1)])
def test_the_fit_is_the_likeliest_of_all(length: float, noise: float) -> None:
    points = RANDOM.normal(size=(120, 2)) * 2
    covariance = gaussian(points, points, length)
    values = np.linalg.cholesky(covariance + noise * np.eye(120)) @ RANDOM.normal(size=120)
    found: Callable[[float], Floats] = lambda tried: gaussian(points, points, tried)  # noqa: E731
    assert fit(found, values) == (length, noise)
    likelihoods = {
        (one, other): GaussianProcess(found(one), values, other).log_likelihood for one in LENGTHS for other in NOISES
    }
    assert max(likelihoods, key=lambda pair: likelihoods[pair]) == (length, noise)


@pytest.mark.parametrize("values", [np.array([2.0]), np.full(3, 2.0)])
def test_values_without_spread_are_believed(values: Floats) -> None:
    covariance = np.full((len(values), len(values)), 1.0)  # of one row told again and again
    process = GaussianProcess(covariance, values, 1e-3)
    prediction = process.predict(np.full((1, len(values)), 0.5), np.ones((1, 1)))
    assert prediction.mean == pytest.approx(2.0)
    assert np.isfinite(process.log_likelihood)
    assert fit(lambda _: covariance, values)[0] in LENGTHS
