"""CIFAR-10 and CIFAR-100 in their official forms, made small here."""

import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from enas.data import DataSet, cifar10, cifar100
from enas.errors import UserError

PER_FILE = 40
UNPACK = Path(__file__).parents[3] / "shared" / "data" / "unpack.py"


def pixels(number: int) -> np.ndarray:
    """Bytes of the images of one file, uint8 [PER_FILE, 3072]; all files differ."""
    return np.random.default_rng(number).integers(0, 256, (PER_FILE, 3072), dtype=np.uint8)


def labels(classes: int) -> list[int]:
    return [index % classes for index in range(PER_FILE)]


def python_2_pickle(value: object) -> bytes:
    """The bytes that the official files hold: protocol 2 of Python 2, with numpy 1 arrays."""
    match value:
        case None:
            return b"N"
        case False:
            return b"\x89"
        case int():
            return b"J" + struct.pack("<i", value)
        case str():
            return b"T" + struct.pack("<i", len(value)) + value.encode("latin1")
        case bytes():
            return b"T" + struct.pack("<i", len(value)) + value
        case tuple():
            return b"(" + b"".join(map(python_2_pickle, value)) + b"t"
        case list():
            return b"](" + b"".join(map(python_2_pickle, value)) + b"e"
        case dict():
            items = b"".join(python_2_pickle(key) + python_2_pickle(item) for key, item in value.items())
            return b"}(" + items + b"u"
        case np.ndarray():
            made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + python_2_pickle((0,)) + b"U\x01btR"
            dtype = b"cnumpy\ndtype\n" + python_2_pickle(("u1", 0, 1)) + b"R"
            dtype += python_2_pickle((3, "|", None, None, None, -1, -1, 0)) + b"b"
            state = b"(" + python_2_pickle(1) + python_2_pickle(value.shape) + dtype + b"\x89"
            return made + state + python_2_pickle(value.tobytes()) + b"tb"
    raise TypeError(value)


def write_python_2(path: Path, value: object) -> None:
    path.write_bytes(b"\x80\x02" + python_2_pickle(value) + b".")


def write_python_3(path: Path, value: object) -> None:
    path.write_bytes(pickle.dumps(value, 4))


def write_cifar10_binary(folder: Path) -> None:
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    for number, name in enumerate(names):
        rows = np.concatenate([np.array(labels(10), np.uint8)[:, None], pixels(number)], axis=1)
        rows.tofile(folder / name)
    (folder / "batches.meta.txt").write_text("\n".join(f"class{label}" for label in range(10)) + "\n\n")


def write_cifar10_python(folder: Path, write: Callable[[Path, object], None] = write_python_2) -> None:
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for number, name in enumerate(names):
        content = {"batch_label": name, "labels": labels(10), "data": pixels(number), "filenames": ["é.png"]}
        write(folder / name, content)
    write(folder / "batches.meta", {"label_names": [f"class{label}" for label in range(10)], "num_vis": 3072})


def write_cifar100_binary(folder: Path) -> None:
    for number, name in enumerate(["train.bin", "test.bin"]):
        fine = (np.arange(2 * PER_FILE * 5)[:, None] % 100).astype(np.uint8)
        images = np.concatenate([pixels(10 * number + part) for part in range(10)])
        np.concatenate([fine // 5, fine, images], axis=1).tofile(folder / name)
    (folder / "fine_label_names.txt").write_text("\n".join(f"fine{label}" for label in range(100)))


def write_cifar100_python(folder: Path) -> None:
    for number, name in enumerate(["train", "test"]):
        fine = [index % 100 for index in range(2 * PER_FILE * 5)]
        images = np.concatenate([pixels(10 * number + part) for part in range(10)])
        coarse = [label // 5 for label in fine]
        write_python_2(folder / name, {"fine_labels": fine, "coarse_labels": coarse, "data": images})
    write_python_2(folder / "meta", {"fine_label_names": [f"fine{label}" for label in range(100)]})


def folder_of(root: Path, name: str) -> Path:
    root.joinpath(name).mkdir(parents=True)
    return root / name


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    folder = folder_of(tmp_path, "cifar-10-batches-bin")
    write_cifar10_binary(folder)
    return folder


@pytest.fixture
def python(tmp_path: Path) -> Path:
    folder = folder_of(tmp_path, "cifar-10-batches-py")
    write_cifar10_python(folder)
    return folder


def assert_same(first: DataSet, second: DataSet) -> None:
    assert first.classes == second.classes
    for name in ("train", "valid", "test"):
        assert torch.equal(getattr(first, name).images, getattr(second, name).images)
        assert torch.equal(getattr(first, name).labels, getattr(second, name).labels)


def test_binary_form(binary: Path) -> None:
    data = cifar10(binary)
    assert [len(split) for split in (data.train, data.valid, data.test)] == [180, 20, 40]
    assert data.image_shape == (32, 32, 3)
    assert data.classes == tuple(f"class{label}" for label in range(10))
    assert data.test.labels.tolist() == labels(10)
    # Channel by channel, then row by row.
    assert torch.equal(data.test.images[7, 3, 4], torch.from_numpy(pixels(5)[7, [100, 1124, 2148]]))
    assert data.valid.labels.bincount().tolist() == [2] * 10


def test_all_training_files_are_read(binary: Path) -> None:
    data = cifar10(binary, valid=0)
    expected = np.concatenate([pixels(number) for number in range(5)]).reshape(-1, 3, 32, 32)
    assert np.array_equal(data.train.images.permute(0, 3, 1, 2).numpy(), expected)


def test_the_directory_above_and_the_home_directory(binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(binary.parent))
    for root in (binary.parent, "~", "~/cifar-10-batches-bin"):
        assert_same(cifar10(root), cifar10(binary))


def test_python_form_is_the_same_data(binary: Path, python: Path, tmp_path: Path) -> None:
    assert_same(cifar10(python), cifar10(binary))
    again = folder_of(tmp_path, "Meine Bilder ü")
    write_cifar10_python(again, write_python_3)
    assert_same(cifar10(again), cifar10(binary))


def test_cifar100_forms_are_the_same_data_with_fine_labels(tmp_path: Path) -> None:
    write_cifar100_binary(folder_of(tmp_path / "a b", "cifar-100-binary"))
    write_cifar100_python(folder_of(tmp_path / "ç", "cifar-100-python"))
    data = cifar100(tmp_path / "a b", valid=100)
    assert_same(data, cifar100(tmp_path / "ç", valid=100))
    assert len(data.classes) == 100
    assert data.classes[99] == "fine99"
    assert data.test.labels.tolist() == [index % 100 for index in range(400)]


def test_the_split_is_seeded_and_the_test_part_fixed(binary: Path) -> None:
    first, other = cifar10(binary), cifar10(binary, split_seed=1)
    assert_same(first, cifar10(binary))
    assert not torch.equal(first.valid.images, other.valid.images)
    assert torch.equal(first.test.images, other.test.images)


@pytest.mark.skipif(not UNPACK.is_file(), reason="the shared data sets are not beside the repository")
def test_the_real_small_subset(tmp_path: Path) -> None:
    subprocess.run([sys.executable, UNPACK, "cifar10", tmp_path, "--small"], check=True, capture_output=True)
    data = cifar10(tmp_path)
    assert [len(split) for split in (data.train, data.valid, data.test)] == [3600, 400, 1000]
    assert data.classes[0] == "airplane"
    # The published moments of all 50,000 training images.
    torch.testing.assert_close(data.mean, torch.tensor([0.4914, 0.4822, 0.4465]), rtol=0, atol=0.01)
    torch.testing.assert_close(data.std, torch.tensor([0.2470, 0.2435, 0.2616]), rtol=0, atol=0.01)


def test_a_missing_directory_is_one_sentence_with_the_address(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent", "~nobody-of-that-name", "x" * 5000):
        with pytest.raises(UserError, match=r"no cifar10 data there; it must be or hold .*cs.toronto.edu"):
            cifar10(root)


def test_cifar10_is_not_taken_for_cifar100(binary: Path, python: Path) -> None:
    for root in (binary, python):
        with pytest.raises(UserError, match="no cifar100 data there"):
            cifar100(root)


@pytest.mark.parametrize("name", ["data_batch_3.bin", "test_batch.bin", "batches.meta.txt"])
def test_a_missing_file_is_named(binary: Path, name: str) -> None:
    (binary / name).unlink()
    with pytest.raises(UserError, match=f"cifar-10-batches-bin lacks {name}: unpack"):
        cifar10(binary.parent)


@pytest.mark.parametrize("size", [0, 1, 3072, 3073 * 40 - 1])
def test_a_truncated_binary_file_is_named(binary: Path, size: int) -> None:
    path = binary / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"data_batch_2.bin cannot be read: .*; unpack the archive again"):
        cifar10(binary)


@pytest.mark.parametrize("size", [0, 1, 200, 100_000])
def test_a_truncated_python_file_is_named(python: Path, size: int) -> None:
    path = python / "data_batch_2"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"data_batch_2 cannot be read: .*; unpack the archive again"):
        cifar10(python)


def test_a_label_out_of_range_is_damage(binary: Path, python: Path) -> None:
    path = binary / "test_batch.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    write_python_2(python / "test_batch", {"labels": [-1] * PER_FILE, "data": pixels(0)})
    for folder in (binary, python):
        with pytest.raises(UserError, match=r"test_batch.* is damaged: it has a label outside 0 to 9"):
            cifar10(folder)


@pytest.mark.parametrize(
    "content",
    [
        {"labels": labels(10)},
        {"data": pixels(0)},
        {"data": pixels(0), "labels": labels(10)[:-1]},
        {"data": pixels(0), "labels": ["a"] * PER_FILE},
        {"data": pixels(0)[:, :-1], "labels": labels(10)},
        {"data": pixels(0).reshape(-1), "labels": labels(10)},
        {"data": "text", "labels": labels(10)},
        [1, 2],
    ],
)
def test_an_altered_python_file_is_named(python: Path, content: object) -> None:
    write_python_2(python / "data_batch_5", content)
    with pytest.raises(UserError, match="data_batch_5 cannot be read: it"):
        cifar10(python)


def test_a_huge_label_is_damage(python: Path) -> None:
    write_python_3(python / "data_batch_5", {"data": pixels(0), "labels": [2**80] * PER_FILE})
    with pytest.raises(UserError, match="data_batch_5 cannot be read"):
        cifar10(python)


def test_a_malicious_pickle_is_refused_and_not_run(python: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (python / "data_batch_1").write_bytes(b"cos\nmkdir\n(S'" + str(trace).encode() + b"'\ntR.")
    with pytest.raises(UserError, match=r"'os\.mkdir', which data has no use for"):
        cifar10(python)
    assert not trace.exists()


def test_a_wrong_number_of_classes_is_refused(binary: Path, python: Path) -> None:
    (binary / "batches.meta.txt").write_text("cat\ndog\n")
    write_python_2(python / "batches.meta", {"label_names": ["cat", "dog"]})
    for folder in (binary, python):
        with pytest.raises(UserError, match="names 2 classes instead of 10"):
            cifar10(folder)
    write_python_2(python / "batches.meta", {"names": ["cat", "dog"]})
    with pytest.raises(UserError, match="it has no list 'label_names'"):
        cifar10(python)
