"""From the official files of NAS-Bench-201 and NATS-Bench to the compact table that `data=nasbench201` reads.

    python -m enas.data.nasbench201_official NATS-tss-v1_0-3ffb9-simple nasbench201.npz

Official are a folder of one pickle a row (NATS-tss-v1_0-3ffb9-simple), all of them in one pickle
(NATS-tss-v1_0-3ffb9.pickle.pbz2), or the older torch file (NAS-Bench-201-v1_1-096897.pth). A pickle is a program; here
nothing in it is run: containers, numbers and texts are read, and any other name is refused.
"""

from __future__ import annotations

import argparse
import bz2
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from enas.errors import UserError
from enas.files import written_whole
from enas.space import NasBench201

SPACE = NasBench201()
ROWS = 5**6
TRIALS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "val": {
        "cifar10": ("cifar10-valid", "x-valid"),
        "cifar100": ("cifar100", "x-valid"),
        "in16": ("ImageNet16-120", "x-valid"),
    },
    "test": {
        "cifar10": ("cifar10", "ori-test"),
        "cifar100": ("cifar100", "x-test"),
        "in16": ("ImageNet16-120", "x-test"),
    },
}
"""What was trained on, and what it was evaluated on. For CIFAR-10 the authors trained twice: with half of the training
images, validated on the other half, and with all of them, tested."""
NUMBERS = {"f8": np.float64, "f4": np.float32, "i8": np.int64, "i4": np.int32}
"""Types of numpy's numbers."""


class Column(NamedTuple):
    """One column of the table: accuracies of a `part`, or seconds, after so many epochs."""

    part: str
    epochs: int
    seconds: bool

    def name(self, dataset: str) -> str:
        return f"{'seconds' if self.seconds else self.part}{self.epochs}_{dataset}"


COLUMNS = (
    Column("val", 12, False),
    Column("test", 12, False),
    Column("test", 200, False),
    Column("val", 12, True),
    Column("test", 200, True),
)


class _NumberType:
    """Stands for numpy.dtype: knows the name of a type alone."""

    def __init__(self, name: str, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        """Byte order, which `_number` does not need: little-endian is all that there is."""


def _number(kind: _NumberType, content: bytes) -> float | int:
    """Stands for numpy's maker of a number."""
    found: float | int = np.frombuffer(content, NUMBERS[kind.name])[0].item()
    return found


STAND_INS: Mapping[str, Callable[..., Any]] = {
    "collections.OrderedDict": OrderedDict,
    "numpy.dtype": _NumberType,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
}
"""The names that a file may use, under numpy 1 and 2, and what stands for them here."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = STAND_INS.get(f"{module}.{name}")
        if known is None:
            raise pickle.UnpicklingError(f"it names {f'{module}.{name}'!r}, which results have no use for")
        return known


def read_rows(source: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The architectures of an official file or folder: the official string, and results by "12" and "200" epochs.

    Raises UserError where it cannot be read, or is none.
    """
    if source.is_dir():
        names = _read_pickle(source / "meta.pickle.pbz2")["meta_archs"]
        for place, name in enumerate(names):
            path = source / f"{place:06d}.pickle.pbz2"
            if path.exists():
                yield name, _read_pickle(path)
        return
    content = _read_torch(source) if source.suffix == ".pth" else _read_pickle(source)
    if not {"meta_archs", "arch2infos"} <= content.keys():
        raise UserError(f"{source}: not an official file, it has no meta_archs and arch2infos")
    for place, results in content["arch2infos"].items():
        old = {"12": "less", "200": "full"}
        yield content["meta_archs"][place], {new: results[old[new] if old[new] in results else new] for new in old}


def _read_pickle(path: Path) -> dict[str, Any]:
    try:
        with bz2.open(path, "rb") as file:
            content = _Unpickler(file).load()
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle can raise almost any exception
        raise UserError(f"{path}: cannot be read ({error})") from error
    return _as_dictionary(path, content)


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals([(made, name) for name, made in STAND_INS.items()]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive can raise almost any exception
        raise UserError(f"{path}: cannot be read without running what is in it ({error})") from error
    return _as_dictionary(path, content)


def _as_dictionary(path: Path, content: object) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UserError(f"{path}: it holds no dictionary")
    return content


def measure(results: Mapping[str, Any], column: Column, dataset: str) -> float:
    """One entry of the table: the mean over all seeds; NaN for seconds that were not recorded.

    Seconds of a validated network are those of its training and of one pass over the validation images, as the
    authors count what a search spends; of a tested network, those of its training.
    """
    trained, evaluated = TRIALS[column.part][dataset]
    state = results[str(column.epochs)]
    runs = [state["all_results"][trained, seed] for seed in state["dataset_seed"][trained]]
    return float(np.mean([_measure_run(run, column, evaluated) for run in runs]))


def _measure_run(run: Mapping[str, Any], column: Column, evaluated: str) -> float:
    last = f"{evaluated}@{run['epochs'] - 1}"
    if run["epochs"] != column.epochs:
        raise ValueError(f"a run has {run['epochs']} epochs, not {column.epochs}")
    if not column.seconds:
        return float(run["eval_acc1es"][last])
    if run["train_times"] is None or (column.part == "val" and not run["eval_times"]):
        return float("nan")
    training = sum(run["train_times"][epoch] for epoch in range(column.epochs))
    return float(training + run["eval_times"][last] if column.part == "val" else training)


def convert(source: Path, target: Path, progress: bool = True) -> list[str]:
    """Write the compact table `target` from the official file or folder `source`; the names of its columns.

    Seconds are left out where a row lacks them. Raises UserError where `source` cannot be read, a row is missing or
    unlike the official ones, or `target` exists.
    """
    if target.exists():
        raise UserError(f"{target}: exists already")
    rows: list[list[int]] = []
    entries: dict[str, list[float]] = {}
    for name, results in tqdm(read_rows(source), total=ROWS, unit="row", disable=not progress):
        try:
            rows.append(SPACE.parse(name))
            for dataset in TRIALS["val"]:
                for column in COLUMNS:
                    entries.setdefault(column.name(dataset), []).append(measure(results, column, dataset))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{source}: the results of {name} are not as the official ones ({error!r})") from error
    if len({tuple(row) for row in rows}) != ROWS or len(rows) != ROWS:
        raise UserError(f"{source}: it has results of {len(rows)} rows, needed are all {ROWS}, each once")
    table: dict[str, NDArray[Any]] = {name: np.array(values) for name, values in entries.items()}
    table = {name: values for name, values in table.items() if not np.isnan(values).any()}
    with written_whole(target) as file:
        np.savez_compressed(file, ops=np.array(rows, np.uint8), **table)  # type: ignore[arg-type]
    return list(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 2 after a mistake that is told in one sentence."""
    parser = argparse.ArgumentParser(prog="python -m enas.data.nasbench201_official", description=__doc__)
    parser.add_argument("source", type=Path, help="official file or folder")
    parser.add_argument("target", type=Path, help="compact table to write, nasbench201.npz")
    given = parser.parse_args(arguments)
    try:
        names = convert(given.source.expanduser(), given.target.expanduser())
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{given.target}: {', '.join(names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
