"""Learning rates by epoch."""

from typing import Any

import pytest

from enas.errors import UserError
from enas.schedule import Cosine


def test_restarts_are_the_published_ones() -> None:
    """Cycles of 10, 20, 40 and 80 epochs fill the 150 of the published search."""
    schedule = Cosine(0.05, 0.0005, period=10, multiplier=2)
    rates = [schedule.rate(epoch, 150) for epoch in range(150)]
    assert [epoch for epoch, rate in enumerate(rates) if rate == 0.05] == [0, 10, 30, 70]
    for start, length in ((0, 10), (10, 20), (30, 40), (70, 80)):
        cycle = rates[start : start + length]
        assert cycle == sorted(cycle, reverse=True)
        assert cycle[length // 2] == pytest.approx((0.05 + 0.0005) / 2)
        assert 0.0005 < cycle[-1] < 0.0005 + 0.05 / length
    assert schedule.rate(150, 150) == 0.05  # a longer run would begin the fifth cycle


def test_restarts_do_not_depend_on_the_length_of_the_run() -> None:
    schedule = Cosine(0.1, period=3)
    assert [schedule.rate(epoch, 9) for epoch in range(9)] == [schedule.rate(epoch, 99) for epoch in range(9)]


def test_equal_cycles() -> None:
    schedule = Cosine(1.0, 0.0, period=4, multiplier=1)
    assert [schedule.rate(epoch, 12) for epoch in range(4)] * 3 == [schedule.rate(epoch, 12) for epoch in range(12)]


def test_one_cycle_over_all_epochs() -> None:
    schedule = Cosine(0.4, 0.1)
    assert [schedule.rate(epoch, 4) for epoch in (0, 2, 4)] == pytest.approx([0.4, 0.25, 0.1])
    assert schedule.rate(0, 1) == 0.4


@pytest.mark.parametrize("period", [None, 6])
def test_a_warm_up_rises_to_the_first_cycle(period: int | None) -> None:
    schedule = Cosine(0.4, 0.0, period=period, warmup=3)
    rates = [schedule.rate(epoch, 9) for epoch in range(9)]
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates[3:] == pytest.approx([Cosine(0.4, 0.0, period=6).rate(epoch, 6) for epoch in range(6)])


def test_a_warm_up_may_be_longer_than_the_run() -> None:
    assert [Cosine(0.4, warmup=9).rate(epoch, 2) for epoch in range(2)] == pytest.approx([0.04, 0.08])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"period": 0}, r"train\.rate\.period=0: allowed is 1 or more"),
        ({"multiplier": 0}, r"train\.rate\.multiplier=0: allowed is 1 or more"),
        ({"warmup": -1}, r"train\.rate\.warmup=-1: allowed is 0 or more"),
        ({"minimum": -0.1}, r"train\.rate\.minimum=-0\.1"),
        ({"maximum": 0.1, "minimum": 0.2}, r"train\.rate\.minimum=0\.2: allowed is 0 to train\.rate\.maximum=0\.1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Cosine(**settings)
