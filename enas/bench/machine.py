"""The machine that a comparison runs on: the peer's precision, and what it can do at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch

from enas.precision import STORAGE


def tune_peer() -> None:
    """Give the peer the fastest of cuDNN's algorithms for each shape."""
    torch.backends.cudnn.benchmark = True


def peer_precision(precision: str, device: torch.device) -> str:
    """What plain PyTorch computes in where ours is `precision`, in words."""
    if precision == "tf32" and device.type != "cuda":
        return "fp32, no tf32 on this device"
    return {"fp32": "fp32, tf32 off", "tf32": "tf32 on", "bf16": "autocast to bf16"}[precision]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """What a user of plain PyTorch puts around a forward pass for bf16."""
    return torch.autocast(device.type, torch.bfloat16) if STORAGE[precision] is torch.bfloat16 else nullcontext()


def synchronise(device: torch.device) -> Callable[[], None]:
    """What waits for `device`."""
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


class Limits(NamedTuple):
    """What a device was measured to do at most."""

    copy: float
    """Bytes a second, read and written, of a copy that no cache holds."""
    matrix: float
    """Operations a second of a large matrix product; a multiply-add is two."""

    def seconds(self, moved: float, operations: float) -> float:
        """The shortest time for so many bytes and operations."""
        return max(moved / self.copy, operations / self.matrix)


def measure_limits(
    device: torch.device, precision: str, clock: Callable[[], float] = time.perf_counter, runs: int = 10
) -> Limits:
    """The copy rate and the matrix rate in `precision`, each the best of some runs."""
    elements, side = (2**28, 8192) if device.type == "cuda" else (2**25, 1536)
    source = torch.zeros(elements, device=device)
    target = torch.zeros_like(source)
    one = torch.randn(side, side, device=device).to(STORAGE[precision])
    out = torch.empty_like(one)
    wait = synchronise(device)

    def best(work: Callable[[], object]) -> float:
        seconds = []
        for _ in range(runs):
            wait()
            start = clock()
            work()
            wait()
            seconds.append(clock() - start)
        return min(seconds)

    copying = best(lambda: target.copy_(source))
    multiplying = best(lambda: torch.mm(one, one, out=out))
    return Limits(2 * 4 * elements / copying, 2 * side**3 / multiplying)
