"""The table of NAS-Bench-201 (Dong and Yang, ICLR 2020), in a compact form.

A file is an .npz of plain arrays: `ops` uint8 [15625, 6] holds the rows of space nasbench201 in any order, each other
column of length 15,625 a quantity: accuracies in percent, `val12_DATASET` and `test200_DATASET` among them.
"""

from __future__ import annotations

from os.path import expanduser
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from enas.data.benchmark import Benchmark
from enas.errors import UserError
from enas.space import NasBench201, Scale, SearchSpace

FILE = "nasbench201.npz"
DATA_SETS = {"cifar10": (32, 10), "cifar100": (32, 100), "in16": (16, 120)}
"""Height and width of the images, and classes; in16 is ImageNet16-120."""
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "in16": "ImageNet16-120"}
CELLS, FILTERS = 5, 16
"""Cells of each of three stages and channels of the first, as published."""


class Columns:
    """The columns of a file, by row of nasbench201. `origin` is the key that named it, for messages.

    Raises UserError where it is missing, damaged or no such table.
    """

    def __init__(self, path: Path, origin: str):
        self._name = f"{origin}={path}"
        try:
            stream = path.open("rb")
        except OSError as error:
            raise UserError(f"{self._name}: cannot be read: {error.strerror}") from error
        try:
            with stream, np.load(stream, allow_pickle=False) as archive:
                columns: dict[str, NDArray[np.generic]] = {name: archive[name] for name in archive.files}
        except Exception as error:  # a damaged archive can raise almost any exception
            raise UserError(f"{self._name}: it is damaged, or no .npz file of plain arrays") from error
        rows = columns.pop("ops", None)
        sizes = NasBench201().sizes(torch.device("cpu"))
        if rows is None or rows.shape != (int(sizes.prod()), len(sizes)) or rows.dtype != np.uint8:
            raise UserError(f"{self._name}: not the compact table of NAS-Bench-201, whose `ops` is uint8 [15625, 6]")
        codes, order = number(torch.from_numpy(rows.astype(np.int64))).sort()
        if int(rows.max()) >= int(sizes[0]) or not torch.equal(codes, torch.arange(len(rows))):
            raise UserError(f"{self._name}: not every architecture of NAS-Bench-201 stands in it exactly once")
        self._columns = {
            name: torch.from_numpy(column.astype(np.float64))[order]
            for name, column in columns.items()
            if column.shape == (len(rows),) and column.dtype.kind in "fiu"
        }

    def accuracies(self, column: str, origin: str) -> Tensor:
        """float64 [15625] in 0..1, by the number of the row. Raises UserError where there is no such column."""
        known = [name for name in self._columns if name.startswith(("test", "val"))]
        if column not in known:
            raise UserError(f"{origin}={column}: {self._name} has {', '.join(known) or 'no accuracies'}")
        shares = self._columns[column] / 100
        if not bool(((shares >= 0) & (shares <= 1)).all()):  # false for NaN too
            raise UserError(f"{self._name}: {column} holds what is no percentage")
        return shares

    def seconds(self, column: str) -> Tensor | None:
        """float64 [15625]: what the column says of the cost of training; None where the file does not have it."""
        return self._columns.get(column)


def number(choices: Tensor) -> Tensor:
    """Rows int64 [n, 6] -> int64 [n]: the row read as a number to the base of five, its first digit the lowest."""
    code = torch.zeros_like(choices[:, 0])
    for operation in reversed(choices.unbind(dim=1)):
        code = 5 * code + operation
    return code


def look_up(path: Path, space: SearchSpace, choices: Tensor, column: str) -> Tensor:
    """What `column` of the file says of rows [n, 6] of `space`: float64 [n] in 0..1, for enas-rank.

    Raises UserError for another space, for a column the file does not have, and as `Columns` does.
    """
    columns = Columns(path, "table")
    if not isinstance(space, NasBench201):
        raise UserError(f"table={path}: it knows rows of space nasbench201, these are of {space.name}")
    return columns.accuracies(column, "column")[number(choices.cpu())]


def nasbench201(root: str | Path, dataset: Literal["cifar10", "cifar100", "in16"] = "cifar10") -> Benchmark:
    """The benchmark on one of its three data sets: what its authors measured of all 15,625 cells.

    The signal is the validation accuracy after 12 epochs, the outcome the test accuracy after 200 epochs.

    Args:
        root: the file, or a folder that holds it as nasbench201.npz.
        dataset: cifar10, cifar100, or in16 for ImageNet16-120.

    Raises UserError where the file is missing, damaged or no such table, and for another data set.
    """
    if dataset not in DATA_SETS:
        raise UserError(f"data.dataset={dataset}: allowed are {', '.join(DATA_SETS)}")
    path = Path(expanduser(root))
    columns = Columns(path / FILE if path.is_dir() else path, "data.root")
    size, classes = DATA_SETS[dataset]
    signals = columns.accuracies(f"val12_{dataset}", "data.dataset")
    return Benchmark(
        name=f"nasbench201-{dataset}",
        space=NasBench201.name,
        scale=Scale(CELLS, FILTERS, size, size, 3, classes),
        key=number,
        keys=torch.arange(len(signals)),
        signals=signals,
        outcomes=columns.accuracies(f"test200_{dataset}", "data.dataset"),
        costs=columns.seconds(f"seconds12_{dataset}"),
        signal_label=f"validation accuracy after 12 epochs, {TITLES[dataset]}",
        outcome_label=f"test accuracy after 200 epochs, {TITLES[dataset]}",
    )
