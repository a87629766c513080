"""The table of NAS-Bench-201: rows are looked up, and a file that is none is refused in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from conformance import generator
from enas.errors import UserError
from enas.estimator.table import AccuracyTable
from enas.space import EnasMicro, NasBench201

SPACE = NasBench201()
REAL = Path(__file__).parents[3] / "shared" / "data" / "nasbench201" / "nasbench201.npz"
Content = dict[str, NDArray[Any]]


def content() -> Content:
    """Every row in an order of its own, with an accuracy that is its operations' sum."""
    rows = np.stack(np.unravel_index(np.random.default_rng(0).permutation(5**6), [5] * 6), axis=1).astype(np.uint8)
    return {"ops": rows, "test200_cifar10": rows.sum(axis=1, dtype=np.float64), "val12_in16": rows[:, 0] + 50.0}


def test_a_row_is_looked_up_wherever_it_stands(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **content())
    table = AccuracyTable(tmp_path / "t.npz")
    rows = SPACE.random(100, generator())
    assert torch.equal(table.accuracies(SPACE, rows, "test200_cifar10"), rows.sum(dim=1).double() / 100)
    assert torch.equal(table.accuracies(SPACE, rows, "val12_in16"), (rows[:, 0] + 50).double() / 100)


def test_a_space_or_a_column_that_it_does_not_know_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **content())
    table = AccuracyTable(tmp_path / "t.npz")
    with pytest.raises(UserError, match="it knows rows of space nasbench201, these are of enas_micro"):
        table.accuracies(EnasMicro(), EnasMicro().random(1, generator()), "test200_cifar10")
    with pytest.raises(UserError, match=r"column=ops: .* has test200_cifar10, val12_in16"):
        table.accuracies(SPACE, SPACE.random(1, generator()), "ops")


def missing_rows(table: Content) -> Content:
    return {name: column[:-1] for name, column in table.items()}


def repeated_row(table: Content) -> Content:
    return {**table, "ops": np.concatenate([table["ops"][:1], table["ops"][:-1]])}


def without_rows(table: Content) -> Content:
    return {name: column for name, column in table.items() if name != "ops"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (missing_rows, "not the compact table"),
        (repeated_row, "exactly once"),
        (without_rows, "not the compact table"),
    ],
)
def test_an_incomplete_table_is_refused(change: Callable[[Content], Content], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **change(content()))
    with pytest.raises(UserError, match=said):
        AccuracyTable(tmp_path / "t.npz")


def test_a_file_that_is_missing_or_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        AccuracyTable(tmp_path / "t.npz")
    for damaged in (b"", b"PK\x03\x04 no archive", b"text"):
        (tmp_path / "t.npz").write_bytes(damaged)
        with pytest.raises(UserError, match="it is damaged"):
            AccuracyTable(tmp_path / "t.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(UserError, match="it is damaged"):
        AccuracyTable(tmp_path / "array.npy")


@pytest.mark.skipif(not REAL.is_file(), reason="the table is not beside the repository")
def test_the_best_cell_of_the_real_table_has_the_published_accuracy() -> None:
    row = SPACE.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|")
    accuracy = AccuracyTable(REAL).accuracies(SPACE, torch.tensor([row]), "test200_cifar10")
    assert float(accuracy) == pytest.approx(0.943733, abs=1e-6)
