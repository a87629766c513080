"""How much an architecture is worth trying, by what is believed of its value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from enas.strategy.architecture_graph import Floats, Integers
from enas.strategy.gaussian_process import Prediction

Acquisition = Callable[[Floats, Floats, float], Floats]
"""Of means [m], standard deviations [m] and the best value so far: worths [m], higher is better."""


def expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """The expectation of what a value is above the best one, or else 0 (Mockus 1978; Jones et al. 1998)."""
    from scipy.special import ndtr

    distance = (mean - best) / deviation
    density = np.exp(-(distance**2) / 2) / (2 * np.pi) ** 0.5
    found: Floats = deviation * (distance * ndtr(distance) + density)
    return found


def upper_confidence_bound(mean: Floats, deviation: Floats, best: float, beta: float) -> Floats:
    """`beta` standard deviations above the mean (Auto-Keras: 2.576, the upper end of a 99 % interval)."""
    return mean + beta * deviation


def acquisitions(beta: float) -> Mapping[str, Acquisition]:
    """By their names."""
    return {
        "expected_improvement": expected_improvement,
        "upper_confidence_bound": partial(upper_confidence_bound, beta=beta),
    }


def choose(prediction: Prediction, noise: float, best: float, count: int, acquisition: Acquisition) -> Integers:
    """The places of `count` of m candidates, to be estimated at once, best first: int64 [count].

    By hallucination (NASBOT; Desautels et al. 2014): a chosen candidate counts as estimated, its value being the mean.
    So means stay and variances shrink. `noise` is the variance that a value will have beside that of the belief.
    """
    mean, covariance = prediction.mean, prediction.covariance.copy()
    left = np.ones(len(mean), dtype=np.bool_)
    chosen: list[int] = []
    for _ in range(min(count, len(mean))):
        deviation = np.sqrt(np.maximum(np.diag(covariance), 1e-18))
        place = int(np.where(left, acquisition(mean, deviation, best), -np.inf).argmax())
        chosen.append(place)
        left[place] = False
        best = max(best, float(mean[place]))
        own = covariance[:, place] / (max(covariance[place, place], 0.0) + noise)
        covariance -= np.outer(own, covariance[place])
    return np.array(chosen, dtype=np.int64)
