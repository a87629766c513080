"""The time of each phase."""

import pytest
import torch

from enas.phases import OTHER, Phases


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still; its one entry is what it shows."""
    shown = [100.0]
    monkeypatch.setattr("enas.phases.time.perf_counter", lambda: shown[0])
    return shown


def test_a_phase_lasts_until_the_next_and_comes_again(clock: list[float]) -> None:
    phases = Phases(torch.device("cpu"))
    for name, seconds in (("forward", 1.0), ("backward", 2.0), ("forward", 4.0)):
        phases.enter(name)
        clock[0] += seconds
    phases.enter(OTHER)
    clock[0] += 1.0
    assert phases.shares() == {"forward": 5 / 8, "backward": 2 / 8, OTHER: 1 / 8}


def test_shares_are_those_since_the_last_call(clock: list[float]) -> None:
    phases = Phases(torch.device("cpu"))
    phases.enter("forward")
    clock[0] += 5.0
    assert phases.shares()["forward"] == 1.0
    clock[0] += 1.0
    phases.enter("backward")
    clock[0] += 3.0
    assert phases.shares() == {OTHER: 1 / 4, "backward": 3 / 4}


def test_no_time_is_no_share(clock: list[float]) -> None:
    assert set(Phases(torch.device("cpu")).shares().values()) <= {0.0}


@pytest.mark.gpu
def test_events_on_cuda_see_the_work_of_the_device() -> None:
    phases = Phases(torch.device("cuda"))
    x = torch.randn(4096, 4096, device="cuda")
    phases.shares()
    phases.enter("products")
    for _ in range(10):
        x = x @ x
    phases.enter("nothing")
    shares = phases.shares()
    assert shares["products"] > 0.9


def test_a_profiler_sees_the_phases() -> None:
    phases = Phases(torch.device("cpu"))
    with torch.profiler.profile() as profiler:
        phases.enter("products")
        torch.ones(3) @ torch.ones(3)
        phases.enter(OTHER)
    named = {event.key: event for event in profiler.key_averages()}
    assert named["products"].cpu_time_total >= named["aten::dot"].cpu_time_total > 0
