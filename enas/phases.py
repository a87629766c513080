"""Where the time of a run goes: one phase after the other, on the clock of the device that does the work."""

from __future__ import annotations

import time
from collections import defaultdict

import torch
from torch.profiler import record_function

OTHER = "other"
"""What is between the named phases."""


class Phases:
    """Adds up the seconds of each phase; whoever begins something says its name, and it lasts until the next name.

    On CUDA the marks are events in the stream, so that nobody waits for one; they are read when `shares` is called.
    While a graph is captured marks are left out: a replayed step is one phase. A profiler that listens sees the phases
    as regions of these names.
    """

    def __init__(self, device: torch.device):
        self._on_cuda = device.type == "cuda"
        self.device = device
        self._marks: list[tuple[str, float | torch.cuda.Event]] = []
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._region: record_function | None = None
        self.enter(OTHER)

    def enter(self, name: str) -> None:
        """From here on the time is that of `name`."""
        if self._region is not None:
            self._region.__exit__(None, None, None)
        self._region = record_function(name)
        self._region.__enter__()  # type: ignore[no-untyped-call]
        if not self._on_cuda:
            now = time.perf_counter()
            self._close(now)
            self._marks = [(name, now)]
        elif not torch.cuda.is_current_stream_capturing():
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(self.device))
            self._marks.append((name, event))

    def shares(self) -> dict[str, float]:
        """The share of each phase, 0..1, in the time since the last call; on CUDA it waits for the device."""
        self.enter(OTHER)
        if self._on_cuda:
            last = self._marks[-1][1]
            assert isinstance(last, torch.cuda.Event)
            last.synchronize()
            for (name, begin), (_, end) in zip(self._marks, self._marks[1:], strict=False):
                assert isinstance(begin, torch.cuda.Event)
                assert isinstance(end, torch.cuda.Event)
                self._seconds[name] += begin.elapsed_time(end) / 1000
            self._marks = self._marks[-1:]
        total = sum(self._seconds.values()) or 1.0
        shares = {name: seconds / total for name, seconds in self._seconds.items()}
        self._seconds.clear()
        return shares

    def _close(self, now: float) -> None:
        for name, begin in self._marks:
            assert isinstance(begin, float)
            self._seconds[name] += now - begin
