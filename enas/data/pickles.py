"""Reading a pickle of plain values and numpy arrays without running anything in it.

The python form of CIFAR is a pickle, and a pickle is a program: loaded as usual, a file from a stranger can
run any command. Here the only names a file may use stand for one inert class, and any other name is refused.
"""

import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt

# What a pickled array of numbers names, under numpy 1 and 2.
ARRAY_NAMES = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
}


class _Inert:
    """Stands in for every numpy name: keeps the arguments and the state it is given, and does nothing."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Inert]:
        if (module, name) not in ARRAY_NAMES:
            raise pickle.UnpicklingError(f"it names {f'{module}.{name}'!r}, which data has no use for")
        return _Inert


def load_inert(path: Path) -> dict[str, object]:
    """The dictionary that a pickle file holds; text keys, and arrays as they come for `to_array`.

    Byte strings (all strings of Python 2) stay bytes, except in the keys.

    Raises OSError where the file cannot be read and pickle.UnpicklingError where it is damaged, holds
    anything other than a dictionary with text keys, or names anything other than numpy arrays.
    """
    with path.open("rb") as file:
        try:
            content = _InertUnpickler(file, encoding="bytes").load()
        except pickle.UnpicklingError:
            raise
        except Exception as error:  # a damaged pickle can raise almost any exception
            raise pickle.UnpicklingError(f"it breaks off or is altered ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(key, str | bytes) for key in content):
        raise pickle.UnpicklingError("it holds no dictionary with text keys")
    return {key if isinstance(key, str) else key.decode("latin1"): value for key, value in content.items()}


def to_array(value: object) -> npt.NDArray[np.uint8]:
    """The uint8 array that `load_inert` left unmade; ValueError where it is anything else.

    numpy pickles an array's state as (version, shape, dtype, is_fortran, bytes).
    """
    match value:
        case _Inert(state=(1, tuple(shape), _Inert(arguments=("u1" | b"u1", *_)), False, bytes(content))):
            if all(type(length) is int for length in shape):
                return np.frombuffer(content, np.uint8).reshape(shape)
    raise ValueError("it holds something other than an array of bytes")
