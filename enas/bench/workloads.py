"""The searches that are compared as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from enas.data import Augmentation, DataSet, Split, assemble, cifar10, digits
from enas.randomness import seeded

CIFAR, DIGITS = "search/cifar", "search/digits"


@dataclass(frozen=True)
class Workload:
    """One search.

    data     the images, all of them on the device
    updates  of the strategy in an epoch, each on `samples` rows, of which as many are scored at the epoch's end
    slow     training steps of a segment on a CPU; None for the whole epoch
    """

    name: str
    data: DataSet
    layers: int
    filters: int
    batch_size: int
    updates: int
    samples: int
    clip: float | None
    slow: int | None

    @property
    def steps(self) -> int:
        """Training steps of an epoch."""
        return len(self.data.train) // self.batch_size


def workloads(seed: int, root: str | None, batch_size: int | None) -> dict[str, Callable[[], Workload]]:
    """The published search (melodyguan/enas, scripts/cifar10_micro_search.sh) and the default one on digits, by name.

    root        of CIFAR-10; None for random images of its size, which take the same time
    batch_size  instead of their own
    """

    def published() -> Workload:
        images = random_images(45_000, 5_000, seed) if root is None else cifar10(root)
        return Workload(CIFAR, images, 6, 20, batch_size or 160, updates=30, samples=10, clip=None, slow=1)

    def default() -> Workload:
        return Workload(DIGITS, digits(), 3, 16, batch_size or 64, updates=10, samples=10, clip=5.0, slow=None)

    return {CIFAR: published, DIGITS: default}


def random_images(train: int, valid: int, seed: int) -> DataSet:
    """Random images of CIFAR's size with its augmentation."""
    generator = seeded(seed, "pixels")

    def split(count: int) -> Split:
        pixels = torch.randint(0, 256, (count, 32, 32, 3), generator=generator, dtype=torch.uint8)
        return Split(pixels, torch.arange(count) % 10)

    held = split(valid)
    classes = [str(label) for label in range(10)]
    return assemble("random", split(train), classes, Augmentation(crop=4, flip=True), valid=held, test=held)
