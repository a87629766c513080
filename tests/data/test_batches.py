"""Augmentation on the device, and the stream of index batches."""

import io

import pytest
import torch
from torch import Tensor

from enas.data import Augmentation, Batches, augment, normalise
from enas.errors import UserError

MEAN = torch.tensor([0.4, 0.5, 0.6])
STD = torch.tensor([0.2, 0.25, 0.3])
OFF = Augmentation()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered_images(count: int, height: int = 6, width: int = 5) -> Tensor:
    """Images uint8 [count, height, width, 3] of which every row and column is told by its pixels' values."""
    images = torch.empty(count, height, width, 3, dtype=torch.uint8)
    images[..., 0] = torch.arange(1, height + 1)[:, None]  # never the mean colour, hence never zero
    images[..., 1] = torch.arange(1, width + 1)
    images[..., 2] = torch.arange(count)[:, None, None]
    return images


def augmented(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """All images, each once."""
    return augment(images, torch.arange(len(images)), MEAN, STD, augmentation, generator)


def restore(inputs: Tensor) -> Tensor:
    """Undo `normalise`: pixel values 0 .. 255."""
    return ((inputs * STD + MEAN) * 255).round().to(torch.uint8)


def test_normalise_is_the_formula() -> None:
    images = torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)
    expected = torch.tensor([[[[-0.4 / 0.2, 0.5 / 0.25, (0.2 - 0.6) / 0.3]]]])
    torch.testing.assert_close(normalise(images, MEAN, STD), expected)


def test_augmentation_off_is_normalisation() -> None:
    images = numbered_images(7)
    assert torch.equal(augmented(images, OFF, seeded()), normalise(images, MEAN, STD))


def test_crop_shifts_each_image_and_pads_with_zero_after_normalisation() -> None:
    images, crop = numbered_images(200), 2
    inputs = augmented(images, Augmentation(crop=crop), seeded())
    padded = torch.nn.functional.pad(normalise(images, MEAN, STD), (0, 0, crop, crop, crop, crop))
    offsets = set()
    for image, source in zip(inputs, padded, strict=True):
        matches = [
            (row, column)
            for row in range(2 * crop + 1)
            for column in range(2 * crop + 1)
            if torch.equal(image, source[row : row + 6, column : column + 5])
        ]
        assert len(matches) == 1
        offsets.update(matches)
    assert len(offsets) == 25  # all of them occur, the extremes too


def test_flip_mirrors_about_half_of_the_images() -> None:
    images = numbered_images(400)
    inputs = augmented(images, Augmentation(flip=True), seeded())
    plain = normalise(images, MEAN, STD)
    as_it_was = (inputs == plain).flatten(1).all(1)
    mirrored = (inputs == plain.flip(2)).flatten(1).all(1)
    assert torch.equal(mirrored, ~as_it_was)
    assert 160 < int(mirrored.sum()) < 240


@pytest.mark.parametrize("side", [3, 4])
def test_cutout_blanks_one_square_around_a_random_pixel(side: int) -> None:
    images = numbered_images(500, 8, 8)
    blank = (augmented(images, Augmentation(cutout=side), seeded()) == 0).all(-1)
    rows, columns = blank.any(2).sum(1), blank.any(1).sum(1)
    assert torch.equal(blank.flatten(1).sum(1), rows * columns)  # a rectangle ...
    assert set(rows.tolist()) == set(columns.tolist()) == set(range((side + 1) // 2, side + 1))  # ... clipped
    assert float((rows == side).float().mean()) == pytest.approx((8 - side + 1) / 8, abs=0.07)
    assert blank.any(0).all()  # it reaches every corner


def test_everything_at_once_moves_pixels_and_invents_none() -> None:
    images = numbered_images(50)
    inputs = augmented(images, Augmentation(crop=2, flip=True, cutout=2), seeded())
    assert inputs.dtype == torch.float32
    assert inputs.shape == images.shape
    kept = (inputs != 0).any(-1)
    pixels = restore(inputs)
    number = torch.arange(50)[:, None, None].expand_as(kept)
    assert torch.equal(pixels[..., 2][kept].long(), number[kept])  # no pixel of another image
    assert pixels[..., 0][kept].max() == 6
    assert pixels[..., 1][kept].max() == 5


def test_the_generator_is_the_only_randomness() -> None:
    images, augmentation = numbered_images(20), Augmentation(crop=2, flip=True, cutout=2)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = augmented(images, augmentation, seeded(5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(augmented(images, augmentation, seeded(5)), first)
    assert not torch.equal(augmented(images, augmentation, seeded(6)), first)


def test_leading_shape_is_only_a_shape() -> None:
    images, augmentation = numbered_images(12), Augmentation(crop=1, flip=True, cutout=2)
    flat = augmented(images, augmentation, seeded())
    children = augment(images, torch.arange(12).view(3, 4), MEAN, STD, augmentation, seeded())
    assert torch.equal(children, flat.view(3, 4, 6, 5, 3))


def test_strided_images_and_empty_batches() -> None:
    images = numbered_images(8)
    strided = images[::2].transpose(1, 2)
    augmentation = Augmentation(crop=1, flip=True)
    expected = augmented(strided.contiguous(), augmentation, seeded())
    assert torch.equal(augmented(strided, augmentation, seeded()), expected)
    nothing = torch.empty(0, dtype=torch.int64)
    assert augment(images, nothing, MEAN, STD, augmentation, seeded()).shape == (0, 6, 5, 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_augment_on_a_gpu_never_waits_for_it() -> None:
    images, indices = numbered_images(64).cuda(), torch.arange(64, device="cuda")
    mean, std, generator = MEAN.cuda(), STD.cuda(), torch.Generator("cuda").manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        inputs = augment(images, indices, mean, std, Augmentation(crop=2, flip=True, cutout=2), generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert inputs.isfinite().all()


@pytest.mark.parametrize("key", ["crop", "cutout"])
def test_negative_augmentation_is_refused_by_name(key: str) -> None:
    with pytest.raises(UserError, match=f"data.{key}=-1: allowed is 0"):
        Augmentation(**{key: -1})


def test_an_epoch_gives_each_image_once() -> None:
    batches = Batches(12, 4, seeded())
    assert batches.steps == 3
    epochs = [torch.cat([batches.next() for _ in range(3)]) for _ in range(2)]
    assert all(torch.equal(epoch.sort().values, torch.arange(12)) for epoch in epochs)
    assert not torch.equal(*epochs)


def test_a_short_last_batch_is_dropped() -> None:
    batches = Batches(11, 4, seeded())
    assert batches.steps == 2
    sizes = [len(batches.next()) for _ in range(7)]
    assert sizes == [4] * 7
    epoch = torch.cat([Batches(11, 4, seeded()).next() for _ in range(1)])
    assert len(epoch.unique()) == 4


def test_a_small_split_gives_itself_whole() -> None:
    batches = Batches(3, 128, seeded())
    assert batches.steps == 1
    assert batches.batch_size == 3
    assert torch.equal(batches.next().sort().values, torch.arange(3))


@pytest.mark.parametrize("taken", [0, 1, 2, 3, 5])
def test_resume_continues_bit_for_bit(taken: int) -> None:
    generator = seeded()
    unbroken = Batches(10, 3, generator)
    for _ in range(taken):
        unbroken.next()
    file = io.BytesIO()
    torch.save({"batches": unbroken.state_dict(), "generator": generator.get_state()}, file)
    expected = [unbroken.next() for _ in range(7)]

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    restored_generator = seeded(99)
    restored = Batches(10, 3, restored_generator)
    restored.next()
    restored.load_state_dict(saved["batches"])
    restored_generator.set_state(saved["generator"])
    assert all(torch.equal(restored.next(), batch) for batch in expected)


def test_a_state_does_not_move_with_its_stream() -> None:
    batches = Batches(10, 3, seeded())
    batches.next()
    state = batches.state_dict()
    order, position = state["order"].clone(), state["position"]
    for _ in range(8):
        batches.next()
    assert torch.equal(state["order"], order)
    assert state["position"] == position


def test_the_state_of_another_split_is_refused() -> None:
    batches = Batches(10, 3, seeded())
    batches.next()
    with pytest.raises(UserError, match="split has 10 images, the data set's has 11"):
        Batches(11, 3, seeded()).load_state_dict(batches.state_dict())


@pytest.mark.parametrize(("size", "batch_size"), [(0, 4), (4, 0)])
def test_batches_of_nothing_are_refused(size: int, batch_size: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Batches(size, batch_size, seeded())
