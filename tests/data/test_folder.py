"""The user's own folders of images, made here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from enas.data import DataSet, Split, folder
from enas.errors import UserError

CLASSES = ("cat", "dog", "été 2")


def picture(number: int, height: int = 8, width: int = 8) -> np.ndarray:
    """A colour image, uint8 [height, width, 3]; all numbers differ."""
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def fill(place: Path, count: int = 5, classes: tuple[str, ...] = CLASSES, first: int = 0) -> Path:
    """`count` images a class; image `first + i` is the i-th in the order of classes, then names."""
    for label, name in enumerate(classes):
        (place / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(picture(first + label * count + index)).save(place / name / f"{index:02}.png")
    return place


def load(root: Path, **keys: Any) -> DataSet:
    return folder(root, **({"size": 8, "valid": 0.2, "test": 0.2, "crop": 1} | keys))


def contents(split: Split) -> list[tuple[bytes, int]]:
    return [(image.numpy().tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True)]


def pictures(numbers: range, count: int = 5) -> list[tuple[bytes, int]]:
    return [(picture(number).tobytes(), (number - numbers.start) // count) for number in numbers]


def test_class_folders(tmp_path: Path) -> None:
    data = load(fill(tmp_path / "meine Bilder ü"))
    assert data.classes == CLASSES
    assert data.image_shape == (8, 8, 3)
    assert [split.labels.bincount().tolist() for split in (data.train, data.valid, data.test)] == [
        [3, 3, 3], [1, 1, 1], [1, 1, 1],
    ]  # fmt: skip
    everything = contents(data.train) + contents(data.valid) + contents(data.test)
    assert sorted(everything) == sorted(pictures(range(15)))


def test_the_default_keys(tmp_path: Path) -> None:
    data = folder(fill(tmp_path, count=10))
    assert data.image_shape == (32, 32, 3)
    assert len(data.test) == 3


def test_loading_is_deterministic_and_the_test_part_fixed(tmp_path: Path) -> None:
    fill(tmp_path)
    first, again, other = load(tmp_path), load(tmp_path), load(tmp_path, split_seed=1)
    for name in ("train", "valid", "test"):
        assert contents(getattr(first, name)) == contents(getattr(again, name))
    assert contents(first.valid) != contents(other.valid)
    assert contents(first.test) == contents(other.test)


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_a_held_out_folder_is_the_test_part(tmp_path: Path, held_out: str) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / held_out, count=2, first=100)
    data = load(tmp_path, test=0.5)
    assert contents(data.test) == pictures(range(100, 106), count=2)
    assert sorted(contents(data.train) + contents(data.valid)) == sorted(pictures(range(15)))


def test_three_folders_are_the_three_parts(tmp_path: Path) -> None:
    for first, part in enumerate(("train", "val", "test")):
        fill(tmp_path / part, first=100 * first)
    data = load(tmp_path)
    for first, split in enumerate((data.train, data.valid, data.test)):
        assert contents(split) == pictures(range(100 * first, 100 * first + 15))


def test_only_a_train_folder_is_cut(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    data = load(tmp_path)
    assert (data.classes, len(data.test)) == (CLASSES, 3)


def test_train_may_be_the_name_of_a_class(tmp_path: Path) -> None:
    assert load(fill(tmp_path, classes=("car", "train"))).classes == ("car", "train")


def test_formats_suffixes_and_deeper_folders(tmp_path: Path) -> None:
    for name in ("flat", "other"):
        (tmp_path / name / "deep er").mkdir(parents=True)
        for suffix in ("png", "JPG", "jpeg", "bmp", "webp", "ppm"):
            colour = (200, 100, 50) if name == "flat" else (10, 20, 30)
            Image.new("RGB", (8, 8), colour).save(tmp_path / name / "deep er" / f"a.{suffix}")
        (tmp_path / name / "notes.txt").write_text("passed over")
        (tmp_path / name / "._a.png").write_text("passed over")
    (tmp_path / ".hidden").mkdir()
    data = load(tmp_path)
    everything = torch.cat([split.images for split in (data.train, data.valid, data.test)])
    assert len(everything) == 12
    labels = torch.cat([split.labels for split in (data.train, data.valid, data.test)])
    difference = everything[labels == 0].int() - torch.tensor([200, 100, 50], dtype=torch.int32)
    assert difference.abs().max() < 5


def test_grey_is_decided_over_all_images(tmp_path: Path) -> None:
    fill(tmp_path)
    for path in tmp_path.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    grey = load(tmp_path)
    assert grey.image_shape == (8, 8, 1)
    assert grey.mean.shape == (1,)
    expected = np.asarray(Image.fromarray(picture(0)).convert("L"))[..., None]
    images = [image for split in (grey.train, grey.valid, grey.test) for image in split.images.numpy()]
    assert any(np.array_equal(image, expected) for image in images)
    Image.fromarray(picture(3)).save(tmp_path / "dog" / "01.png")
    assert load(tmp_path).image_shape == (8, 8, 3)


def flat_folder(root: Path, image: Image.Image, name: str = "a.png", **options: object) -> Split:
    """Both classes hold the image five times; the training part."""
    for label in ("a", "b"):
        (root / label).mkdir()
        for index in range(5):
            image.save(root / label / f"{index}{name}", **options)
    return load(root).train


def test_images_of_another_size_are_resized(tmp_path: Path) -> None:
    image = Image.fromarray(picture(0, height=31, width=17))
    split = flat_folder(tmp_path, image)
    expected = np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR))
    assert np.array_equal(split.images[0].numpy(), expected)


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    split = flat_folder(tmp_path, Image.fromarray(values))
    assert np.array_equal(split.images[0, ..., 0].numpy(), values // 256)


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 8), (200, 10, 10, 255))
    image.paste((0, 0, 0, 0), (0, 0, 8, 4))
    split = flat_folder(tmp_path, image)
    assert split.images[0, 0, 0].tolist() == [255, 255, 255]
    assert split.images[0, 7, 7].tolist() == [200, 10, 10]


def test_palettes_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 9, 99, 199])
    image.paste(0, (0, 0, 8, 4))
    split = flat_folder(tmp_path, image, transparency=b"\x00\xff")
    assert split.images[0, :, 0].tolist() == [[255, 255, 255]] * 4 + [[9, 99, 199]] * 4


def test_a_photograph_stands_upright(tmp_path: Path) -> None:
    image = Image.fromarray(picture(0))
    exif = image.getexif()
    exif[0x0112] = 3  # turned by 180 degrees
    split = flat_folder(tmp_path, image, exif=exif)
    assert np.array_equal(split.images[0].numpy(), picture(0)[::-1, ::-1])


def test_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "mine")
    assert len(folder("~/mine", size=8, valid=3, test=3, crop=0).train) == 9


@pytest.mark.parametrize("content", ["truncated", b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_a_damaged_image_is_named(tmp_path: Path, content: str | bytes) -> None:
    path = fill(tmp_path) / "dog" / "02.png"
    path.write_bytes(content if isinstance(content, bytes) else path.read_bytes()[:120])
    with pytest.raises(UserError, match=r"dog/02.png cannot be read as an image .*: repair or remove it"):
        load(tmp_path)


def test_a_file_of_another_kind_is_refused_whatever_its_name_is(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(fill(tmp_path) / "dog" / "02.png", format="GIF")
    with pytest.raises(UserError, match=r"dog/02.png cannot be read as an image"):
        load(tmp_path)


def test_a_missing_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "absent", tmp_path / "file", "~nobody-of-that-name"):
        with pytest.raises(UserError, match=r"data.root: .*; needed is a folder of class sub-folders"):
            folder(root)


def test_too_few_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has 0 class sub-folder\(s\)"):
        load(tmp_path)
    with pytest.raises(UserError, match=r"has 1 class sub-folder\(s\)"):
        load(fill(tmp_path, classes=("cat",)))


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    (fill(tmp_path) / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty holds no image; allowed are .png, .jpg"):
        load(tmp_path)


def test_a_class_with_too_few_images_is_named(tmp_path: Path) -> None:
    fill(tmp_path, count=20, classes=("cat", "dog"))
    fill(tmp_path, count=2, classes=("emu",))
    with pytest.raises(UserError, match="no image of class 'emu' would be left"):
        load(tmp_path)


def test_splits_with_different_classes_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "val", classes=("cat", "dog", "emu"))
    with pytest.raises(UserError, match="class 'emu' is not in both train/ and val/"):
        load(tmp_path)


def test_a_size_out_of_range_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    with pytest.raises(UserError, match=r"data\.size=0: allowed is"):
        load(tmp_path, size=0)
    with pytest.raises(UserError, match=r"data\.crop=4: allowed is less than the image's side, 4"):
        load(tmp_path, size=4, crop=4)
