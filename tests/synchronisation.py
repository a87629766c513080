"""What makes the host wait for a device, refused: on the CPU it costs nothing, and would pass unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READS = ("_local_scalar_dense", "item", "is_nonzero", "equal", "allclose")
"""Operations that give a number to the host."""

SHAPES = (
    "nonzero",
    "nonzero_numpy",
    "argwhere",
    "masked_select",
    "unique",
    "_unique",
    "_unique2",
    "unique_consecutive",
)
"""Operations whose result has a shape that depends on numbers."""

METHODS = ("tolist", "numpy", "item", "cpu", "__array__", "__bool__", "__int__", "__float__", "__index__")
"""Methods of a tensor that read it, some of them past all operations."""


class Synchronised(AssertionError):
    """The host would have waited."""


@contextmanager
def refuse_synchronisation() -> Iterator[None]:
    """Raise `Synchronised` where the host would read a tensor, or a shape would depend on its numbers."""
    with _Methods(), _Operations():
        yield


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = function._schema.name.split("::")[1]
        masked = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in READS or name in SHAPES or masked:
            raise Synchronised(f"{function} waits for the device")
        return function(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(function, "__name__", "")
        if name in METHODS and args and isinstance(args[0], Tensor):
            raise Synchronised(f"{name} waits for the device")
        return function(*args, **(kwargs or {}))
