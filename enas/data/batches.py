"""Batches of a split: which images come next, and what is done to them on the device."""

from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from enas import kernels
from enas.errors import UserError


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a training image: crop, flip and cutout (DeVries and Taylor 2017, arXiv:1708.04552).

    Raises UserError where a number is negative.
    """

    crop: int = 0  # pixels of padding on each side before the random crop back to the image's size
    flip: bool = False  # mirror left and right, for one image in two
    cutout: int = 0  # side in pixels of a square blanked around a random pixel, clipped at the border

    def __post_init__(self) -> None:
        for key, pixels in (("crop", self.crop), ("cutout", self.cutout)):
            if pixels < 0:
                raise UserError(f"data.{key}={pixels}: allowed is 0 (off) or a number of pixels above it")


def draw_changes(
    count: int, height: int, width: int, augmentation: Augmentation, generator: torch.Generator
) -> kernels.Changes:
    """Random changes for `count` images of height x width pixels, on the generator's device.

    The same numbers are drawn whatever is switched off, but for the flips.
    """

    def draw(alternatives: int) -> Tensor:  # int64 [N, 1], uniform in 0 .. alternatives - 1
        return torch.randint(alternatives, (count, 1), generator=generator, device=generator.device)

    shifts = torch.cat([draw(2 * augmentation.crop + 1), draw(2 * augmentation.crop + 1)], dim=1) - augmentation.crop
    no_flips = torch.zeros(count, dtype=torch.bool, device=generator.device)
    flips = draw(2)[:, 0].bool() if augmentation.flip else no_flips
    corners = torch.cat([draw(height), draw(width)], dim=1) - augmentation.cutout // 2
    return kernels.Changes(shifts, flips, corners, augmentation.cutout)


def augment(
    images: Tensor,
    indices: Tensor,
    mean: Tensor,
    std: Tensor,
    augmentation: Augmentation,
    generator: torch.Generator,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Images at `indices`, normalised after a random crop and flip of each; padding and a square of cutout are blank.

    Blank is zero *after* normalisation; see `kernels.augment`. The whole batch stays on its device, without a
    synchronisation with the host.

    Args:
        images: uint8 [S, H, W, C].
        indices: int64 [...]; every one has its own random changes.
        mean, std: [C], in units of pixel values from 0 to 1.
        generator: the only source of randomness, on the images' device.
        dtype: float32, float64 or bfloat16; None for the type of `mean`, in which everything is computed.

    Returns:
        [..., H, W, C] of type `dtype`.
    """
    height, width, channels = images.shape[1:]
    changes = draw_changes(indices.numel(), height, width, augmentation, generator)
    inputs = kernels.augment(images, indices.flatten(), changes, mean, std, dtype)
    return inputs.view(*indices.shape, height, width, channels)


class BatchesState(TypedDict):
    """Where a stream of batches stands; loadable with `torch.load(weights_only=True)`."""

    order: Tensor  # int64 [size]; [0] before the first batch
    position: int


class Batches:
    """Endless stream of index batches over a split: a new permutation in each epoch, whole batches only.

    A last, short batch is dropped (other images are left out in the next epoch); a split smaller than one
    batch gives itself whole. Nothing is drawn from `generator` before the first `next`.

    Args:
        size: number of images, at least 1.
        batch_size: number of indices a batch, at least 1.
        generator: gives the permutations, on its own device; its state is saved by its owner.

    Raises ValueError where `size` or `batch_size` is below 1.
    """

    def __init__(self, size: int, batch_size: int, generator: torch.Generator) -> None:
        if size < 1 or batch_size < 1:
            raise ValueError(f"size={size}, batch_size={batch_size}: both must be at least 1")
        self.size = size
        self.batch_size = min(batch_size, size)
        self._generator = generator
        self._order = torch.empty(0, dtype=torch.int64, device=generator.device)
        self._position = 0

    @property
    def steps(self) -> int:
        """Batches in one epoch."""
        return self.size // self.batch_size

    def next(self) -> Tensor:
        """The next batch of indices, int64 [B] on the generator's device."""
        if self._position + self.batch_size > len(self._order):
            self._order = torch.randperm(self.size, generator=self._generator, device=self._generator.device)
            self._position = 0
        start, self._position = self._position, self._position + self.batch_size
        return self._order[start : self._position]

    def state_dict(self) -> BatchesState:
        """The permutation under way and the position in it."""
        return {"order": self._order, "position": self._position}

    def load_state_dict(self, state: BatchesState) -> None:
        """Continue where `state` was taken, in mid-epoch too; UserError where the split had another size."""
        order = state["order"]
        if len(order) not in (0, self.size):
            raise UserError(
                f"the checkpoint's training split has {len(order)} images, the data set's has {self.size}: "
                "resume with the same data, or start a new run"
            )
        self._order = order.to(self._generator.device)
        self._position = state["position"]
