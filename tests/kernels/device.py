"""What a test calls the device code through."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from enas.kernels import native, shapes
from shim.library import set_order

ORDERS = (0, 1, 17)
"""Forwards, backwards, mixed."""


class HostDevice:
    """The operations of csrc/cuda on tensors of the CPU."""

    def __init__(self, library: Path):
        self.library = library
        torch.ops.load_library(library)

    def call(self, operation: str, *arguments: Any, order: int = ORDERS[0]) -> tuple[Tensor, ...]:
        """All tensors that it gives back, in one row; blocks and threads run in the order of that number."""
        if not operation.startswith("check_") and not _has_twin(operation):
            _skip(operation)
        set_order(self.library, order)
        return flat(getattr(torch.ops.enas_shim, operation)(*arguments))

    def call_in_all_orders(self, operation: str, *arguments: Any) -> tuple[Tensor, ...]:
        """Asserts that the order of blocks and threads changes no bit."""
        first = self.call(operation, *arguments, order=ORDERS[0])
        for order in ORDERS[1:]:
            for one, other in zip(first, self.call(operation, *arguments, order=order), strict=True):
                assert torch.equal(one.nan_to_num(), other.nan_to_num()), f"{operation}: order {order} changes it"
                assert torch.equal(one.isnan(), other.isnan()), f"{operation}: order {order} changes it"
        return first


def flat(results: Any) -> tuple[Tensor, ...]:
    """The tensors of a result that may be one, a row of them, or a row with lists among them."""
    if isinstance(results, Tensor):
        return (results,)
    return tuple(tensor for part in results for tensor in flat(part))


OPERATIONS = torch.library.Library("enas", "FRAGMENT")


def stand_in(library: Path) -> None:
    """Let the native operations run the device code of `library`, which takes the place of the native library.

    A test of an operation that has no CUDA twin is skipped. New tensors are full of NaN.
    """
    torch.use_deterministic_algorithms(True)
    torch.ops.load_library(library)
    set_order(library, ORDERS[-1])
    for name in torch._C._dispatch_get_all_op_names():
        namespace, _, operation = name.partition("::")
        if namespace != "enas_shim" or operation.startswith("check_"):
            continue
        function = getattr(torch.ops.enas_shim, operation)
        OPERATIONS.define(str(function.default._schema).removeprefix("enas_shim::"))
        if operation == "cell_slots":  # on a device nobody looks at the routes
            function = lambda routes, _: shapes.full_slots(routes)  # noqa: E731
        elif not _has_twin(operation):
            function = partial(_skip, operation)
        OPERATIONS.impl(operation, function, "CPU")
    native.LIBRARY = library


def _has_twin(operation: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"enas_shim::{operation}", "CPU")


def _skip(operation: str, *_: Any) -> None:
    pytest.skip(f"{operation} has no CUDA twin")
