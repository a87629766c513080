"""Augmentation: the native gather gives every bit of the definition."""

import pytest
import torch
from torch import Tensor

from conformance import generator
from enas.data import Augmentation
from enas.data.batches import draw_changes
from enas.kernels import Changes, augmentation
from enas.kernels.native import augment, load
from kernels.device import HostDevice

load()

TYPES = [torch.float32, torch.float64, torch.bfloat16]


def pictures(count: int, height: int, width: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random images, and a mean and deviation that are no round numbers."""
    random = generator(0)
    images = torch.randint(256, (count, height, width, channels), dtype=torch.uint8, generator=random)
    mean, std = (torch.rand(2, channels, generator=random) + 0.1).unbind()
    return images, mean, std


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (32, 32)], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 33])
def test_native_augmentation_is_exact(size: tuple[int, int], channels: int, dtype: torch.dtype) -> None:
    images, mean, std = pictures(7, *size, channels)
    random = generator(1)
    indices = torch.randint(7, (20,), generator=random)  # some of them twice
    side = min(size)
    for crop, flip, cutout in [(0, False, 0), (side - 1, True, side - 1), (min(4, side - 1), True, side // 2)]:
        changes = draw_changes(20, *size, Augmentation(crop, flip, cutout), random)
        expected = augmentation.augment(images, indices, changes, mean, std, dtype)
        found = augment(images, indices, changes, mean, std, dtype)
        assert found.dtype == expected.dtype == dtype
        assert torch.equal(found, expected)
    for own_mean, own_std in ((mean, std), (mean.double(), std.double())):
        expected = augmentation.augment(images, indices, None, own_mean, own_std, dtype)
        assert torch.equal(augment(images, indices, None, own_mean, own_std, dtype), expected)


def test_every_pixel_value_is_exact() -> None:
    """All 256 of them, with the published mean and deviation of CIFAR-10's first channel."""
    images = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)
    mean, std, index = torch.tensor([0.4914]), torch.tensor([0.2470]), torch.tensor([0])
    found = augment(images, index, None, mean, std, torch.float32)
    assert torch.equal(found, augmentation.normalise(images, mean, std))


def test_shifts_and_squares_far_outside_blank_everything() -> None:
    images, mean, std = pictures(2, 4, 5, 2)
    indices, flips = torch.tensor([1, 0]), torch.tensor([True, False])
    near, far = torch.zeros(2, 2, dtype=torch.int64), torch.tensor([[2**40, 0], [0, -(2**40)]])
    for changes in (Changes(far, flips, near, 0), Changes(near, flips, near, 99)):
        assert not augment(images, indices, changes, mean, std, torch.float32).any()
    kept = augment(images, indices, Changes(near, flips, far, 3), mean, std, torch.float32)
    assert torch.equal(kept, augmentation.augment(images, indices, Changes(near, flips, far, 3), mean, std))


def test_no_images_give_none() -> None:
    images, mean, std = pictures(2, 4, 5, 2)
    nothing = torch.empty(0, dtype=torch.int64)
    changes = draw_changes(0, 4, 5, Augmentation(crop=2, flip=True, cutout=2), generator(0))
    assert augment(images, nothing, changes, mean, std, torch.float32).shape == (0, 4, 5, 2)


def test_an_index_outside_the_images_is_refused() -> None:
    images, mean, std = pictures(2, 4, 5, 2)
    for index in (-1, 2):
        with pytest.raises(RuntimeError, match="an index is outside the images"):
            augment(images, torch.tensor([index]), None, mean, std, torch.float32)


def test_torch_knows_its_schema_and_shapes() -> None:
    images, mean, std = pictures(3, 4, 5, 2)
    changes = draw_changes(2, 4, 5, Augmentation(crop=2, flip=True, cutout=2), generator(0))
    torch.library.opcheck(
        torch.ops.enas.augment.default, (images, torch.tensor([2, 0]), *changes, mean, std, torch.float32)
    )


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_device_code_is_exact(device: HostDevice, dtype: torch.dtype) -> None:
    images, mean, std = pictures(5, 6, 7, 3)
    indices = torch.tensor([4, 0, 0, 3])
    changes = draw_changes(4, 6, 7, Augmentation(crop=2, flip=True, cutout=2), generator(0))
    for own_mean, own_std in ((mean, std), (mean.double(), std.double())):
        (found,) = device.call("augment", images, indices, *changes, own_mean, own_std, dtype)
        assert torch.equal(found, augmentation.augment(images, indices, changes, own_mean, own_std, dtype))


def test_device_code_gives_nan_for_an_index_outside_the_images(device: HostDevice) -> None:
    """It reads nothing there, and the host does not wait to be told."""
    images, mean, std = pictures(2, 4, 5, 2)
    arguments = (None, None, None, 0, mean, std, torch.float32)
    (found,) = device.call("augment", images, torch.tensor([-1, 1, 2]), *arguments)
    assert found[[0, 2]].isnan().all()
    assert torch.equal(found[1], augmentation.normalise(images[1], mean, std))
