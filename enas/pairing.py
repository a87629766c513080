"""Which strategies and estimators go together."""

from __future__ import annotations

from enas.errors import UserError
from enas.estimator import Estimator
from enas.strategy import Sampler, Strategy


def check_pair(strategy: Strategy, estimator: Estimator) -> None:
    """Raise UserError, one sentence, where the two cannot go together.

    A sampler that asks for less than full estimates needs an estimator that has them; every other goes with all. A
    relaxation mixes the weights of a supernet, and needs an estimator that reads those.
    """
    if not isinstance(strategy, Sampler):
        if estimator.weights != "shared":
            raise UserError(
                f"strategy: {type(strategy).__name__} learns with the shared weights that it mixes; take "
                "estimator=shared and data of images, or a strategy that samples rows"
            )
    elif strategy.budgets != (1.0,) and not estimator.divisible:
        raise UserError(
            f"strategy: {type(strategy).__name__} spends a share of a full estimate on most rows, and the estimates of "
            f"{type(estimator).__name__} cannot be divided; take estimator=scratch, or another strategy"
        )
    else:
        estimator.check_budgets(strategy.budgets)
