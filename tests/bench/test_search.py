"""A whole search: parts add up to an epoch, and both sides do the same work, on a tiny network."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from enas.api import scale_for
from enas.bench import search_table
from enas.bench.cases import LAYOUTS, Setting
from enas.bench.machine import Limits
from enas.bench.networks import Contestants, sample
from enas.bench.search import PARTS, compare, segment
from enas.bench.sides import OurSide, PeerSide
from enas.bench.workloads import CIFAR, DIGITS, Workload, random_images, workloads
from tolerances import assert_same

CPU = torch.device("cpu")
SETTING = Setting(CPU, "fp32", batch_size=6)
LIMITS = Limits(copy=1e10, matrix=1e11)
TINY = Workload("search/tiny", random_images(48, 24, 0), 1, 4, 6, updates=2, samples=3, clip=None, slow=2)


class ByTheClock:
    """A side whose calls take seconds of a clock that it moves itself."""

    def __init__(self) -> None:
        self.now, self.trained, self.asked = 0.0, 0, 0

    def _take(self, seconds: float) -> None:
        self.now += seconds

    def children(self, count: int) -> None:
        self.asked = count
        self._take(0.5)

    def train(self, rows: Tensor) -> None:
        self.trained += len(rows)
        self._take(2.0 * len(rows))

    def ask(self, count: int) -> int:
        self._take(0.25)
        return count

    def score(self, asked: int) -> None:
        self._take(1.0 * asked)

    def tell(self, asked: int, scores: Any) -> None:
        self._take(0.75)


def test_parts_are_those_of_a_whole_epoch() -> None:
    side = ByTheClock()
    parts = segment(side, TINY, torch.zeros(2, 40), 1, lambda: None, clock=lambda: side.now)
    assert (side.trained, side.asked) == (2, TINY.steps)
    assert TINY.steps == 8
    assert parts == {
        "weights": 8 * 2.0,
        "scoring": 3 * 3.0,  # two updates, and the rows that would be derived
        "controller": 2 * 1.0,
        "rest": 0.5,
        "epoch": 27.5,
    }


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_comparison_is_whole(precision: str) -> None:
    result = compare(TINY, replace(SETTING, precision=precision), 2, None, 10.0, LIMITS)
    assert (result.n, result.batch_size, result.segment_steps, result.segment_updates) == (2, 6, 2, 1)
    assert result.peer in LAYOUTS
    for side in (result.ours, result.plain):
        assert all(getattr(side, f"{part}_s") > 0 for part in PARTS)
        assert side.search_s == 10 * side.epoch_s
        assert side.images_per_s == pytest.approx(48 / side.weights_s)
        assert side.children_per_s == pytest.approx(9 / side.scoring_s)
        assert side.peak_bytes is None
        assert side.step_launches > 50
    assert result.ratio_low <= result.ratio <= result.ratio_high
    own = result.floors["this machine"]
    assert own.ours_reached == pytest.approx(own.epoch_s / result.ours.epoch_s)
    assert result.floors["H200"].epoch_s < result.floors["H100"].epoch_s < own.epoch_s
    document = result.document()
    assert (document["case"], document["data"], document["plain"]["peak_bytes"]) == ("search/tiny", "random", None)
    lines = search_table.text(result).splitlines()
    assert "8 steps and 2 updates of 3 rows; n = 2 turns of 2 steps and 1 updates" in lines[0]
    assert sum("% " in line and line.startswith((*PARTS, "an epoch")) for line in lines) == 5
    assert [line.split(":")[0] for line in lines[-3:]] == ["floor on this machine", "floor on H200", "floor on H100"]


def test_both_sides_do_the_same_work() -> None:
    """With the same batches a step moves the weights alike; the strategies start as one policy."""
    setting = replace(SETTING, batch_size=8)
    data = random_images(8, 8, 0)  # one batch; its augmentation is drawn from generators of one seed
    both = Contestants(scale_for(data, 1, 4), setting, ["nchw"])
    ours = OurSide(both.supernet, data, setting, None)
    peer = PeerSide(both.peers["nchw"], "nchw", data, setting, None)
    rows = sample(setting)[:4]
    ours._training._dropout = 0.0
    ours.train(rows)
    peer.train(rows)
    assert_same(peer._loss / 4, torch.tensor(ours._training.metrics()["weights/loss"], dtype=torch.float32))
    asked = peer.ask(5)
    scores = ours.score(asked.rows)
    assert_same(peer.score(asked).value, scores.value)
    assert_same(asked.log_probability, ours._strategy.controller.evaluate(asked.rows).log_probability)
    before = [weight.clone() for weight in peer._strategy.controller.parameters()]
    peer.tell(asked, scores)
    assert not all(
        torch.equal(one, other) for one, other in zip(before, peer._strategy.controller.parameters(), strict=True)
    )


def test_the_published_search_and_the_default_one() -> None:
    digits = workloads(0, None, None)[DIGITS]()
    assert (digits.steps, digits.batch_size, digits.updates, digits.samples) == (17, 64, 10, 10)
    assert workloads(0, None, 32)[DIGITS]().batch_size == 32


@pytest.mark.slow
def test_the_published_search_has_its_size() -> None:
    cifar = workloads(0, None, None)[CIFAR]()
    assert (cifar.steps, cifar.batch_size, cifar.updates, len(cifar.data.valid)) == (281, 160, 30, 5000)


def test_real_images_are_read_where_they_are_named(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=str(tmp_path)):
        workloads(0, str(tmp_path), None)[CIFAR]()
