"""A step and a score are the same work on all sides; a tiny network stands in for the published one."""

from pathlib import Path

import pytest
import torch

from enas.bench import memory, networks
from enas.bench.cases import LAYOUTS, OURS, Setting
from enas.errors import UserError
from enas.space import EnasMicro, Scale
from tolerances import assert_same

CPU = torch.device("cpu")
SETTING = Setting(CPU, "fp32", batch_size=6)
TINY = Scale(layers=1, filters=4, height=8, width=8, channels=3, classes=10)


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "PUBLISHED", TINY)


@pytest.mark.usefixtures("_tiny")
def test_all_sides_train_the_same_children_on_the_same_images() -> None:
    (case,) = networks.step_cases(SETTING)
    assert case.name == "step/enas_micro"
    calls = case.build().calls
    assert calls.keys() == {OURS, *LAYOUTS}
    losses = [[call(iteration) for call in calls.values()] for iteration in range(4)]
    for ours, *peers in losses:
        for loss in peers:
            assert_same(loss, ours)  # type: ignore[arg-type]
    assert len({float(ours) for ours, *_ in losses}) == 4  # type: ignore[arg-type]


def test_all_sides_give_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "CHILDREN", 3)
    cases = {case.name: case for case in networks.score_cases(SETTING)}
    assert cases.keys() == {"score/enas_micro/cifar", "score/enas_micro/digits"}
    for iteration in range(2):
        scores = [call(iteration) for call in cases["score/enas_micro/digits"].build().calls.values()]
        assert [len(score) for score in scores] == [3] * 3  # type: ignore[arg-type]
        for score in scores[1:]:
            assert torch.equal(score, scores[0])  # type: ignore[arg-type]


def test_the_published_shape() -> None:
    rows = networks.sample(SETTING)
    moved, operations = networks.work(networks.PUBLISHED, rows, SETTING)
    macs = EnasMicro().cost(rows, networks.PUBLISHED).macs.double().mean()
    assert operations == pytest.approx(2 * 6 * float(macs))
    doubled = networks.work(networks.PUBLISHED, rows, Setting(CPU, "fp32", batch_size=12))
    assert doubled == (2 * moved, 2 * operations)
    assert networks.work(networks.PUBLISHED, rows, Setting(CPU, "bf16", batch_size=6)) == (moved / 2, operations)


@pytest.mark.parametrize(("operation", "edges"), [(0, 10), (3, 0)])
def test_bytes_by_hand(operation: int, edges: int) -> None:
    """TINY is two reduction cells, 8 and 16 filters, and a normal cell; all nodes of this row are loose ends."""
    row = torch.tensor([[0, operation, 1, operation] * 10])
    cell = 4 * edges + 3 * 5 + 5 + 3
    cells = (16 * 8 + 4 * 16 + 4 * 16) * cell
    pointwise = 2 * 64 * (12 + 3 * 8) + 16 * (8 + 3 * 16)
    reductions = 16 * (4 * 12 + 3 * 16) + 4 * (4 * 8 + 3 * 16)
    stem = 3 * 64 * 12
    assert networks.work(TINY, row, SETTING)[0] == 4 * 6 * (cells + pointwise + reductions + stem)


@pytest.mark.usefixtures("_tiny")
@pytest.mark.parametrize("side", [OURS, "channels_last"])
def test_the_peak_of_a_step_grows_with_its_images(side: str) -> None:
    task = {"side": side, "device": "cpu", "precision": "fp32", "seed": 0, "threads": 1, "kernels": "reference"}
    few, many = (memory.measure({**task, "batch_size": size}) for size in (16, 512))
    assert many - few > 490 * 64 * 12 * 4  # the stem's output alone, and more


def test_a_system_without_proc_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "status")
    with pytest.raises(UserError, match="what=memory: this system has no /proc"):
        list(memory.compare(SETTING, 1, "auto"))


def test_parameters_are_those_of_the_supernet() -> None:
    contestants = networks.Contestants(TINY, SETTING)
    counts = {
        sum(parameter.numel() for parameter in network.parameters())
        for network in (contestants.supernet, *contestants.peers.values())
    }
    assert len(counts) == 1
