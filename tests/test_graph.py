"""Captured functions: the same numbers as plain ones, whatever is copied and kept."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tape import Tape
from torch import Tensor

from enas.errors import UserError
from enas.graph import MOST, WARM_UP, Captured, wanted


@pytest.fixture(autouse=True)
def no_tapes() -> None:
    Tape.made = 0


@dataclass
class Sums:
    """A function with a state on the device, and a count on the host of how often it was done."""

    total: Tensor
    calls: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.total += x.sum()
        return x * 2 + self.total


def captured(function: Any, **settings: Any) -> Captured[Tensor]:
    return Captured(function, capture=True, record=Tape, **settings)


def test_numbers_are_those_of_the_plain_function() -> None:
    plain, own = Sums(torch.zeros(())), Sums(torch.zeros(()))
    call = captured(own)
    for number in range(WARM_UP + 4):
        x = torch.full((3,), float(number))
        assert torch.equal(call(x), plain(x))
        assert torch.equal(own.total, plain.total)
    assert Tape.made == 1


def test_inputs_are_copied_and_results_overwritten() -> None:
    call = captured(Sums(torch.zeros(())))
    x = torch.ones(2)
    for _ in range(WARM_UP):
        call(x)
    first = call(x)
    kept = first.clone()
    x += 1  # what was captured does not see it
    second = call(torch.zeros(2))
    assert first is second
    assert not torch.equal(second, kept)


def test_every_set_of_shapes_and_types_is_captured_for_itself() -> None:
    call = captured(Sums(torch.zeros(())))
    for x in (torch.ones(2), torch.ones(3), torch.ones(3, dtype=torch.float64)):
        for _ in range(WARM_UP):
            call(x)
        before = Tape.made
        call(x)
        call(x)
        assert Tape.made == before + 1


def test_shapes_beyond_the_most_stay_plain() -> None:
    own = Sums(torch.zeros(()))
    call = captured(own)
    for size in range(1, MOST + 3):
        for _ in range(WARM_UP + 2):
            assert call(torch.zeros(size)).shape == (size,)
    assert Tape.made == MOST


def test_plain_unless_asked_for() -> None:
    call = Captured(Sums(torch.zeros(())), record=Tape)
    for _ in range(WARM_UP + 3):
        call(torch.ones(2))
    assert Tape.made == 0


def test_no_graph_on_a_cpu_and_no_other_modes() -> None:
    for mode in ("auto", "off"):
        assert not wanted(mode, torch.device("cpu"), static=True)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="graph=on: allowed are auto and off"):
        wanted("on", torch.device("cpu"), static=True)  # type: ignore[arg-type]


@pytest.mark.gpu
def test_random_draws_go_on_from_replay_to_replay() -> None:
    device = torch.device("cuda")
    results = []
    for capture in (False, True):
        generator = torch.Generator(device).manual_seed(3)
        call = Captured(lambda x, own=generator: x + torch.rand(4, generator=own, device=device), [generator], capture)
        results.append(torch.stack([call(torch.zeros(4, device=device)).clone() for _ in range(WARM_UP + 4)]))
        results.append(torch.rand(3, generator=generator, device=device))
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[1], results[3])
