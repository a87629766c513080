"""Stratified splits, moments and batches of a data set."""

import itertools

import pytest
import torch
from torch import Tensor

from enas.data import Augmentation, DataSet, Split, assemble, normalise
from enas.data.dataset import stratified
from enas.errors import UserError

SIZES = (60, 30, 10)  # images of each class


def numbered(sizes: tuple[int, ...] = SIZES, shape: tuple[int, int, int] = (2, 3, 2)) -> Split:
    """Images that all differ: the image's number, in two bytes, is in its first and last pixel."""
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))]
    images = torch.zeros(len(labels), *shape, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(len(labels)) % 256
    images[:, -1, -1, -1] = torch.arange(len(labels)) // 256
    return Split(images, labels)


def build(
    train: Split | None = None,
    valid: Split | int | float = 0.2,
    test: Split | int | float = 0.1,
    split_seed: int = 0,
    augmentation: Augmentation = Augmentation(),  # noqa: B008 (frozen)
    classes: tuple[str, ...] = ("cat", "dog", "emu"),
) -> DataSet:
    return assemble("toy", train or numbered(), classes, augmentation, valid=valid, test=test, split_seed=split_seed)


def numbers(split: Split) -> list[int]:
    return (split.images[:, 0, 0, 0].long() + 256 * split.images[:, -1, -1, -1].long()).tolist()


def test_the_parts_are_disjoint_and_complete() -> None:
    data = build()
    parts = [numbers(split) for split in (data.train, data.valid, data.test)]
    assert [len(part) for part in parts] == [72, 18, 10]
    assert sorted(itertools.chain(*parts)) == list(range(100))
    everything = numbered()
    for split in (data.train, data.valid, data.test):
        assert torch.equal(split.labels, everything.labels[numbers(split)])


def test_the_parts_keep_the_shares_of_the_classes() -> None:
    data = build(valid=0.2, test=0.1)
    assert data.test.labels.bincount().tolist() == [6, 3, 1]
    assert data.valid.labels.bincount().tolist() == [11, 5, 2]  # 18 of (54, 27, 9): 10.8, 5.4, 1.8


@pytest.mark.parametrize("count", [7, 10, 50, 99])
def test_stratified_is_within_one_of_the_exact_share_and_of_exact_size(count: int) -> None:
    labels = numbered().labels
    rest, drawn = stratified(labels, count, seed=0)
    assert len(drawn) == count
    assert len(rest) == 100 - count
    shares = labels[drawn].bincount(minlength=3)
    exact = torch.tensor(SIZES) * count / 100
    assert ((shares - exact).abs() < 1).all()


def test_the_split_seed_draws_the_validation_part_and_leaves_the_test_part() -> None:
    first, again, other = build(split_seed=0), build(split_seed=0), build(split_seed=1)
    for name in ("train", "valid", "test"):
        assert torch.equal(getattr(first, name).images, getattr(again, name).images)
    assert numbers(first.valid) != numbers(other.valid)
    assert numbers(first.test) == numbers(other.test)


def test_the_split_ignores_the_global_random_state() -> None:
    torch.manual_seed(0)
    first = build()
    torch.manual_seed(1)
    assert numbers(build().valid) == numbers(first.valid)


def test_given_parts_are_used_as_they_are() -> None:
    valid, test = numbered((2, 2, 2)), numbered((1, 1, 1))
    data = build(valid=valid, test=test)
    assert data.valid is valid
    assert data.test is test
    assert len(data.train) == 100


def test_counts_and_an_empty_validation_part() -> None:
    assert [len(build(valid=30, test=20).valid), len(build(valid=30, test=20).test)] == [30, 20]
    data = build(valid=0, test=20)
    assert (len(data.train), len(data.valid)) == (80, 0)


def test_moments_are_those_of_the_training_images_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    train, test = numbered(shape=(4, 5, 3)), numbered(shape=(4, 5, 3))
    train.images.random_(generator=generator)
    test.images.fill_(255)
    data = build(train, valid=0.2, test=test)
    pixels = data.train.images.double().flatten(0, 2) / 255
    torch.testing.assert_close(data.mean.double(), pixels.mean(0), rtol=0, atol=1e-7)
    torch.testing.assert_close(data.std.double(), pixels.std(0, correction=0), rtol=0, atol=1e-7)
    assert data.mean.dtype == data.std.dtype == torch.float32


def test_a_constant_channel_is_normalised_to_zero() -> None:
    train = numbered()
    train.images.fill_(7)
    data = build(train)
    assert data.std.tolist() == [1.0, 1.0]
    inputs, _ = data.batch(data.train, torch.arange(4), None)
    assert inputs.abs().max() < 1e-6


def batch_of(data: DataSet, indices: Tensor, seed: int | None) -> tuple[Tensor, Tensor]:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return data.batch(data.train, indices, generator)


def test_a_batch_is_augmented_only_with_a_generator() -> None:
    data = build(augmentation=Augmentation(crop=1, flip=True))
    indices = torch.tensor([5, 0, 5])
    inputs, labels = batch_of(data, indices, None)
    assert torch.equal(inputs, normalise(data.train.images[indices], data.mean, data.std))
    assert torch.equal(labels, data.train.labels[indices])
    indices = torch.arange(40)
    augmented, labels = batch_of(data, indices, 0)
    assert torch.equal(labels, data.train.labels[indices])
    assert not torch.equal(augmented, batch_of(data, indices, None)[0])
    assert torch.equal(augmented, batch_of(data, indices, 0)[0])


def test_children_have_their_own_images() -> None:
    data = build(augmentation=Augmentation(crop=1))
    indices = torch.arange(12).view(3, 4)
    inputs, labels = batch_of(data, indices, 0)
    flat_inputs, flat_labels = batch_of(data, indices.flatten(), 0)
    assert inputs.shape == (3, 4, 2, 3, 2)
    assert torch.equal(inputs.flatten(0, 1), flat_inputs)
    assert torch.equal(labels.flatten(), flat_labels)


def test_the_data_set_moves_as_one() -> None:
    data = build().to("meta")
    tensors = [data.mean, data.std]
    for split in (data.train, data.valid, data.test):
        tensors += [split.images, split.labels]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert data.image_shape == (2, 3, 2)
    assert data.classes == ("cat", "dog", "emu")


@pytest.mark.parametrize("part", [-1, 1, 2, -0.1, 0.0, 1.0, 1.5, 100, 10_000, float("nan"), float("inf")])
@pytest.mark.parametrize("key", ["valid", "test"])
def test_a_part_out_of_range_is_refused_by_name(key: str, part: int | float) -> None:
    with pytest.raises(UserError, match=rf"data.{key}={part}: allowed is a fraction between 0 and 1"):
        build(**{key: part})


def test_a_rare_class_is_in_every_part() -> None:
    data = build(numbered((200, 50, 3)), valid=0.1, test=10)
    assert data.test.labels.bincount().tolist() == [7, 2, 1]
    assert data.valid.labels.bincount().tolist() == [18, 5, 1]
    assert len(build(numbered((3, 3, 3)), valid=0.01, test=0.01).train) == 3


@pytest.mark.parametrize(("sizes", "part"), [((50, 50, 1), 0.1), ((50, 50, 0), 0.1), ((50, 50, 2), 0.9)])
def test_a_class_that_training_would_miss_is_named(sizes: tuple[int, ...], part: float) -> None:
    with pytest.raises(UserError, match=f"test={part}: no image of class 'emu' would be left"):
        build(numbered(sizes), test=part)


def test_no_test_image_is_refused() -> None:
    with pytest.raises(UserError, match="no test image"):
        build(test=0)


def test_one_class_is_refused() -> None:
    with pytest.raises(UserError, match=r"has 1 class\(es\): at least 2"):
        build(numbered((20,)), classes=("cat",))


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_split_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(UserError, match=f"data.split_seed={seed}: allowed is"):
        build(split_seed=seed)


def test_splits_of_different_shapes_are_refused() -> None:
    with pytest.raises(UserError, match="different shapes"):
        build(test=numbered(shape=(3, 3, 2)))


@pytest.mark.parametrize("augmentation", [Augmentation(crop=2), Augmentation(cutout=2)])
def test_an_augmentation_as_large_as_the_image_is_refused(augmentation: Augmentation) -> None:
    with pytest.raises(UserError, match="=2: allowed is less than the image's side, 2"):
        build(augmentation=augmentation)
