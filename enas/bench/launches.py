"""How many kernels a device is asked to run: each costs some microseconds, whatever it does.

On CUDA they are counted by torch's profiler, those of replayed graphs too. On a CPU they are estimated: every operation
that computes something launches one kernel, ours too (tests/kernels/test_launches.py counts what csrc/cuda launches in
a step of the published network), but for those of `SEVERAL`, for a step of descent and for lists of tensors. What is
not told is that a mixed cell launches more, by its candidates, and so does a cell of more than nine nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

TABLE = 124
"""Weights of a launch of a step of gradient descent: csrc/cuda/descent.cu, Table<float>::MOST."""
SEVERAL: Mapping[str, int] = {"select_backward": 2, "slice_backward": 2, "convolution_backward": 2}
"""Zeros and a copy; the gradients of input and weights."""
NOTHING = ("empty", "new_empty", "_local_scalar_dense", "_record_function", "cell_slots")
"""Beginnings of the names of operations that launch nothing."""
CHUNK, CHUNKS, TENSORS = 65_536, 320, (110, 64, 48, 36, 30)
"""Torch's launches over lists: elements of a block, blocks of a launch, tensors of a launch by the number of lists."""


@dataclass(frozen=True)
class Launches:
    """Kernels of one call by origin; `names` has all of them, operations where they were estimated."""

    native: int
    torch: int
    names: Mapping[str, int]
    measured: bool

    @property
    def total(self) -> int:
        """All kernels."""
        return self.native + self.torch

    def __str__(self) -> str:
        said = "" if self.measured else ", estimated"
        return f"{self.total} ({self.native} of csrc/cuda, {self.torch} of torch{said})"


def count(call: Callable[[], object], device: torch.device) -> Launches:
    """The launches of `call`, which has run before: what is only done once has been done."""
    return _measure(call, device) if device.type == "cuda" else _estimate(call)


def _measure(call: Callable[[], object], device: torch.device) -> Launches:
    torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize(device)
    return of_events(profiler.key_averages())


def of_events(events: Sequence[Any]) -> Launches:
    """The launches among the events of `key_averages`; copies and clearing by the driver are no kernels."""
    names = Counter[str]()
    for event in events:
        on_device = event.device_type.name != "CPU" and not event.is_user_annotation
        if on_device and not event.key.startswith(("Memcpy", "Memset")):
            names[event.key] += event.count
    native = sum(number for name, number in names.items() if "enas::" in name)
    return Launches(native, names.total() - native, dict(names.most_common()), measured=True)


def _estimate(call: Callable[[], object]) -> Launches:
    with _Counting() as counting:
        call()
    names = counting.names
    native = sum(number for name, number in names.items() if name.startswith("enas::"))
    return Launches(native, names.total() - native, dict(names.most_common()), measured=False)


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names = Counter[str]()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        named = f"{function.namespace}::{function._opname}"
        number = _launches(function, arguments)
        if number:
            self.names[named] += number
        return function(*arguments, **(options or {}))


def _launches(function: Any, arguments: Sequence[Any]) -> int:
    name: str = function._opname
    if name.startswith(NOTHING) or _is_view(function):
        return 0
    if name == "descend":  # once for the norm, once to move
        weights: int = sum(weight.numel() > 0 for weight in arguments[0])
        return 2 * -(-weights // TABLE)
    lists: list[Sequence[Tensor]] = [
        argument for argument in arguments if isinstance(argument, list | tuple) and _of_tensors(argument)
    ]
    if name.startswith(("_foreach", "_fused")) and lists:
        chunks = sum(-(-tensor.numel() // CHUNK) for tensor in lists[0])
        return max(-(-len(lists[0]) // TENSORS[min(len(lists), len(TENSORS)) - 1]), -(-chunks // CHUNKS))
    return SEVERAL.get(name, 1)


def _is_view(function: Any) -> bool:
    """Whether the operation only gives another view of its argument."""
    aliases = [returned.alias_info for returned in function._schema.returns]
    return bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)


def _of_tensors(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, Tensor) for value in values)
