"""The embedded digits and the user's own .npz files."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from enas import data
from enas.data import DATA, digits, npz
from enas.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "data"

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (40, 6, 7, 3), dtype=np.uint8)
LABELS = np.arange(40) % 4


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("name", sorted(DATA))
def test_every_loader_has_a_configuration_of_all_its_keys_and_defaults(name: str) -> None:
    text = (CONF / f"{name}.yaml").read_text()
    configuration = yaml.safe_load(text)
    assert configuration.pop("_target_") == f"enas.data.{name}"
    assert getattr(data, name) is DATA[name]
    parameters = inspect.signature(DATA[name]).parameters
    defaults = {
        key: "???" if parameter.default is inspect.Parameter.empty else parameter.default
        for key, parameter in parameters.items()
    }
    assert configuration == defaults
    assert all("#" in line for line in text.splitlines()[2:])


def test_every_configuration_has_a_loader() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} >= set(DATA)


def test_digits() -> None:
    data_set = digits()
    assert [len(split) for split in (data_set.train, data_set.valid, data_set.test)] == [1150, 288, 359]
    assert data_set.image_shape == (8, 8, 1)
    assert data_set.classes == tuple("0123456789")
    assert (data_set.train.images.min(), data_set.train.images.max()) == (0, 255)
    assert min(data_set.test.labels.bincount()) >= 34
    assert torch.equal(digits(split_seed=1).test.images, data_set.test.images)
    assert not torch.equal(digits(split_seed=1).valid.images, data_set.valid.images)


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    known = {
        (image / 16 * 255).round().astype(np.uint8).tobytes(): label
        for image, label in zip(images, labels, strict=True)
    }
    test = digits().test
    assert all(known[image.numpy().tobytes()] == label for image, label in zip(test.images, test.labels, strict=True))


def test_npz_of_one_part(tmp_path: Path) -> None:
    folder = tmp_path / "mes données"
    folder.mkdir()
    data_set = npz(save(folder / "été.npz", images=IMAGES, labels=LABELS), valid=8, test=0.2)
    assert [len(split) for split in (data_set.train, data_set.valid, data_set.test)] == [24, 8, 8]
    assert data_set.image_shape == (6, 7, 3)
    assert data_set.classes == ("0", "1", "2", "3")
    known = {image.tobytes(): label for image, label in zip(IMAGES, LABELS, strict=True)}
    for split in (data_set.train, data_set.valid, data_set.test):
        for image, label in zip(split.images, split.labels, strict=True):
            assert known.pop(image.numpy().tobytes()) == label
    assert not known


def test_npz_of_two_parts(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.npz",
        x_train=IMAGES,
        y_train=LABELS[:, None] * 10 - 5,
        x_test=IMAGES[:3],
        y_test=[5, -5, 15],
    )
    data_set = npz(str(path))
    assert torch.equal(data_set.test.images, torch.from_numpy(IMAGES[:3]))
    assert data_set.test.labels.tolist() == [1, 0, 2]
    assert data_set.classes == ("-5", "5", "15", "25")
    assert len(data_set.train) + len(data_set.valid) == 40


def test_npz_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    assert len(npz("~/a.npz").classes) == 4


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_npz_of_floats_and_of_grey_images(tmp_path: Path, dtype: type) -> None:
    grey = IMAGES[..., 0]
    scaled = npz(save(tmp_path / "a.npz", images=(grey / 255).astype(dtype), labels=LABELS))
    stored = npz(save(tmp_path / "b.npz", images=grey, labels=LABELS))
    assert scaled.image_shape == (6, 7, 1)
    assert torch.equal(scaled.train.images, stored.train.images)


GOOD: dict[str, Any] = {"images": IMAGES, "labels": LABELS}
PARTS: dict[str, Any] = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:4], "y_test": LABELS[:4]}


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"images": IMAGES}, "it holds the arrays images; needed are images and labels, or x_train"),
        ({}, "it holds the arrays none"),
        (GOOD | {"images": IMAGES.transpose(0, 3, 1, 2)}, r"images of the shape \(40, 3, 6, 7\)"),
        (GOOD | {"images": IMAGES[:, :0]}, r"images of the shape \(40, 0, 7, 3\)"),
        (GOOD | {"images": IMAGES[0]}, r"\(6, 7, 3, 1\)|40 labels"),
        (GOOD | {"images": IMAGES.astype(np.int32)}, "images of type int32; needed is uint8, or floats"),
        (GOOD | {"images": IMAGES.astype(np.float32)}, "images of type float32; needed is uint8, or floats"),
        (GOOD | {"images": np.full((40, 6, 7), np.nan)}, "images of type float64; needed is uint8"),
        (GOOD | {"images": IMAGES[:39]}, "39 images in images and 40 labels in labels"),
        (
            GOOD | {"labels": LABELS.astype(float)},
            "labels of shape .* and type float64; needed: whole numbers",
        ),
        (GOOD | {"labels": np.eye(4)[LABELS].astype(int)}, r"labels of shape \(40, 4\)"),
        (GOOD | {"labels": LABELS * 0}, r"1 class\(es\): at least 2"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"0 class\(es\)"),
        (GOOD | {"labels": np.array(["a"] * 40, dtype=object)}, "damaged, or no .npz file of plain arrays"),
        (PARTS | {"y_test": LABELS[:4] + 1}, "label 4 in y_test and not among the training labels"),
        (PARTS | {"x_test": IMAGES[:4, :5]}, "images of different shapes"),
        (PARTS | {"x_test": IMAGES[:0], "y_test": LABELS[:0]}, "no test image"),
    ],
)
def test_npz_of_anything_else_is_refused(tmp_path: Path, arrays: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        npz(save(tmp_path / "a.npz", **arrays))


def test_npz_missing_or_damaged(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.npz", **GOOD).read_bytes()
    np.save(tmp_path / "single.npy", IMAGES)
    files = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"images", "cut": whole[:-1]}
    middle = len(whole) // 2
    files["altered"] = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for name in (*files, "single.npy"):
        with pytest.raises(UserError, match=f"data.root=.*{name}: it is damaged, or no .npz file"):
            npz(tmp_path / name)
    for place in (tmp_path / "absent.npz", tmp_path, "~nobody-of-that-name/a.npz"):
        with pytest.raises(UserError, match=r"data.root: .*; needed is one .npz file"):
            npz(place)
