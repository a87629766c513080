"""Which strategies and estimators go together."""

from __future__ import annotations

from enas.errors import UserError
from enas.estimator import Estimator
from enas.strategy import Sampler


def check_pair(sampler: Sampler, estimator: Estimator) -> None:
    """Raise UserError, one sentence, where `sampler` asks for less than full estimates and `estimator` has no others.

    Every other sampler goes with every estimator.
    """
    if sampler.divides and not estimator.divisible:
        raise UserError(
            f"strategy: {type(sampler).__name__} spends a share of a full estimate on most rows, and the estimates of "
            f"{type(estimator).__name__} cannot be divided; take estimator=scratch, or another strategy"
        )
