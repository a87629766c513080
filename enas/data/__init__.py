"""Data on the device: labelled images with augmented batches from a seeded generator, text, and tables of results."""

from collections.abc import Callable

from enas.data.batches import Augmentation, Batches, augment
from enas.data.benchmark import Benchmark
from enas.data.cifar import cifar10, cifar100
from enas.data.dataset import DataSet, Split, assemble
from enas.data.folder import folder
from enas.data.nasbench101 import nasbench101
from enas.data.nasbench201 import nasbench201
from enas.data.sources import digits, npz
from enas.data.text import Text, columns, text
from enas.kernels import normalise

DATA: dict[str, Callable[..., DataSet | Text | Benchmark]] = {
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "folder": folder,
    "npz": npz,
    "text": text,
    "nasbench101": nasbench101,
    "nasbench201": nasbench201,
}

__all__ = [
    "DATA",
    "Augmentation",
    "Batches",
    "Benchmark",
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
    "nasbench101",
    "nasbench201",
    "normalise",
    "npz",
    "text",
]
