"""What this machine does at most: bytes, operations in every precision, and kernels one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from enas import kernels, precision
from enas.bench.cases import device_name
from enas.bench.machine import measure_limits, synchronise

NAME = "machine"
CALLS = 1000


@dataclass(frozen=True)
class Rates:
    """One line of the output.

    copy_bytes_s  read and written, of a copy that no cache holds
    *_flop_s      of a large matrix product, by precision; a multiply-add is two
    call_us       one small operation of torch after the other, in microseconds each
    native_us     the same with `kernels.null`, which copies: the price of a call of ours
    replay_us     of each of as many small kernels in one CUDA graph; None without CUDA
    """

    case: str
    device: str
    torch: str
    threads: int
    copy_bytes_s: float
    fp32_flop_s: float
    tf32_flop_s: float | None
    bf16_flop_s: float
    call_us: float
    native_us: float
    replay_us: float | None

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def text(self) -> str:
        """For a terminal."""
        lines = [
            f"copy, read and written: {self.copy_bytes_s / 1e9:.1f} GB/s",
            *(
                f"matrix product, {name}: {value / 1e12:.3f} TFLOP/s"
                for name, value in (("fp32", self.fp32_flop_s), ("tf32", self.tf32_flop_s), ("bf16", self.bf16_flop_s))
                if value is not None
            ),
            f"a small operation: {self.call_us:.2f} us; a call of ours: {self.native_us:.2f} us",
        ]
        if self.replay_us is not None:
            lines.append(f"a small kernel in a graph: {self.replay_us:.2f} us")
        return "\n".join(lines)


def measure(device: torch.device, chosen: str, runs: int = 10) -> Rates:
    """All rates; `chosen` is the precision of this process, which is chosen again afterwards."""
    names = ["fp32", "bf16", *(["tf32"] if device.type == "cuda" else [])]
    limits = {}
    for name in names:
        precision.select(name)
        limits[name] = measure_limits(device, name, runs=runs)
    precision.select(chosen)
    x = torch.zeros(1, 1, 1, 1, 32, device=device)
    return Rates(
        NAME,
        device_name(device),
        torch.__version__,
        torch.get_num_threads(),
        max(limit.copy for limit in limits.values()),
        limits["fp32"].matrix,
        limits["tf32"].matrix if "tf32" in limits else None,
        limits["bf16"].matrix,
        1e6 * _each(lambda: x.add_(1.0), device),
        1e6 * _each(lambda: kernels.null(x), device),
        1e6 * _replayed(x, device) if device.type == "cuda" else None,
    )


def _each(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one of many calls, the best of three rounds, the first of which is not counted."""
    wait, seconds = synchronise(device), []
    for _ in range(4):
        wait()
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        wait()
        seconds.append((time.perf_counter() - start) / CALLS)
    return min(seconds[1:])


def _replayed(x: torch.Tensor, device: torch.device) -> float:
    """Seconds of one of many small kernels that follow one another in a graph."""
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            x.add_(1.0)
    wait, seconds = synchronise(device), []
    for _ in range(4):
        wait()
        start = time.perf_counter()
        graph.replay()
        wait()
        seconds.append((time.perf_counter() - start) / CALLS)
    return min(seconds[1:])
