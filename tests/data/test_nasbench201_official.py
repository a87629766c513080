"""Files of the official structure become the compact table; a pickle that would run something is refused."""

import bz2
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conformance import generator
from enas.data import nasbench201, nasbench201_official
from enas.data.nasbench201_official import COLUMNS, Column, convert, main, measure, read_rows
from enas.errors import UserError
from enas.space import NasBench201

SPACE = NasBench201()
TRIALS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test", "ori-test"),
    "ImageNet16-120": ("x-valid", "x-test", "ori-test"),
}


def run(trained: str, seed: int, epochs: int, base: float) -> dict[str, Any]:
    """One training as its authors store it; accuracies rise by the epoch, the last is `base` + seed + place."""
    curves: dict[str, dict[str, Any]] = {"eval_acc1es": {}, "eval_losses": {}, "eval_times": {}}
    for place, evaluated in enumerate(TRIALS[trained]):
        for epoch in range(epochs):
            key = f"{evaluated}@{epoch}"
            curves["eval_acc1es"][key] = np.float64(base + seed % 10 + place - (epochs - 1 - epoch) / 100)
            curves["eval_losses"][key], curves["eval_times"][key] = 1.0, 0.5
    return {
        "name": "infer.tiny", "net_state_dict": None, "train_acc1es": {}, "train_acc5es": {}, "train_losses": {},
        "train_times": OrderedDict((epoch, 2.0) for epoch in range(epochs)), "arch_config": {"channel": 16},
        "params": 1.0, "flop": 2.0, "seed": seed, "epochs": epochs, "latency": [0.01],
        "eval_names": list(TRIALS[trained]), **curves,
    }  # fmt: skip


def results(name: str, place: int, seeds: tuple[int, ...] = (777, 888)) -> dict[str, Any]:
    """What the authors store of one architecture."""
    return {
        hp: {
            "arch_index": place,
            "arch_str": name,
            "all_results": {(data, seed): run(data, seed, epochs, base) for data in TRIALS for seed in seeds},
            "dataset_seed": {data: list(seeds) for data in TRIALS},
            "clear_net_done": True,
        }
        for hp, epochs, base in (("12", 12, 40.0), ("200", 200, 60.0))
    }


NAMES = [SPACE.text(row) for row in SPACE.random(3, generator()).tolist()]


def dump(path: Path, content: Any) -> None:
    with bz2.open(path, "wb") as file:
        pickle.dump(content, file, protocol=4)


def write_folder(folder: Path) -> Path:
    dump(folder / "meta.pickle.pbz2", {"meta_archs": NAMES, "total_archs": 3})
    for place, name in enumerate(NAMES):
        dump(folder / f"{place:06d}.pickle.pbz2", results(name, place))
    return folder


def write_pickle(folder: Path) -> Path:
    infos = {place: results(name, place) for place, name in enumerate(NAMES)}
    path = folder / "NATS-tss-v1_0-3ffb9.pickle.pbz2"
    dump(path, {"meta_archs": NAMES, "arch2infos": infos, "evaluated_indexes": {0, 1, 2}})
    return path


def write_torch(folder: Path) -> Path:
    infos = {}
    for place, name in enumerate(NAMES):
        entry = results(name, place)
        infos[place] = {"less": entry["12"], "full": entry["200"]}
    path = folder / "NAS-Bench-201-v1_1-096897.pth"
    torch.save({"meta_archs": NAMES, "total_archs": 3, "arch2infos": infos, "evaluated_indexes": [0, 1, 2]}, path)
    return path


@pytest.mark.parametrize("write", [write_folder, write_pickle, write_torch])
def test_each_kind_of_official_file_gives_the_numbers_of_its_runs(write: Any, tmp_path: Path) -> None:
    read = list(read_rows(write(tmp_path)))
    assert [name for name, _ in read] == NAMES
    found = {
        column.name(dataset): measure(read[0][1], column, dataset)
        for column in COLUMNS
        for dataset in ("cifar10", "cifar100")
    }
    assert found == pytest.approx(
        {
            "val12_cifar10": 47.5, "val12_cifar100": 47.5, "test12_cifar10": 47.5, "test12_cifar100": 48.5,
            "test200_cifar10": 67.5, "test200_cifar100": 68.5, "seconds12_cifar10": 24.5, "seconds12_cifar100": 24.5,
            "seconds200_cifar10": 400.0, "seconds200_cifar100": 400.0,
        }
    )  # fmt: skip


def test_seconds_that_were_not_recorded_are_not_made_up() -> None:
    entry = results(NAMES[0], 0)
    for part in entry.values():
        for each in part["all_results"].values():
            each["train_times"] = None
    assert np.isnan(measure(entry, COLUMNS[3], "cifar10"))


def test_a_whole_file_becomes_the_table_that_data_nasbench201_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = torch.cartesian_prod(*[torch.arange(5)] * 6)[torch.randperm(5**6, generator=generator())]

    def stand_in(row: list[int], column: Column, dataset: str) -> float:
        if column.seconds:
            return float("nan") if dataset == "cifar100" and row[0] == 3 else 24.5
        return 10.0 * row[0] + row[5] if column.part == "val" else 90.0

    named = [(SPACE.text(row), row) for row in rows.tolist()]
    monkeypatch.setattr(nasbench201_official, "read_rows", lambda source: iter(named))
    monkeypatch.setattr(nasbench201_official, "measure", stand_in)
    assert main(["unread", str(tmp_path / "nasbench201.npz")]) == 0
    assert "val12_cifar10" in capsys.readouterr().out
    table, asked = nasbench201(tmp_path), SPACE.random(50, generator(1))
    assert table.signal(asked).tolist() == pytest.approx(((10.0 * asked[:, 0] + asked[:, 5]) / 100).tolist())
    seconds = table.seconds(asked)
    assert seconds is not None
    assert seconds.tolist() == [24.5] * 50
    assert nasbench201(tmp_path, "cifar100").seconds(asked) is None
    assert main(["unread", str(tmp_path / "nasbench201.npz")]) == 2
    assert "exists already" in capsys.readouterr().err


class Attack:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_files_that_run_something_are_incomplete_or_altered_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.npz"
    dump(tmp_path / "attack.pickle.pbz2", {"meta_archs": Attack()})
    torch.save({"meta_archs": Attack()}, tmp_path / "attack.pth")
    dump(tmp_path / "list.pickle.pbz2", [1])
    dump(tmp_path / "other.pickle.pbz2", {"images": [1]})
    (tmp_path / "damaged.pickle.pbz2").write_bytes(b"BZh no archive")
    (tmp_path / "empty").mkdir()
    altered = tmp_path / "altered"
    altered.mkdir()
    write_folder(altered)
    entry = results(NAMES[0], 0)
    del entry["12"]["all_results"]["cifar100", 888]
    dump(altered / "000000.pickle.pbz2", entry)
    for name, said in {
        "attack.pickle.pbz2": "it names 'builtins.print', which results have no use for",
        "attack.pth": "cannot be read without running what is in it",
        "list.pickle.pbz2": "it holds no dictionary",
        "other.pickle.pbz2": "not an official file",
        "damaged.pickle.pbz2": "cannot be read",
        "absent.pickle.pbz2": "cannot be read .*No such file",
        "empty": "meta.pickle.pbz2: cannot be read",
        "altered": r"the results of .* are not as the official ones \(KeyError",
    }.items():
        with pytest.raises(UserError, match=said):
            convert(tmp_path / name, target, progress=False)
    (tmp_path / "short").mkdir()
    with pytest.raises(UserError, match="it has results of 3 rows, needed are all 15625"):
        convert(write_folder(tmp_path / "short"), target, progress=False)
    assert not target.exists()
    assert capsys.readouterr().out == ""
