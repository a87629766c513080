"""Data on the device: labelled images with augmented batches from a seeded generator, and text."""

from collections.abc import Callable

from enas.data.batches import Augmentation, Batches, augment
from enas.data.cifar import cifar10, cifar100
from enas.data.dataset import DataSet, Split, assemble
from enas.data.folder import folder
from enas.data.sources import digits, npz
from enas.data.text import Text, columns, text
from enas.kernels import normalise

DATA: dict[str, Callable[..., DataSet | Text]] = {
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "folder": folder,
    "npz": npz,
    "text": text,
}

__all__ = [
    "DATA",
    "Augmentation",
    "Batches",
    "DataSet",
    "Split",
    "Text",
    "assemble",
    "augment",
    "cifar10",
    "cifar100",
    "columns",
    "digits",
    "folder",
    "normalise",
    "npz",
    "text",
]
