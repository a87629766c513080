"""How good an architecture is: one file a way of finding out."""

from enas.estimator.base import Estimator, Objective, OneShotEstimator, Scores
from enas.estimator.language import Language
from enas.estimator.shared import Shared
from enas.estimator.table import Table

__all__ = ["Estimator", "Language", "Objective", "OneShotEstimator", "Scores", "Shared", "Table"]
