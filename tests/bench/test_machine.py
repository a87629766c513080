"""Limits by a clock that the test moves, precision, and the allocator."""

import torch

from enas.bench.machine import Limits, autocast, measure_limits, peer_precision

CPU = torch.device("cpu")


def test_the_longer_of_two_limits_counts() -> None:
    limits = Limits(copy=10.0, matrix=100.0)
    assert limits.seconds(50.0, 100.0) == 5.0
    assert limits.seconds(50.0, 900.0) == 9.0


def test_limits_are_the_best_of_the_runs() -> None:
    ticks = iter([0.0, 2.0, 10.0, 11.0, 20.0, 24.0, 30.0, 33.0])
    limits = measure_limits(CPU, "fp32", clock=lambda: next(ticks), runs=2)
    assert limits.copy == 2 * 4 * 2**25 / 1.0
    assert limits.matrix == 2 * 1536**3 / 3.0


def test_both_sides_say_their_precision() -> None:
    assert peer_precision("fp32", CPU) == "fp32, tf32 off"
    assert peer_precision("tf32", CPU) == "fp32, no tf32 on this device"
    assert peer_precision("tf32", torch.device("cuda")) == "tf32 on"


def test_bf16_is_autocast_for_the_peer() -> None:
    x = torch.ones(2, 2)
    with autocast("bf16", CPU):
        assert (x @ x).dtype == torch.bfloat16
    with autocast("fp32", CPU):
        assert (x @ x).dtype == torch.float32
