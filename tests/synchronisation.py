"""A watch over what makes the host wait for the device, which runs on a CPU too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = {
    Tensor.item,
    Tensor.tolist,
    Tensor.numpy,
    Tensor.cpu,
    Tensor.__bool__,
    Tensor.__float__,
    Tensor.__int__,
    Tensor.__index__,
}
"""What Python calls to read numbers."""

WAITS = (
    "aten._local_scalar_dense",  # a number, whoever asks for it
    "aten.equal",
    "aten.is_nonzero",
    "aten.nonzero",  # sizes that depend on numbers, as those of an indexing by a mask, which is found below
    "aten.masked_select",
    "aten.unique",
    "aten._unique2",
    "aten.repeat_interleave.Tensor",
)
"""Operations whose result the host has to have."""


@contextmanager
def no_reads() -> Iterator[None]:
    """Within it, whatever would make the host wait for a device fails with an AssertionError."""
    with _Functions(), _Operations():
        yield


class _Functions(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READS:
            raise AssertionError(f"{func.__name__} makes the host wait for the device")
        return func(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        masked = str(func).startswith("aten.index") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in tree_leaves(args[1:2])
        )
        if masked or str(func).startswith(WAITS):
            raise AssertionError(f"{func} makes the host wait for the device")
        return func(*args, **(kwargs or {}))
