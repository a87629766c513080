"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from their official directories, binary or python.

https://www.cs.toronto.edu/~kriz/cifar.html describes both forms.
"""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from os.path import expanduser, isfile
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from enas.data.batches import Augmentation
from enas.data.dataset import DataSet, Split, assemble
from enas.data.pickles import load_inert, to_array
from enas.errors import UserError

IMAGE_BYTES = 3 * 32 * 32

Content = TypeVar("Content")

# Images as stored, channel by channel and row by row, uint8 [N, 3072]; labels [N].
_Batch = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class _Form:
    """One way in which a data set lies on the disk."""

    folder: str  # as the official archive names it
    train: Sequence[str]
    test: Sequence[str]
    names: str  # the file of the class names
    read_batch: Callable[[Path], _Batch]
    read_names: Callable[[Path], list[str]]


def _read_binary(path: Path, label_bytes: int) -> _Batch:
    """Each image is `label_bytes` labels, the finest last, and 3,072 bytes of pixels."""
    content = np.frombuffer(path.read_bytes(), np.uint8)
    row = label_bytes + IMAGE_BYTES
    if len(content) == 0 or len(content) % row:
        raise ValueError(f"its {len(content)} bytes are no whole number of images of {row} bytes")
    rows = content.reshape(-1, row)
    return rows[:, label_bytes:], rows[:, label_bytes - 1].astype(np.int64)


def _read_text_names(path: Path) -> list[str]:
    return path.read_text("utf-8").split()


def _read_python(path: Path, key: str) -> _Batch:
    """A pickled dictionary of `data`, uint8 [N, 3072], and of a list of labels under `key`."""
    content = load_inert(path)
    images, labels = to_array(content.get("data")), content.get(key)
    if images.ndim != 2 or images.shape[1] != IMAGE_BYTES:
        raise ValueError(f"its images have the shape {images.shape}")
    if not isinstance(labels, list) or len(labels) != len(images) or not all(type(label) is int for label in labels):
        raise ValueError(f"it has no list {key!r} of one whole number for each of its {len(images)} images")
    return images, np.array(labels, np.int64)


def _read_python_names(path: Path, key: str) -> list[str]:
    names = load_inert(path).get(key)
    if not isinstance(names, list):
        raise ValueError(f"it has no list {key!r}")
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in names]


_BATCHES = [f"data_batch_{number}" for number in range(1, 6)]

_CIFAR10 = (
    _Form(
        folder="cifar-10-batches-bin",
        train=[f"{batch}.bin" for batch in _BATCHES],
        test=["test_batch.bin"],
        names="batches.meta.txt",
        read_batch=partial(_read_binary, label_bytes=1),
        read_names=_read_text_names,
    ),
    _Form(
        folder="cifar-10-batches-py",
        train=_BATCHES,
        test=["test_batch"],
        names="batches.meta",
        read_batch=partial(_read_python, key="labels"),
        read_names=partial(_read_python_names, key="label_names"),
    ),
)

_CIFAR100 = (
    _Form(
        folder="cifar-100-binary",
        train=["train.bin"],
        test=["test.bin"],
        names="fine_label_names.txt",
        read_batch=partial(_read_binary, label_bytes=2),
        read_names=_read_text_names,
    ),
    _Form(
        folder="cifar-100-python",
        train=["train"],
        test=["test"],
        names="meta",
        read_batch=partial(_read_python, key="fine_labels"),
        read_names=partial(_read_python_names, key="fine_label_names"),
    ),
)


def cifar10(
    root: str | Path,
    valid: int | float = 0.1,
    split_seed: int = 0,
    crop: int = 4,
    flip: bool = True,
    cutout: int = 0,
) -> DataSet:
    """CIFAR-10: 50,000 training and 10,000 test images of 32 x 32 x 3 pixels in 10 classes.

    Args:
        root: cifar-10-batches-bin, cifar-10-batches-py, or a directory that holds either; files with fewer
            images load too.
        valid: validation part of the training images, a fraction or a number; by default the published 5,000.
        split_seed: draws the validation part.
        crop, flip, cutout: see `Augmentation`.

    Raises UserError where files are missing or damaged, or a value is out of range.
    """
    augmentation = Augmentation(crop, flip, cutout)
    return _load("cifar10", _CIFAR10, 10, root, augmentation, valid, split_seed)


def cifar100(
    root: str | Path,
    valid: int | float = 0.1,
    split_seed: int = 0,
    crop: int = 4,
    flip: bool = True,
    cutout: int = 0,
) -> DataSet:
    """CIFAR-100 with its 100 fine classes, from cifar-100-binary or cifar-100-python; else as `cifar10`."""
    augmentation = Augmentation(crop, flip, cutout)
    return _load("cifar100", _CIFAR100, 100, root, augmentation, valid, split_seed)


def _load(
    name: str,
    forms: Sequence[_Form],
    class_count: int,
    root: str | Path,
    augmentation: Augmentation,
    valid: int | float,
    split_seed: int,
) -> DataSet:
    form, directory = _find(name, forms, Path(expanduser(root)))
    classes = _read(directory / form.names, form.read_names)
    if len(classes) != class_count:
        raise UserError(f"{directory / form.names} names {len(classes)} classes instead of {class_count}")
    train, test = (_read_split(directory, files, form, class_count) for files in (form.train, form.test))
    return assemble(name, train, classes, augmentation, valid=valid, test=test, split_seed=split_seed)


def _find(name: str, forms: Sequence[_Form], root: Path) -> tuple[_Form, Path]:
    """The first form that is in `root` or in its own folder there; where some of it is, all of it must be."""
    for form in forms:
        files = [*form.train, *form.test, form.names]
        for directory in (root, root / form.folder):
            missing = [file for file in files if not isfile(directory / file)]
            if not missing:
                return form, directory
            if len(missing) < len(files):
                raise UserError(f"data.root={root}: {directory} lacks {', '.join(missing)}: unpack the archive again")
    folders = " or ".join(form.folder for form in forms)
    raise UserError(
        f"data.root={root}: no {name} data there; it must be or hold {folders}, "
        "unpacked from an archive of https://www.cs.toronto.edu/~kriz/cifar.html (checksums in the README)"
    )


def _read(path: Path, read: Callable[[Path], Content]) -> Content:
    try:
        return read(path)
    except (OSError, ValueError, OverflowError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} cannot be read: {error}; unpack the archive again") from error


def _read_split(directory: Path, files: Sequence[str], form: _Form, class_count: int) -> Split:
    batches = [_read(directory / file, form.read_batch) for file in files]
    for file, (_, labels) in zip(files, batches, strict=True):
        if not ((labels >= 0) & (labels < class_count)).all():
            raise UserError(
                f"{directory / file} is damaged: it has a label outside 0 to {class_count - 1}; unpack again"
            )
    images = np.concatenate([images for images, _ in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = np.concatenate([labels for _, labels in batches])
    return Split(torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels))
