"""The user's own images: one sub-folder a class."""

from os.path import expanduser
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from enas.data.batches import Augmentation
from enas.data.dataset import DataSet, Split, assemble
from enas.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM")  # a file of another kind is refused whatever its name is

_PARTS = {"train": "train", "valid": "val", "test": "test"}


def folder(
    root: str | Path,
    size: int = 32,
    valid: int | float = 0.1,
    test: int | float = 0.1,
    split_seed: int = 0,
    crop: int = 4,
    flip: bool = True,
    cutout: int = 0,
) -> DataSet:
    """Images in class sub-folders: root/cat/1.png, or split already: root/train/cat/1.png and so on.

    The sub-folders of the second form are train/ and, as far as they are there, val/ and test/; without
    test/, val/ is the test part. Files with other suffixes than SUFFIXES and hidden ones are passed over.
    Images of another size are squeezed to size x size. Transparent parts become white. The data set is grey
    (C = 1) where every pixel of every image is, else colour (C = 3).

    Args:
        root: the folder.
        size: height and width of the images in pixels.
        valid: validation part of the images that are not test, a fraction or a number; a val/ beside test/
            takes its place.
        test: test part of all images, a fraction or a number; a test/, or a val/ alone, takes its place.
        split_seed: draws the validation part.
        crop, flip, cutout: see `Augmentation`.

    Raises UserError where the folder is missing, an image is damaged, the classes of the splits differ, or a
    value is out of range.
    """
    augmentation = Augmentation(crop, flip, cutout)
    if size < 1:
        raise UserError(f"data.size={size}: allowed is a number of pixels from 1 up")
    places = _find_splits(Path(expanduser(root)))
    files = {part: _list_images(place) for part, place in places.items()}
    classes = list(files["train"])
    for part, by_class in files.items():
        if odd := sorted(by_class.keys() ^ set(classes)):
            raise UserError(f"data.root={root}: class {odd[0]!r} is not in both train/ and {places[part].name}/")
    splits = {part: _read_split(by_class, size) for part, by_class in files.items()}
    if all((split.images == split.images[..., :1]).all() for split in splits.values()):
        splits = {part: Split(split.images[..., :1].clone(), split.labels) for part, split in splits.items()}
    return assemble(
        "folder",
        splits["train"],
        classes,
        augmentation,
        valid=splits.get("valid", valid),
        test=splits.get("test", test),
        split_seed=split_seed,
    )


def _find_splits(root: Path) -> dict[str, Path]:
    """Where the class sub-folders of each split are; only `train` where the folder is not split yet."""
    names = {place.name for place in _sub_folders(root)}
    if "train" not in names or not names <= {"train", "val", "test"}:
        return {"train": root}
    if names == {"train", "val"}:
        return {"train": root / "train", "test": root / "val"}
    return {part: root / name for part, name in _PARTS.items() if name in names}


def _sub_folders(place: Path) -> list[Path]:
    try:
        return sorted(entry for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"data.root: {error}; needed is a folder of class sub-folders of images") from error


def _list_images(place: Path) -> dict[str, list[Path]]:
    """Image files by class, both in the order of their names."""
    by_class = {}
    for class_folder in _sub_folders(place):
        by_class[class_folder.name] = sorted(
            path
            for path in class_folder.rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
        )
        if not by_class[class_folder.name]:
            raise UserError(f"{class_folder} holds no image; allowed are {', '.join(SUFFIXES)}")
    if len(by_class) < 2:
        raise UserError(f"{place} has {len(by_class)} class sub-folder(s) of images: at least 2 are needed")
    return by_class


def _read_split(by_class: dict[str, list[Path]], size: int) -> Split:
    """All images in colour, uint8 [N, size, size, 3], and their labels."""
    paths = [path for paths in by_class.values() for path in paths]
    images = np.empty((len(paths), size, size, 3), np.uint8)
    for image, path in zip(images, paths, strict=True):
        image[:] = _read_image(path, size)
    labels = [label for label, paths in enumerate(by_class.values()) for _ in paths]
    return Split(torch.from_numpy(images), torch.tensor(labels))


def _read_image(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """uint8 [size, size, 3], the way up that its camera recorded."""
    try:
        with Image.open(path, formats=FORMATS) as file:
            image: Image.Image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I;16"):  # Pillow's own conversion would clip these at 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("RGB")
    except Exception as error:  # a damaged image can raise almost any exception
        raise UserError(f"{path} cannot be read as an image ({error}): repair or remove it") from error
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)
