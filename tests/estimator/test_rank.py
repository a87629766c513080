"""Rank correlations against pairs counted by hand, and their intervals."""

import math
from itertools import combinations

import pytest

from enas.estimator.rank import Correlation, kendall, spearman

CHEAP = [0.1, 0.4, 0.3, 0.8, 0.5, 0.9, 0.2, 0.6]
ALONE = [0.2, 0.3, 0.5, 0.7, 0.6, 0.8, 0.1, 0.4]


def test_kendall_counts_pairs() -> None:
    signs = [math.copysign(1, (a - c) * (b - d)) for (a, b), (c, d) in combinations(zip(CHEAP, ALONE, strict=True), 2)]
    assert kendall(CHEAP, ALONE).value == pytest.approx(sum(signs) / len(signs))


def test_spearman_correlates_ranks() -> None:
    ranks = [[sorted(values).index(value) for value in values] for values in (CHEAP, ALONE)]
    squares = sum((one - other) ** 2 for one, other in zip(*ranks, strict=True))
    assert spearman(CHEAP, ALONE).value == pytest.approx(1 - 6 * squares / (8 * 63))


@pytest.mark.parametrize("correlation", [kendall, spearman])
def test_order_is_all_that_counts(correlation) -> None:  # type: ignore[no-untyped-def]
    exponentials = [math.exp(value) for value in CHEAP]
    assert correlation(exponentials, ALONE).value == pytest.approx(correlation(CHEAP, ALONE).value)
    assert correlation(CHEAP, CHEAP) == pytest.approx((1, 1, 1))
    assert correlation(CHEAP, [-value for value in CHEAP]) == pytest.approx((-1, -1, -1))


@pytest.mark.parametrize("correlation", [kendall, spearman])
def test_the_interval_holds_the_value_and_follows_from_the_seed(correlation) -> None:  # type: ignore[no-untyped-def]
    found = correlation(CHEAP, ALONE)
    assert -1 <= found.low < found.value < found.high <= 1
    assert correlation(CHEAP, ALONE) == found
    narrower = correlation(CHEAP, ALONE, level=0.5)
    assert found.low < narrower.low < narrower.high < found.high


@pytest.mark.parametrize("correlation", [kendall, spearman])
def test_equal_values_have_no_order(correlation) -> None:  # type: ignore[no-untyped-def]
    assert all(map(math.isnan, correlation([0.5] * 4, [1.0, 2.0, 3.0, 4.0])))


def test_a_correlation_is_printed_with_its_interval() -> None:
    assert str(Correlation(0.456, -0.1, 0.789)) == "0.46 [-0.10, 0.79]"
