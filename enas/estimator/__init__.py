"""How good an architecture is: one file a way of finding out."""

from enas.estimator.base import Estimator, Objective, OneShotEstimator, Scores
from enas.estimator.cache import Cached
from enas.estimator.language import Language
from enas.estimator.scratch import Scratch
from enas.estimator.shared import Shared
from enas.estimator.table import Table
from enas.estimator.zero_cost import ZeroCost

__all__ = [
    "Cached",
    "Estimator",
    "Language",
    "Objective",
    "OneShotEstimator",
    "Scores",
    "Scratch",
    "Shared",
    "Table",
    "ZeroCost",
]
