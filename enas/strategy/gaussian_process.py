"""Gaussian process regression (Rasmussen and Williams 2006, algorithm 2.1 and chapter 5) on given covariances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from enas.strategy.architecture_graph import Floats

LENGTHS = tuple(2.0**power for power in range(-2, 6))
"""The length scales that are tried, in units of the distance."""
NOISES = (1e-3, 1e-2, 1e-1, 1.0)
"""The variances of noise that are tried, in units of the signal's variance. The least is also what keeps the matrix of
equal rows invertible."""


class Prediction(NamedTuple):
    """What is believed of m values: mean [m] and covariance [m, m], without noise."""

    mean: Floats
    covariance: Floats


class GaussianProcess:
    """Conditioned on values [n] of inputs with `covariance` [n, n], whose diagonal is 1.

    Values are standardised, so that the prior mean is theirs. `noise` is the variance of their noise in units of the
    signal's variance, which is the most likely one.
    """

    def __init__(self, covariance: Floats, values: Floats, noise: float):
        self._centre = values.mean()
        self._spread = max(float(values.std()), 1e-12)
        self._noise = noise
        self._standardised = (values - self._centre) / self._spread
        self._factor = np.linalg.cholesky(covariance + noise * np.eye(len(values)))
        self._whitened = self._solve(self._standardised)
        self._variance = max(float(self._whitened @ self._whitened) / len(values), 1e-12)

    def _solve(self, right: Floats, transposed: bool = False) -> Floats:
        from scipy.linalg import solve_triangular

        found: Floats = solve_triangular(self._factor, right, lower=True, trans=int(transposed), check_finite=False)
        return found

    @property
    def log_likelihood(self) -> float:
        """Of the standardised values, in nats, at the most likely variance of the signal."""
        count = len(self._standardised)
        determinant = 2 * np.log(np.diag(self._factor)).sum()
        return float(-0.5 * (count * np.log(2 * np.pi * self._variance) + determinant + count))

    @property
    def noise_variance(self) -> float:
        """The variance of the noise, in units of the values squared."""
        return self._noise * self._variance * self._spread**2

    def fitted(self) -> Floats:
        """The posterior means [n] of the inputs it is conditioned on."""
        weights = self._solve(self._whitened, transposed=True)
        found: Floats = self._centre + self._spread * (self._standardised - self._noise * weights)
        return found

    def predict(self, across: Floats, own: Floats) -> Prediction:
        """The values of m inputs with covariances `across` [m, n] to the known ones and `own` [m, m] among them."""
        half = self._solve(across.T)
        mean = self._centre + self._spread * (half.T @ self._whitened)
        return Prediction(mean, self._spread**2 * self._variance * (own - half.T @ half))


def fit(
    covariance: Callable[[float], Floats],
    values: Floats,
    lengths: Sequence[float] = LENGTHS,
    noises: Sequence[float] = NOISES,
) -> tuple[float, float]:
    """The length scale and the noise of the highest marginal likelihood; `covariance(length)` is [n, n]."""
    found, most = (lengths[0], noises[0]), -np.inf
    for length in lengths:
        matrix = covariance(length)
        for noise in noises:
            likelihood = GaussianProcess(matrix, values, noise).log_likelihood
            if likelihood > most:
                found, most = (length, noise), likelihood
    return found
