"""Limits by a clock that the test moves, precision, and the allocator."""

from collections.abc import Iterator

import pytest
import torch

from enas.bench.machine import Limits, autocast, measure_limits, set_precision
from enas.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _settings_put_back() -> Iterator[None]:
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    yield
    cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


def test_the_longer_of_two_limits_counts() -> None:
    limits = Limits(copy=10.0, matrix=100.0)
    assert limits.seconds(50.0, 100.0) == 5.0
    assert limits.seconds(50.0, 900.0) == 9.0


def test_limits_are_the_best_of_the_runs() -> None:
    ticks = iter([0.0, 2.0, 10.0, 11.0, 20.0, 24.0, 30.0, 33.0])
    limits = measure_limits(CPU, "fp32", clock=lambda: next(ticks), runs=2)
    assert limits.copy == 2 * 4 * 2**25 / 1.0
    assert limits.matrix == 2 * 1536**3 / 3.0


def test_tf32_is_off_unless_asked_for() -> None:
    for flag in (torch.backends.cuda.matmul, torch.backends.cudnn):
        flag.allow_tf32 = True
    for precision in ("fp32", "bf16"):
        set_precision(precision, CPU)  # type: ignore[arg-type]
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.backends.cudnn.allow_tf32
    with pytest.raises(UserError, match="precision=tf32: a cpu device has none; allowed are fp32 and bf16"):
        set_precision("tf32", CPU)
    set_precision("tf32", torch.device("cuda"))
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32


def test_bf16_is_autocast_for_the_peer() -> None:
    x = torch.ones(2, 2)
    with autocast("bf16", CPU):
        assert (x @ x).dtype == torch.bfloat16
    with autocast("fp32", CPU):
        assert (x @ x).dtype == torch.float32
