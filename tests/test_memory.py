"""Memory told before it is taken."""

import logging
import resource
from typing import Any

import pytest
import torch

from conformance import CELL_SPACES, SCALE, generator, scale_of
from enas import kernels, memory
from enas.space import EnasMicro, Scale
from enas.supernet import Supernet

CPU = torch.device("cpu")
GIB = 2**30


@pytest.fixture(autouse=True)
def _native() -> None:
    """Their passes are told; those of the reference are not."""
    kernels.select("native", CPU)


@pytest.fixture
def supernet() -> Supernet:
    return Supernet(EnasMicro(2), SCALE, generator(1))


def route(supernet: Supernet, rows: int = 1) -> torch.Tensor:
    return supernet.space.route(supernet.space.random(rows, generator(2)))


def counted(bytes_: int) -> float:
    """Without margin and workspace."""
    return (bytes_ - memory.WORKSPACE) / memory.MARGIN


def test_children_add_up_and_images_count_once(supernet: Supernet) -> None:
    routes = route(supernet, 8)
    peaks = [
        counted(memory.peak(supernet.network, (1, 16, 16, 16, 3), torch.float32, routes[:number], False))
        for number in (1, 4, 8)
    ]
    assert peaks[0] < peaks[1] < peaks[2] < 8 * peaks[0]
    assert (peaks[2] - peaks[1]) / 4 == pytest.approx((peaks[1] - peaks[0]) / 3, rel=0.1)


def test_backward_takes_more_and_half_the_storage_takes_less(supernet: Supernet) -> None:
    shape = (1, 16, 16, 16, 3)
    forward, both, half = (
        counted(memory.peak(supernet.network, shape, dtype, route(supernet), backward))
        for dtype, backward in ((torch.float32, False), (torch.float32, True), (torch.bfloat16, False))
    )
    weights = sum(4 * parameter.numel() for parameter in supernet.parameters())
    assert both > 2 * forward + weights
    assert 0.5 * forward <= half < 0.6 * forward


@pytest.mark.parametrize("name", [name for name, space in CELL_SPACES.items() if space.reads == "images"])
def test_every_space_can_be_asked_and_is_left_as_it_was(name: str) -> None:
    space = CELL_SPACES[name]
    supernet = Supernet(space, scale_of(space), generator(1))
    rows = space.random(2, generator(2))
    inputs = torch.randn(1, 4, SCALE.height, SCALE.width, SCALE.channels, generator=generator(3))
    assert memory.peak(supernet.network, inputs.shape, torch.float32, space.route(rows), True) > memory.WORKSPACE
    assert torch.isfinite(supernet(inputs, rows)).all()
    assert all(parameter.grad is None for parameter in supernet.parameters())


def test_fewer_children_where_memory_is_short(
    supernet: Supernet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shape, one = (1, 64, 16, 16, 3), route(supernet)

    def need(children: int) -> int:
        return memory.peak(supernet.network, shape, torch.float32, one.expand(children, -1, -1), False)

    for room, expected in ((need(10), 10), (need(10) - 1, 9), (need(4), 4), (1, 1)):
        monkeypatch.setattr(memory, "free", lambda device, room=room: room)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "enas"):
            assert memory.affordable(supernet.network, shape, torch.float32, one, 10, CPU) == expected
        assert ("10 children in one pass would need" in caplog.text) == (expected < 10)


def test_where_nothing_is_known_all_children_are_tried(supernet: Supernet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free", lambda device: None)
    assert memory.affordable(supernet.network, (1, 64, 16, 16, 3), torch.float32, route(supernet), 10, CPU) == 10


def test_small_passes_are_not_looked_at(supernet: Supernet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "peak", None)
    monkeypatch.setattr(memory, "free", lambda device: 64 * GIB)
    assert memory.affordable(supernet.network, (1, 16, 16, 16, 3), torch.float32, route(supernet), 10, CPU) == 10


def test_the_system_says_what_is_free() -> None:
    room = memory.free(CPU)
    assert room is not None
    assert 0 < room < 2**50


@pytest.mark.parametrize(("limit", "left"), [("max", None), ("1000", 600)])
def test_a_container_may_leave_less(
    limit: str, left: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("400\n")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    room = memory.free(CPU)
    assert room is not None
    assert (room == 600) == (left == 600)


@pytest.mark.slow
def test_a_pass_takes_no_more_than_was_told() -> None:
    supernet = Supernet(EnasMicro(), Scale(6, 20, 32, 32, 3, 10), generator(1))
    rows = supernet.space.random(10, generator(2))
    told = memory.peak(supernet.network, (1, 64, 32, 32, 3), torch.float32, supernet.space.route(rows), False)

    def most() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    with torch.no_grad():
        supernet(torch.randn(1, 2, 32, 32, 3), rows[:1])
        before = most()
        supernet(torch.randn(1, 64, 32, 32, 3), rows)
    assert most() - before <= told
