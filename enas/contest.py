"""The end of a search: its candidates and chance's are treated alike."""

from __future__ import annotations

from enas.architecture import Estimates
from enas.comparison import Comparison, Contender
from enas.estimator import Estimator
from enas.space import SearchSpace


def compare(ours: Estimates, theirs: Estimates, rescored: int, space: SearchSpace, estimator: Estimator) -> Comparison:
    """Estimate the `rescored` best rows of each side again, on all validation data; say what else is known of ours."""
    search, random = (
        Contender(sampled, again.top(len(again)))
        for sampled in (ours, theirs)
        for again in [estimator.estimate(_best(sampled, space, rescored).choices)]
    )
    outcome = estimator.outcome(search.rescored.top(1).choices)
    return Comparison(search, random, {name: float(value) for name, value in outcome.items()})


def _best(sampled: Estimates, space: SearchSpace, count: int) -> Estimates:
    return sampled.top(len(sampled)).distinct(space.canonical).top(count)
