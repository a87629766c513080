"""Reading pickles of arrays without running anything in them."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from enas.data.pickles import load_inert, to_array

ARRAY = np.arange(24, dtype=np.uint8).reshape(4, 6)


def write(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


class Call:
    """Pickles as a call: unpickled as usual, `function(*arguments)` runs."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call  # type: ignore[return-value]


@pytest.mark.parametrize("protocol", [3, 4])
def test_plain_values_and_arrays(tmp_path: Path, protocol: int) -> None:
    content = load_inert(write(tmp_path / "a", {"data": ARRAY, "labels": [1, 2], b"name": "x"}, protocol))
    assert np.array_equal(to_array(content["data"]), ARRAY)
    assert content["labels"] == [1, 2]
    assert content["name"] == "x"


def test_numpy_1_names(tmp_path: Path) -> None:
    path = tmp_path / "a"
    renamed = pickle.dumps({"data": ARRAY}, 3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path.write_bytes(renamed)
    assert np.array_equal(to_array(load_inert(path)["data"]), ARRAY)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("function", [os.mkdir, eval, exec, getattr, np.load])
def test_a_malicious_pickle_does_not_run(tmp_path: Path, function: object, protocol: int) -> None:
    trace = tmp_path / "trace"
    argument = str(trace) if function is os.mkdir else f"__import__('os').mkdir({str(trace)!r})"
    path = write(tmp_path / "a", {"data": Call(function, argument)}, protocol)
    with pytest.raises(pickle.UnpicklingError, match=r"it names '.*', which data has no use for"):
        load_inert(path)
    assert not trace.exists()


def test_the_malicious_pickle_of_the_test_above_would_run_as_usual(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    pickle.loads(pickle.dumps(Call(os.mkdir, str(trace))))
    assert trace.is_dir()


@pytest.mark.parametrize(
    "program",
    [
        b"cnumpy\nndarray.__class__\n.",  # a dotted name
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
        b"cbuiltins\neval\n.",
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"\x82\x01.",  # the copyreg extension registry
        b"Px\n.",  # a persistent id
    ],
)
def test_other_names_are_refused(tmp_path: Path, program: bytes) -> None:
    (tmp_path / "a").write_bytes(program)
    with pytest.raises(pickle.UnpicklingError):
        load_inert(tmp_path / "a")


def test_allowed_names_do_nothing_when_called(tmp_path: Path) -> None:
    # numpy.ndarray((2**40,)) would take a terabyte; the state of a class, not an instance, is refused.
    (tmp_path / "a").write_bytes(b"}(S'x'\ncnumpy\nndarray\n(L1099511627776L\ntRu.")
    with pytest.raises(ValueError, match="something other than an array of bytes"):
        to_array(load_inert(tmp_path / "a")["x"])
    (tmp_path / "a").write_bytes(b"cnumpy\nndarray\n}S'x'\nI1\nsb.")
    with pytest.raises(pickle.UnpicklingError, match="breaks off or is altered"):
        load_inert(tmp_path / "a")


@pytest.mark.parametrize("content", [[1, 2], {1: 2}, "text", None])
def test_anything_but_a_dictionary_of_text_keys_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(pickle.UnpicklingError, match="no dictionary with text keys"):
        load_inert(write(tmp_path / "a", content))


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1, 2],
        b"bytes",
        ARRAY.astype(np.int8),
        ARRAY.astype(np.int64),
        np.asfortranarray(ARRAY),
        np.array([None, 1]),
    ],
)
def test_anything_but_an_array_of_bytes_is_refused(tmp_path: Path, value: object) -> None:
    content = load_inert(write(tmp_path / "a", {"data": value}))
    with pytest.raises(ValueError, match="something other than an array of bytes"):
        to_array(content["data"])


def test_every_truncation_and_many_alterations_give_one_kind_of_error(tmp_path: Path) -> None:
    whole = pickle.dumps({"data": ARRAY, "labels": [1, 2, 3, 4]}, 3)
    random = np.random.default_rng(0)
    damaged = [whole[:length] for length in range(len(whole))]
    for position in range(len(whole)):
        damaged.append(whole[:position] + bytes([random.integers(256)]) + whole[position + 1 :])
    path, refused = tmp_path / "a", 0
    for content in damaged:
        path.write_bytes(content)
        try:
            to_array(load_inert(path).get("data"))
        except (pickle.UnpicklingError, ValueError, OverflowError):
            refused += 1
    assert refused >= len(whole)  # every truncation at least


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_inert(tmp_path / "absent")
