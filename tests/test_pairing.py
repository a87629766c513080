"""A sampler that spends shares of estimates needs an estimator that can give them; every other pair goes together."""

import pytest

from conformance import ESTIMATORS, SCALE, STRATEGIES, generator, toy_data
from enas.errors import UserError
from enas.pairing import check_pair
from enas.space import EnasMicro
from enas.supernet import Supernet

SPACE = EnasMicro(2)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_shares_need_an_estimator_that_can_be_divided(strategy: str, estimator: str) -> None:
    sampler = STRATEGIES[strategy](SPACE)
    judge = ESTIMATORS[estimator](Supernet(SPACE, SCALE, generator()), toy_data())
    assert sampler.divides or sampler.budget == 1.0
    if sampler.divides and not judge.divisible:
        with pytest.raises(UserError, match=r"^strategy: \w+ spends a share .* take estimator=scratch"):
            check_pair(sampler, judge)
    else:
        check_pair(sampler, judge)
