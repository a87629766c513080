"""How far to trust cheap estimates: rank correlation with accuracy when trained alone, with an interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Correlation(NamedTuple):
    """A rank correlation and its bootstrap percentile interval; NaN where all values are equal."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def kendall(cheap: Sequence[float], alone: Sequence[float], level: float = 0.95, seed: int = 0) -> Correlation:
    """Kendall's tau-b of n pairs; ties count as the definition says."""
    from scipy.stats import kendalltau

    return _bootstrap(lambda x, y: float(kendalltau(x, y).statistic), cheap, alone, level, seed)


def spearman(cheap: Sequence[float], alone: Sequence[float], level: float = 0.95, seed: int = 0) -> Correlation:
    """Spearman's rho of n pairs."""
    from scipy.stats import rankdata

    def rho(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        first, second = rankdata(x), rankdata(y)
        if np.ptp(first) == 0 or np.ptp(second) == 0:
            return math.nan
        return float(np.corrcoef(first, second)[0, 1])

    return _bootstrap(rho, cheap, alone, level, seed)


def _bootstrap(
    statistic: Callable[[NDArray[np.float64], NDArray[np.float64]], float],
    cheap: Sequence[float],
    alone: Sequence[float],
    level: float,
    seed: int,
    rounds: int = 1000,
) -> Correlation:
    """Percentile interval over resampled pairs; those in which all values are equal say nothing and are left out."""
    pairs = np.array([cheap, alone], dtype=np.float64)
    random = np.random.default_rng(seed)
    drawn = random.integers(pairs.shape[1], size=(rounds, pairs.shape[1]))
    values = np.array([statistic(*pairs[:, index]) for index in drawn if np.ptp(pairs[:, index], axis=1).all()])
    if len(values) == 0:
        return Correlation(math.nan, math.nan, math.nan)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Correlation(statistic(pairs[0], pairs[1]), float(low), float(high))
