"""Which pairs do not go together: shares of estimates that cannot be divided, mixtures of weights nobody shares."""

import pytest

from conformance import ESTIMATORS, RELAXATIONS, SCALE, STRATEGIES, generator, toy_data
from enas.errors import UserError
from enas.pairing import check_pair
from enas.space import EnasMicro, NasBench201
from enas.supernet import Supernet

SPACE = EnasMicro(2)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_shares_need_an_estimator_that_can_be_divided(strategy: str, estimator: str) -> None:
    sampler = STRATEGIES[strategy](SPACE)
    judge = ESTIMATORS[estimator](Supernet(SPACE, SCALE, generator()), toy_data())
    assert sampler.budgets[-1] == 1.0
    assert sampler.budget in sampler.budgets
    if sampler.budgets != (1.0,) and not judge.divisible:
        with pytest.raises(UserError, match=r"^strategy: \w+ spends a share .* take estimator=scratch"):
            check_pair(sampler, judge)
    elif sampler.budgets != (1.0,):  # the one epoch of this estimator has no shares
        with pytest.raises(UserError, match=r"^estimator.epochs=1: .* 4 at least$"):
            check_pair(sampler, judge)
    else:
        check_pair(sampler, judge)


@pytest.mark.parametrize("strategy", RELAXATIONS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_mixture_needs_shared_weights(strategy: str, estimator: str) -> None:
    space = NasBench201()
    relaxation = RELAXATIONS[strategy](space)
    judge = ESTIMATORS[estimator](Supernet(space, SCALE, generator()), toy_data())
    if judge.weights == "shared":
        check_pair(relaxation, judge)
    else:
        with pytest.raises(UserError, match=r"^strategy: \w+ learns with the shared weights .* take estimator=shared"):
            check_pair(relaxation, judge)
