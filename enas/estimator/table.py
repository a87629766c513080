"""What others measured: accuracies of every architecture of a benchmark, read from a table.

The compact form of NAS-Bench-201 is an .npz file: `ops` uint8 [N, 6] holds the rows, each other column of length N a
quantity, accuracies in percent. It holds all 15,625 rows, trained for 200 epochs by the benchmark's authors (Dong and
Yang, ICLR 2020).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from enas.errors import UserError
from enas.space import NasBench201, SearchSpace


class AccuracyTable:
    """The columns of a table, by row of `nasbench201`. Raises UserError for a file that is no such table."""

    def __init__(self, path: Path):
        self.path = path
        try:
            stream = path.open("rb")
        except OSError as error:
            raise UserError(f"table={path}: cannot be read: {error.strerror}") from error
        try:
            with stream, np.load(stream, allow_pickle=False) as archive:
                columns: dict[str, NDArray[np.generic]] = {name: archive[name] for name in archive.files}
        except Exception as error:  # a damaged archive can raise almost any exception
            raise UserError(f"table={path}: it is damaged, or no .npz file of plain arrays") from error
        rows = columns.pop("ops", None)
        sizes = NasBench201().sizes(torch.device("cpu"))
        if rows is None or rows.shape != (int(sizes.prod()), len(sizes)) or rows.dtype != np.uint8:
            raise UserError(f"table={path}: not the compact table of NAS-Bench-201, whose `ops` is uint8 [15625, 6]")
        self._columns = {name: column for name, column in columns.items() if column.shape == (len(rows),)}
        self._powers = torch.cumprod(sizes, 0) // sizes
        codes = (torch.from_numpy(rows.astype(np.int64)) * self._powers).sum(dim=1)
        if not torch.equal(codes.sort().values, torch.arange(len(rows))):
            raise UserError(f"table={path}: not every architecture of NAS-Bench-201 stands in it exactly once")
        self._places = codes.argsort()

    def accuracies(self, space: SearchSpace, choices: Tensor, column: str) -> Tensor:
        """Rows [n, 6] of `space` -> float64 [n]: what `column` says of them, as a share in 0..1.

        Raises UserError for another space, and for a column the table does not have.
        """
        if not isinstance(space, NasBench201):
            raise UserError(f"table={self.path}: it knows rows of space nasbench201, these are of {space.name}")
        known = [name for name in self._columns if name.startswith(("test", "val"))]
        if column not in known:
            raise UserError(f"column={column}: {self.path} has {', '.join(known)}")
        places = self._places[(choices.cpu() * self._powers).sum(dim=1)]
        return torch.from_numpy(self._columns[column].astype(np.float64))[places] / 100
