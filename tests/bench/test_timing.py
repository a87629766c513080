"""Alternation, ratios and intervals, by a clock that the test moves."""

import gc
import math

import pytest

from enas.bench.timing import WARM_UP, Samples, alternate, geometric_mean, median, ratios


class Clock:
    """Seconds that pass only when somebody works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[tuple[str, int]] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, *seconds: float) -> "Worker":
        return Worker(self, name, seconds)


class Worker:
    """Takes its seconds by iteration, the last ones again and again."""

    def __init__(self, clock: Clock, name: str, seconds: tuple[float, ...]):
        self.clock, self.name, self.seconds = clock, name, seconds

    def __call__(self, iteration: int) -> None:
        self.clock.done.append((self.name, iteration))
        self.clock.now += self.seconds[min(iteration, len(self.seconds) - 1)]


def test_sides_take_turns_and_the_order_rotates() -> None:
    clock = Clock()
    sides = {name: clock.work(name, 1.0) for name in "abc"}
    alternate(sides, 3, clock=clock)
    warm_up, counted = clock.done[: 3 * WARM_UP], clock.done[3 * WARM_UP :]
    assert warm_up == [(name, iteration) for iteration in range(WARM_UP) for name in "abc"]
    assert "".join(name for name, _ in counted) == "abc" + "bca" + "cab"
    assert [iteration for _, iteration in counted] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_fast_side_is_called_several_times_a_stretch() -> None:
    clock = Clock()
    samples = alternate({"fast": clock.work("fast", 0.25), "slow": clock.work("slow", 3.0)}, 2, clock=clock, shortest=1)
    counted = clock.done[2 * WARM_UP :]
    assert [name for name, _ in counted] == ["fast"] * 4 + ["slow"] * 2 + ["fast"] * 4
    assert samples["fast"].seconds == [0.25, 0.25]
    assert samples["slow"].seconds == [3.0, 3.0]


def test_the_device_is_waited_for_on_both_ends_of_a_stretch() -> None:
    clock = Clock()
    pending = [0.0]

    def queue(iteration: int) -> None:
        pending[0] += 2.0

    def wait() -> None:
        clock.now += pending[0]
        pending[0] = 0.0

    assert alternate({"queued": queue}, 3, wait, clock)["queued"].seconds == [2.0] * 3


def test_the_garbage_collector_rests_meanwhile_and_is_put_back() -> None:
    seen = []
    alternate({"a": lambda iteration: seen.append(gc.isenabled())}, 1, shortest=0.0)
    assert seen[-1] is False
    assert gc.isenabled()

    def fail(iteration: int) -> None:
        if not gc.isenabled():
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        alternate({"a": fail}, 1, shortest=0.0)
    assert gc.isenabled()


def test_a_machine_that_slows_down_moves_no_ratio() -> None:
    clock = Clock()
    slower = (1.0, 2.0, 8.0, 64.0)
    sides = {"ours": clock.work("ours", *slower), "peer": clock.work("peer", *(3 * seconds for seconds in slower))}
    samples = alternate(sides, 4, clock=clock)
    assert ratios(samples["peer"], samples["ours"]) == (3.0, 3.0, 3.0)


def test_page_faults_are_counted_a_call() -> None:
    samples = alternate({"a": lambda iteration: None}, 3, shortest=0.0)
    assert len(samples["a"].faults) == 3
    assert all(faults >= 0 for faults in samples["a"].faults)


@pytest.mark.parametrize(
    ("count", "outside"),
    # How many values lie below the interval, by tables of the sign test at 5 %, two-sided.
    [(1, 0), (2, 0), (5, 0), (6, 0), (8, 0), (9, 1), (10, 1), (12, 2), (15, 3), (20, 5), (25, 7), (30, 9)],
)
def test_the_interval_of_a_median(count: int, outside: int) -> None:
    values = [float(value) for value in range(count)]
    found = median(values[::-1])
    assert found.value == (count - 1) / 2
    assert (found.low, found.high) == (outside, count - 1 - outside)


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    count = 30
    found = median([float(value) for value in range(count)])
    missed = sum(math.comb(count, below) for below in range(int(found.low) + 1)) / 2**count
    assert 2 * missed <= 0.05


def test_ratios_want_as_many_iterations_on_both_sides() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratios(Samples([1.0]), Samples([1.0, 2.0]))


def test_geometric_mean() -> None:
    assert geometric_mean([1.0, 4.0, 16.0]) == pytest.approx(4.0)
    assert str(median([1.0, 2.0, 4.0])) == "2.00 [1.00, 4.00]"
