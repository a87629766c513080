"""Labelled images on the device: data sets, their splits, and augmented batches from a seeded generator."""

from collections.abc import Callable

from enas.data.batches import Augmentation, Batches, augment
from enas.data.cifar import cifar10, cifar100
from enas.data.dataset import DataSet, Split, assemble
from enas.data.folder import folder
from enas.data.sources import digits, npz
from enas.kernels import normalise

DATA: dict[str, Callable[..., DataSet]] = {
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "folder": folder,
    "npz": npz,
}

__all__ = [
    "DATA",
    "Augmentation",
    "Batches",
    "DataSet",
    "Split",
    "assemble",
    "augment",
    "cifar10",
    "cifar100",
    "digits",
    "folder",
    "normalise",
    "npz",
]
