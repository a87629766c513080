"""The rates of a machine: all are there, and the precision of the process is left as it was."""

import pytest
import torch

from enas import precision
from enas.bench import rates
from enas.bench.machine import Limits


def test_all_rates_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def stand_in(device: torch.device, name: str, runs: int) -> Limits:
        asked.append((name, torch.backends.cuda.matmul.allow_tf32))
        return Limits(copy=1e9 * len(asked), matrix=1e12 * len(asked))

    monkeypatch.setattr(rates, "measure_limits", stand_in)
    monkeypatch.setattr(rates, "CALLS", 3)
    try:
        found = rates.measure(torch.device("cpu"), "tf32")
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        precision.select("fp32")
    assert asked == [("fp32", False), ("bf16", False)]
    assert (found.copy_bytes_s, found.fp32_flop_s, found.tf32_flop_s, found.bf16_flop_s) == (2e9, 1e12, None, 2e12)
    assert 0 < found.call_us < 1e4
    assert 0 < found.native_us < 1e4
    assert found.replay_us is None
    assert "copy, read and written: 2.0 GB/s\nmatrix product, fp32: 1.000 TFLOP/s\n" in found.text()
