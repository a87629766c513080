"""Data sets that are arrays already: the embedded handwritten digits, and the user's own .npz file."""

from os.path import expanduser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from enas.data.batches import Augmentation
from enas.data.dataset import DataSet, Split, assemble
from enas.errors import UserError

DIGITS_TEST = 0.2

_ONE_PART = ("images", "labels")
_TWO_PARTS = ("x_train", "y_train", "x_test", "y_test")


def digits(
    valid: int | float = 0.2, split_seed: int = 0, crop: int = 1, flip: bool = False, cutout: int = 0
) -> DataSet:
    """The 1,797 handwritten digits that scikit-learn carries: 8 x 8 x 1 pixels in 10 classes.

    They are the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, UCI). A
    fixed fifth of them is the test part here.

    Args:
        valid: validation part of the other four fifths, a fraction or a number of images.
        split_seed: draws the validation part.
        crop, flip, cutout: see `Augmentation`.

    Raises UserError where a value is out of range.
    """
    from sklearn.datasets import load_digits  # over a second to import

    augmentation = Augmentation(crop, flip, cutout)
    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)  # stored as 0 .. 16
    everything = Split(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)))
    classes = [str(digit) for digit in range(10)]
    return assemble("digits", everything, classes, augmentation, valid=valid, test=DIGITS_TEST, split_seed=split_seed)


def npz(
    root: str | Path,
    valid: int | float = 0.1,
    test: int | float = 0.1,
    split_seed: int = 0,
    crop: int = 0,
    flip: bool = False,
    cutout: int = 0,
) -> DataSet:
    """Arrays that `numpy.savez` wrote: `images` and `labels`, or `x_train`, `y_train`, `x_test` and `y_test`.

    Images are uint8, or floats from 0 to 1, of the shape [N, H, W] or [N, H, W, C] with at most 4 channels;
    labels are any whole numbers, [N] or [N, 1]. Crop and flip are off by default, since nothing is known of
    the images.

    Args:
        root: the file.
        valid: validation part of the images that are not test, a fraction or a number.
        test: test part of all images, a fraction or a number; `x_test` takes its place.
        split_seed: draws the validation part.
        crop, flip, cutout: see `Augmentation`.

    Raises UserError where the file is missing or damaged, holds anything else, or a value is out of range.
    """
    augmentation = Augmentation(crop, flip, cutout)
    arrays = _read_arrays(Path(expanduser(root)))
    images, labels, *held_out = arrays.items()
    values = np.unique(_as_labels(*labels))
    train = _to_split(images, labels, values)
    own_test = _to_split(held_out[0], held_out[1], values) if held_out else test
    classes = [str(value) for value in values]
    return assemble("npz", train, classes, augmentation, valid=valid, test=own_test, split_seed=split_seed)


def _read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file under `_TWO_PARTS` or `_ONE_PART`, in that order."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise UserError(f"data.root: {error}; needed is one .npz file of images and labels") from error
    try:
        with stream, np.load(stream, allow_pickle=False) as file:
            for keys in (_TWO_PARTS, _ONE_PART):
                if all(key in file for key in keys):
                    return {key: file[key] for key in keys}
            found = ", ".join(file) or "none"
    except Exception as error:  # a damaged archive can raise almost any exception
        raise UserError(f"data.root={path}: it is damaged, or no .npz file of plain arrays") from error
    raise UserError(
        f"data.root={path}: it holds the arrays {found}; needed are {' and '.join(_ONE_PART)}, "
        f"or {', '.join(_TWO_PARTS)}"
    )


def _to_split(
    images: tuple[str, npt.NDArray[Any]], labels: tuple[str, npt.NDArray[Any]], values: npt.NDArray[Any]
) -> Split:
    """A split from two named arrays; label k is the k-th of `values`."""
    pixels, found = _as_images(*images), _as_labels(*labels)
    if len(pixels) != len(found):
        raise UserError(f"the npz data has {len(pixels)} images in {images[0]} and {len(found)} labels in {labels[0]}")
    unknown = np.setdiff1d(found, values)
    if len(unknown):
        raise UserError(f"the npz data has label {unknown[0]} in {labels[0]} and not among the training labels")
    return Split(torch.from_numpy(pixels), torch.from_numpy(np.searchsorted(values, found).astype(np.int64)))


def _as_images(key: str, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """uint8 [N, H, W, C]."""
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or 0 in array.shape[1:] or array.shape[3] > 4:
        raise UserError(
            f"the npz data has {key} of the shape {array.shape}; needed is [N, H, W], or [N, H, W, C] "
            "with 1 to 4 channels in the last place"
        )
    if array.dtype.kind == "f" and ((array >= 0) & (array <= 1)).all():  # false for NaN too
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise UserError(f"the npz data has {key} of type {array.dtype}; needed is uint8, or floats from 0 to 1")
    return np.ascontiguousarray(array)


def _as_labels(key: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Whole numbers [N]."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise UserError(
            f"the npz data has {key} of shape {array.shape} and type {array.dtype}; needed: whole numbers [N]"
        )
    return array
