"""The table of NAS-Bench-101 (Ying et al., ICML 2019), in a compact form.

A file is an .npz of plain arrays, an entry for each of N cells: `n_vertices` uint8 [N], 2 to 7; `adj_bits` uint32 [N],
bit x + y (y - 1) / 2 is the edge x -> y, the last vertex the output; `ops` uint8 [N, 5], 0 conv3x3-bn-relu,
1 conv1x1-bn-relu, 2 maxpool3x3, 255 where there is no such vertex; `test_acc108` float32 [N], the mean test accuracy of
three runs of 108 epochs in 0..1. It has no validation accuracy and no seconds.
"""

from __future__ import annotations

from os.path import expanduser
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from enas.data.benchmark import Benchmark
from enas.errors import UserError
from enas.space import NasBench101, Scale
from enas.space.nasbench101_cell import EDGES, FIRST, INNER, OPERATIONS, OUTPUT, VERTICES, is_legal
from enas.space.nasbench101_cell import number as number_cells

FILE = "nasbench101.npz"
SCALE = Scale(layers=3, filters=128, height=32, width=32, channels=3, classes=10)
"""As published: three cells in each stack, 128 channels in the first, CIFAR-10."""
SPACE = NasBench101()
NO_VERTEX = 255


def number(choices: Tensor) -> Tensor:
    """Rows int64 [n, 26] -> int64 [n]: one number for all isomorphic cells."""
    return number_cells(SPACE.matrices(choices), choices[:, len(EDGES) :])


def nasbench101(root: str | Path) -> Benchmark:
    """The benchmark: what its authors measured of all 423,624 cells on CIFAR-10.

    Only the test accuracy is at hand, so that signal and outcome are one and the same: a study of strategies, which
    says how fast they find the best of the table, and no claim about networks.

    Args:
        root: the file, or a folder that holds it as nasbench101.npz.

    Raises UserError where the file is missing, damaged or no such table.
    """
    path = Path(expanduser(root))
    path = path / FILE if path.is_dir() else path
    columns = read(path)
    edges, operations = cells(path, columns)
    keys, order = number_cells(edges, operations).sort()
    if bool((keys[1:] == keys[:-1]).any()):
        raise UserError(f"data.root={path}: a cell stands in it more than once")
    accuracies = torch.from_numpy(columns["test_acc108"].astype(np.float64))[order]
    if not bool(((accuracies >= 0) & (accuracies <= 1)).all()):  # false for NaN too
        raise UserError(f"data.root={path}: test_acc108 holds what is no share in 0 to 1")
    label = "mean test accuracy after 108 epochs, CIFAR-10"
    return Benchmark(
        name="nasbench101",
        space=NasBench101.name,
        scale=SCALE,
        key=number,
        keys=keys,
        signals=accuracies,
        outcomes=accuracies,
        costs=None,
        signal_label=f"{label} (a study of strategies: no validation accuracy is at hand)",
        outcome_label=label,
        rows=torch.cat([edges[:, None] >> torch.arange(len(EDGES)) & 1, operations], dim=1).to(torch.uint8)[order],
    )


def read(path: Path) -> dict[str, NDArray[np.generic]]:
    """The four columns."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise UserError(f"data.root={path}: cannot be read: {error.strerror}") from error
    kinds = {"n_vertices": np.uint8, "adj_bits": np.uint32, "ops": np.uint8, "test_acc108": np.float32}
    try:
        with stream, np.load(stream, allow_pickle=False) as archive:
            columns = {name: archive[name] for name in kinds if name in archive.files}
    except Exception as error:  # a damaged archive can raise almost any exception
        raise UserError(f"data.root={path}: it is damaged, or no .npz file of plain arrays") from error
    count = len(columns.get("adj_bits", ()))
    shapes = {name: (count, INNER) if name == "ops" else (count,) for name in kinds}
    for name, kind in kinds.items():
        if count == 0 or name not in columns or columns[name].dtype != kind or columns[name].shape != shapes[name]:
            raise UserError(
                f"data.root={path}: not the compact table of NAS-Bench-101, "
                "whose columns are n_vertices, adj_bits, ops and test_acc108"
            )
    return columns


def cells(path: Path, columns: dict[str, NDArray[np.generic]]) -> tuple[Tensor, Tensor]:
    """Matrices int64 [N] of seven vertices, the last the output, and operations int64 [N, 5], 0 for no vertex."""
    sizes, bits, operations = (
        torch.from_numpy(columns[name].astype(np.int64)) for name in ("n_vertices", "adj_bits", "ops")
    )
    edges = torch.zeros_like(bits)
    for size in range(2, VERTICES + 1):
        own, last = sizes == size, FIRST[size - 1]
        # The edges into the last vertex are those into the seventh.
        edges[own] = (bits[own] & ((1 << last) - 1)) | (bits[own] >> last << FIRST[OUTPUT])
    vertices = torch.arange(1, OUTPUT)
    present = vertices < sizes[:, None] - 1
    known = torch.where(present, operations < len(OPERATIONS), operations == NO_VERTEX).all(dim=1)
    inside = bits >> (sizes * (sizes - 1) // 2) == 0
    if not bool((known & inside & (sizes >= 2) & (sizes <= VERTICES) & is_legal(edges)).all()):
        raise UserError(f"data.root={path}: it holds what is no cell of NAS-Bench-101")
    return edges, torch.where(present, operations, 0)
