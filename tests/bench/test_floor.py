"""Floors by hand: a chip's two ways to be slow, and the operations of depthwise convolutions."""

import pytest
import torch

from enas import precision
from enas.bench import floor, networks
from enas.bench.cases import Setting
from enas.bench.floor import Chip, Needs
from enas.bench.machine import Limits
from enas.space import Scale

SETTING = Setting(torch.device("cpu"), "fp32", batch_size=6)
TINY = Scale(layers=1, filters=4, height=8, width=8, channels=3, classes=10)


def test_the_longer_of_moving_and_computing_counts() -> None:
    chip = Chip(copy=10.0, matrix=100.0, vector=20.0)
    assert Needs(50.0, 40.0, 100.0).seconds(chip) == 5.0
    assert Needs(50.0, 80.0, 200.0).seconds(chip) == 6.0


@pytest.mark.parametrize(("operation", "taps"), [(0, 9), (1, 25), (2, 0)])
def test_depthwise_operations_by_hand(operation: int, taps: int) -> None:
    """TINY is two reduction cells, of 8 and 16 filters, and a normal cell of 16."""
    row = torch.tensor([[0, operation, 1, operation] * 10])
    outputs = 16 * 8 + 4 * 16 + 4 * 16
    assert floor.depthwise_macs(TINY, row) == 10 * 2 * taps * outputs


def test_a_step_is_three_passes_and_the_optimiser() -> None:
    rows = networks.sample(SETTING)
    one, step = floor.forward(TINY, rows, SETTING), floor.step(TINY, rows, SETTING, parameters=1000)
    moved, operations = networks.work(TINY, rows, SETTING)
    assert one.bytes == moved
    assert one.depthwise + one.products == pytest.approx(operations)
    assert step.bytes == 3 * moved + 28_000
    assert step.products == pytest.approx(3 * one.products)


def test_chips() -> None:
    assert floor.measured(SETTING, Limits(1.0, 2.0)) == Chip(copy=1.0, matrix=2.0, vector=2.0)
    chips = floor.known("bf16")
    assert chips["H200"].matrix == chips["H100"].matrix > floor.known("tf32")["H200"].matrix
    assert chips["H200"].copy > chips["H100"].copy


def test_the_vector_units_are_measured_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    def stand_in(device: torch.device, name: str) -> Limits:
        assert not torch.backends.cuda.matmul.allow_tf32
        return Limits(1.0, 5.0)

    monkeypatch.setattr(floor, "measure_limits", stand_in)
    precision.select("tf32")
    try:
        found = floor.measured(Setting(torch.device("cuda"), "tf32", batch_size=6), Limits(1.0, 2.0))
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        precision.select("fp32")
    assert found == Chip(copy=1.0, matrix=2.0, vector=5.0)
