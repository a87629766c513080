"""A data set: three splits of labelled images, and how training images are normalised and augmented."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from enas import kernels
from enas.data.batches import Augmentation, augment
from enas.errors import UserError

# The test part must not move with `split_seed`: results of different seeds are compared on it.
TEST_SEED = 20260101


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images, held as they are stored: normalisation and augmentation are done a batch at a time."""

    images: Tensor  # uint8 [N, H, W, C]
    labels: Tensor  # int64 [N]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> "Split":
        """The images at `indices`, int64 [M]."""
        return Split(self.images[indices], self.labels[indices])

    def to(self, device: torch.device | str) -> "Split":
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class DataSet:
    """Training, validation and test images of one task; `assemble` makes one from parts."""

    material: ClassVar[Literal["images", "text"]] = "images"
    unit: ClassVar[str] = "images"

    name: str
    train: Split
    valid: Split
    test: Split
    classes: tuple[str, ...]  # the name of each label
    mean: Tensor  # float32 [C], of the training split, in units of pixel values from 0 to 1
    std: Tensor  # float32 [C], likewise; 1 for a channel that is constant
    augmentation: Augmentation
    storage: torch.dtype | None = None  # the type of network inputs; None: that of `mean`

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @property
    def extents(self) -> tuple[int, int, int, int]:
        """(height, width, channels, classes) of a scale."""
        return *self.image_shape, len(self.classes)

    def to(self, device: torch.device | str) -> "DataSet":
        """The same data set on another device."""
        return replace(
            self,
            train=self.train.to(device),
            valid=self.valid.to(device),
            test=self.test.to(device),
            mean=self.mean.to(device),
            std=self.std.to(device),
        )

    def stored_as(self, storage: torch.dtype) -> "DataSet":
        """The same data set, whose network inputs have the type `storage`."""
        return replace(self, storage=storage)

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.train.labels.device

    def documents(self) -> Mapping[str, Any]:
        """JSON files that belong into a run directory, by name: none."""
        return {}

    def batch(self, split: Split, indices: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Network inputs and labels of some images of a split.

        Args:
            indices: int64 [B], or [M, B] for M children with their own images, on the split's device.
            generator: on the split's device; given, the images are augmented; None, they are only normalised.

        Returns:
            [..., H, W, C] in the type of storage and int64 [...], where ... is the shape of `indices`.
        """
        dtype = self.storage or self.mean.dtype
        if generator is not None:
            inputs = augment(split.images, indices, self.mean, self.std, self.augmentation, generator, dtype)
        else:
            inputs = kernels.augment(split.images, indices.flatten(), None, self.mean, self.std, dtype)
            inputs = inputs.view(*indices.shape, *self.image_shape)
        return inputs, split.labels[indices]

    def sample(self, batch_size: int, batches: int = 4) -> list[Tensor]:
        """The same few training batches at every call, not augmented: [1, B, H, W, C] each.

        For batch-norm statistics that are estimated again.
        """
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(0))
        drawn = torch.split(order[: batches * batch_size], min(batch_size, len(order)))
        whole = [indices for indices in drawn if len(indices) == len(drawn[0])]
        device = self.train.labels.device
        return [self.batch(self.train, indices.to(device), None)[0].unsqueeze(0) for indices in whole]


def assemble(
    name: str,
    train: Split,
    classes: Sequence[str],
    augmentation: Augmentation,
    *,
    valid: Split | int | float,
    test: Split | int | float,
    split_seed: int = 0,
) -> DataSet:
    """Cut the validation and test parts out of `train`, unless they are given, and measure what remains.

    A part is a number of images, or a fraction of `train` (for `valid`: of what is left after `test`),
    stratified by class. `valid` may be 0: published recipes train the final network on all images. The test
    part is the same whatever `split_seed` is.

    Raises UserError for fewer than two classes, a class without images in some part, a part out of range, and
    an augmentation too large for the images.
    """
    if len(classes) < 2:
        raise UserError(f"the {name} data has {len(classes)} class(es): at least 2 are needed")
    if not 0 <= split_seed < 2**63:
        raise UserError(f"data.split_seed={split_seed}: allowed is a whole number from 0 to 2^63 - 1")
    shapes = {tuple(split.images.shape[1:]) for split in (train, valid, test) if isinstance(split, Split)}
    if len(shapes) > 1:
        raise UserError(f"the splits of the {name} data have images of different shapes {sorted(shapes)}")
    height, width, _ = shapes.pop()
    for key, pixels in (("crop", augmentation.crop), ("cutout", augmentation.cutout)):
        if pixels >= min(height, width):
            raise UserError(f"data.{key}={pixels}: allowed is less than the image's side, {min(height, width)}")
    if not isinstance(test, Split):
        train, test = _cut(train, classes, "test", test, TEST_SEED)
    if not isinstance(valid, Split):
        train, valid = _cut(train, classes, "valid", valid, split_seed)
    if len(test) == 0:
        raise UserError(f"the {name} data has no test image: at least one is needed")
    mean, std = _moments(train.images)
    return DataSet(name, train, valid, test, tuple(classes), mean, std, augmentation)


def stratified(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw `count` of N images by class: each gives its share, by largest remainder, and at least one.

    Args:
        labels: int64 [N].
        count: at least the number of classes.

    Returns:
        The indices of the N - count others and of the images drawn, int64, each in ascending order.
    """
    sizes = torch.bincount(labels)
    shares = sizes * count // len(labels)
    remainders = sizes * count % len(labels)
    unallotted = count - int(shares.sum())
    shares[remainders.argsort(descending=True, stable=True)[:unallotted]] += 1
    for label in (shares == 0).nonzero().flatten():
        shares[shares.argmax()] -= 1
        shares[label] = 1
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.zeros(len(labels), dtype=torch.bool)
    for label, share in enumerate(shares.tolist()):
        members = (labels == label).nonzero().flatten()
        drawn[members[torch.randperm(len(members), generator=generator)[:share]]] = True
    return (~drawn).nonzero().flatten(), drawn.nonzero().flatten()


def _cut(split: Split, classes: Sequence[str], key: str, part: int | float, seed: int) -> tuple[Split, Split]:
    """The split without a stratified part of it, and that part."""
    if isinstance(part, int) and (part == 0 or len(classes) <= part < len(split)):
        count = part
    elif isinstance(part, float) and 0 < part < 1:
        count = max(round(part * len(split)), len(classes))
    else:
        raise UserError(
            f"data.{key}={part}: allowed is a fraction between 0 and 1, or a whole number of images "
            f"from {len(classes)}, one a class, to {len(split) - 1}"
        )
    if count == 0:
        return split, split[torch.empty(0, dtype=torch.int64)]
    rest, drawn = (split[indices] for indices in stratified(split.labels, count, seed))
    for label, left in enumerate(torch.bincount(rest.labels, minlength=len(classes)).tolist()):
        if left == 0:
            raise UserError(f"data.{key}={part}: no image of class {classes[label]!r} would be left")
    return rest, drawn


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, float32 [C], of pixel values from 0 to 1.

    From the histogram of each channel: exact whatever the thread count, and with no float copy of the images.
    """
    channels = images.reshape(-1, images.shape[-1]).T
    histograms = torch.stack([channel.bincount(minlength=256) for channel in channels])
    share = histograms.double() / histograms.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(1)
    std = torch.where(variance > 0, variance.sqrt(), torch.ones_like(variance))
    return mean.float(), std.float()
