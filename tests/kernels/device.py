"""What a test calls the device code through."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shim.library import set_order

ORDERS = (0, 1, 17)
"""Forwards, backwards, mixed."""


class HostDevice:
    """The operations of csrc/cuda on tensors of the CPU."""

    def __init__(self, library: Path):
        self.library = library
        torch.ops.load_library(library)

    def has(self, operation: str) -> bool:
        return torch._C._dispatch_has_kernel_for_dispatch_key(f"enas_shim::{operation}", "CPU")

    def call(self, operation: str, *arguments: Any, order: int = 0) -> tuple[Tensor, ...]:
        """All tensors that it gives back, in one row; blocks and threads run in the order of that number."""
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
