"""The table of NAS-Bench-201: rows are looked up, and a file that is none is refused in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from conformance import generator
from enas.data import nasbench201
from enas.data.nasbench201 import look_up
from enas.errors import UserError
from enas.space import EnasMicro, NasBench201

SPACE = NasBench201()
REAL = Path(__file__).parents[3] / "shared" / "data" / "nasbench201"
Content = dict[str, NDArray[Any]]


def content() -> Content:
    """Every row in an order of its own, with accuracies that are its operations' sum, its first and its last."""
    rows = np.stack(np.unravel_index(np.random.default_rng(0).permutation(5**6), [5] * 6), axis=1).astype(np.uint8)
    return {
        "ops": rows,
        "test200_cifar10": rows.sum(axis=1, dtype=np.float64),
        "val12_cifar10": rows[:, 5] + 20.0,
        "val12_in16": rows[:, 0] + 50.0,
        "params_in16": rows[:, 0] + 50.0,
    }


def write(folder: Path, **others: NDArray[Any]) -> Path:
    np.savez(folder / "nasbench201.npz", **(content() | others))
    return folder / "nasbench201.npz"


def test_a_row_is_looked_up_wherever_it_stands(tmp_path: Path) -> None:
    path, rows = write(tmp_path), SPACE.random(100, generator())
    for root in (path, tmp_path):
        table = nasbench201(root)
        assert torch.equal(table.signal(rows), (rows[:, 5] + 20).double() / 100)
        assert torch.equal(table.outcome(rows), rows.sum(dim=1).double() / 100)
        assert table.seconds(rows) is None
    assert torch.equal(look_up(path, SPACE, rows, "val12_in16"), (rows[:, 0] + 50).double() / 100)


def test_cost_is_known_where_the_file_has_a_column_of_seconds(tmp_path: Path) -> None:
    seconds, rows = content()["ops"][:, 1] * 100.0, SPACE.random(20, generator())
    found = nasbench201(write(tmp_path, seconds12_cifar10=seconds)).seconds(rows)
    assert found is not None
    assert torch.equal(found, rows[:, 1].double() * 100)


def test_cost_is_counted_at_the_scale_of_the_benchmark(tmp_path: Path) -> None:
    table = nasbench201(write(tmp_path, test200_in16=content()["ops"][:, 0]), "in16")
    assert table.extents == (16, 16, 3, 120)
    assert (table.scale.layers, table.scale.filters) == (5, 16)
    assert table.name == "nasbench201-in16"
    assert "12 epochs, ImageNet16-120" in table.signal_label
    assert "200 epochs, ImageNet16-120" in table.outcome_label


def test_a_space_a_column_or_a_data_set_that_it_does_not_know_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(UserError, match="it knows rows of space nasbench201, these are of enas_micro"):
        look_up(path, EnasMicro(), EnasMicro().random(1, generator()), "test200_cifar10")
    for column in ("ops", "params_in16"):
        with pytest.raises(UserError, match=rf"column={column}: .* has test200_cifar10, val12_cifar10, val12_in16"):
            look_up(path, SPACE, SPACE.random(1, generator()), column)
    with pytest.raises(UserError, match=r"data.dataset=val12_cifar100: .* has test200_cifar10"):
        nasbench201(path, "cifar100")
    with pytest.raises(UserError, match=r"data.dataset=svhn: allowed are cifar10, cifar100, in16"):
        nasbench201(path, "svhn")  # type: ignore[arg-type]


def missing_rows(table: Content) -> Content:
    return {name: column[:-1] for name, column in table.items()}


def repeated_row(table: Content) -> Content:
    return {**table, "ops": np.concatenate([table["ops"][:1], table["ops"][:-1]])}


def foreign_operation(table: Content) -> Content:
    """The number of row (5, 0, ...) is that of (0, 1, ...), which it takes the place of."""
    rows = table["ops"].copy()
    rows[(rows == [0, 1, 0, 0, 0, 0]).all(axis=1)] = [5, 0, 0, 0, 0, 0]
    return {**table, "ops": rows}


def without_rows(table: Content) -> Content:
    return {name: column for name, column in table.items() if name != "ops"}


def no_percentage(table: Content) -> Content:
    return {**table, "val12_cifar10": table["val12_cifar10"] * np.nan}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (missing_rows, "not the compact table"),
        (repeated_row, "exactly once"),
        (foreign_operation, "exactly once"),
        (without_rows, "not the compact table"),
        (no_percentage, "val12_cifar10 holds what is no percentage"),
    ],
)
def test_an_incomplete_table_is_refused(change: Callable[[Content], Content], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **change(content()))
    with pytest.raises(UserError, match=said):
        nasbench201(tmp_path / "t.npz")


def test_a_file_that_is_missing_or_no_table_is_refused(tmp_path: Path) -> None:
    for root in (tmp_path / "t.npz", tmp_path):
        with pytest.raises(UserError, match=r"data.root=.*npz: cannot be read: No such file"):
            nasbench201(root)
    for damaged in (b"", b"PK\x03\x04 no archive", b"text"):
        (tmp_path / "t.npz").write_bytes(damaged)
        with pytest.raises(UserError, match="it is damaged"):
            nasbench201(tmp_path / "t.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(UserError, match="it is damaged"):
        look_up(tmp_path / "array.npy", SPACE, SPACE.random(1, generator()), "test200_cifar10")


@pytest.mark.skipif(not REAL.is_dir(), reason="the table is not beside the repository")
@pytest.mark.parametrize(("dataset", "best"), [("cifar10", 0.943733), ("cifar100", 0.735133), ("in16", 0.473111)])
def test_the_best_cells_of_the_real_table_have_the_published_accuracy(dataset: Any, best: float) -> None:
    table = nasbench201(REAL, dataset)
    assert float(table.outcomes.max()) == pytest.approx(best, abs=1e-6)
    if dataset == "cifar10":
        text = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
        assert float(table.outcome(torch.tensor([SPACE.parse(text)]))) == float(table.outcomes.max())
