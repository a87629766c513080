"""The table of NAS-Bench-101: any isomorphic row is looked up; a file that is none is refused in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from conformance import generator
from enas.data import nasbench101
from enas.data.nasbench101 import cells, read
from enas.errors import UserError
from enas.estimator import Table
from enas.space import EnasMicro, NasBench101, Scale

SPACE = NasBench101()
REAL = Path(__file__).parents[3] / "shared" / "data" / "nasbench101"
Content = dict[str, NDArray[Any]]


def content() -> Content:
    """Three cells: input to output, with a 1x1 convolution and a pool side by side, and one after the other."""
    matrices = [
        [[0, 1], [0, 0]],
        [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]],
        [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]],
    ]
    bits = [
        sum(1 << (x + y * (y - 1) // 2) for x, line in enumerate(matrix) for y, set_ in enumerate(line) if set_)
        for matrix in matrices
    ]
    return {
        "n_vertices": np.array([2, 4, 4], np.uint8),
        "adj_bits": np.array(bits, np.uint32),
        "ops": np.array([[255] * 5, [1, 2, 255, 255, 255], [1, 2, 255, 255, 255]], np.uint8),
        "test_acc108": np.array([0.25, 0.5, 0.75], np.float32),
    }


def rows() -> torch.Tensor:
    """The three cells as rows: the second with its vertices in the other order, the third with a loose vertex."""
    edges = {
        0: {("output", "input")},
        1: {("vertex2", "input"), ("vertex4", "input"), ("output", "vertex2"), ("output", "vertex4")},
        2: {("vertex1", "input"), ("vertex3", "vertex1"), ("output", "vertex3"), ("vertex5", "vertex1")},
    }
    operations = {0: [2, 2, 2, 2, 2], 1: [0, 2, 0, 1, 0], 2: [1, 0, 2, 0, 1]}
    names = [decision.name.split("/") for decision in SPACE.decisions[:21]]
    return torch.tensor([[*(int(tuple(name) in edges[row]) for name in names), *operations[row]] for row in range(3)])


def test_isomorphic_rows_are_looked_up(tmp_path: Path) -> None:
    np.savez(tmp_path / "nasbench101.npz", **content())  # type: ignore[arg-type]
    for root in (tmp_path, tmp_path / "nasbench101.npz"):
        table = nasbench101(root)
        assert table.signal(rows()).tolist() == table.outcome(rows()).tolist() == [0.25, 0.5, 0.75]
    assert table.seconds(rows()) is None
    assert table.scale == Scale(3, 128, 32, 32, 3, 10)
    assert "a study of strategies" in table.signal_label
    with pytest.raises(UserError, match="space=enas_micro: the table nasbench101 knows"):
        table.check(EnasMicro())
    full = torch.ones(1, 26, dtype=torch.int64)  # more than nine edges
    with pytest.raises(UserError, match="no entry for the row"):
        table.signal(full)


def change(name: str, place: Any, value: Any) -> Callable[[Content], Content]:
    def changed(table: Content) -> Content:
        column = table[name].copy()
        column[place] = value
        return {**table, name: column}

    return changed


def repeated(table: Content) -> Content:
    return {name: np.concatenate([column, column[1:2]]) for name, column in table.items()}


def without_bits(table: Content) -> Content:
    return {name: column for name, column in table.items() if name != "adj_bits"}


def other_type(table: Content) -> Content:
    return {**table, "n_vertices": table["n_vertices"].astype(np.int64)}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (change("n_vertices", 1, 8), "no cell"),
        (change("n_vertices", 1, 1), "no cell"),
        (change("adj_bits", 1, 0), "no cell"),
        (change("adj_bits", 0, 3), "no cell"),
        (change("ops", (1, 0), 3), "no cell"),
        (change("ops", (0, 0), 1), "no cell"),
        (change("test_acc108", 1, np.nan), "no share in 0 to 1"),
        (change("test_acc108", 1, 93.0), "no share in 0 to 1"),
        (repeated, "more than once"),
        (without_bits, "not the compact table"),
        (other_type, "not the compact table"),
    ],
)
def test_a_table_of_something_else_is_refused(changed: Callable[[Content], Content], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **changed(content()))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=said):
        nasbench101(tmp_path / "t.npz")


def test_a_file_that_is_missing_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.root=.*nasbench101.npz: cannot be read: No such file"):
        nasbench101(tmp_path)
    (tmp_path / "t.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(UserError, match="it is damaged"):
        nasbench101(tmp_path / "t.npz")


@pytest.mark.skipif(not REAL.is_dir(), reason="the table is not beside the repository")
def test_every_cell_of_the_real_table_is_found_and_has_the_parameters_it_says() -> None:
    table = nasbench101(REAL)
    assert len(table.keys) == 423624
    assert float(table.outcomes.max()) == pytest.approx(0.943176, abs=1e-6)
    found = table.signal(SPACE.random(5000, generator()))  # none is missing
    assert 0.85 < float(found.mean()) < 0.92
    columns = read(REAL / "nasbench101.npz")
    edges, operations = (part[::20] for part in cells(REAL, columns))
    with np.load(REAL / "nasbench101.npz") as archive:
        expected = torch.from_numpy(archive["params"][::20].astype(np.int64))
    assert torch.equal(SPACE.cost(SPACE.rows(edges, operations), table.scale).params, expected)


def test_with_a_table_chance_draws_its_cells_alike(tmp_path: Path) -> None:
    np.savez(tmp_path / "nasbench101.npz", **content())  # type: ignore[arg-type]
    space, table = NasBench101(), nasbench101(tmp_path)
    assert table.rows is not None
    assert torch.equal(table.signal(table.rows.long()), table.signals)
    Table(space, table)
    drawn = space.random(3000, generator())
    assert space.legal(drawn).all()
    assert torch.equal(space.random(20, generator(1)), space.random(20, generator(1)))
    shares = [float((table.signal(drawn) == accuracy).double().mean()) for accuracy in (0.25, 0.5, 0.75)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.04)
    assert NasBench101().enumerated is None
