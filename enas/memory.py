"""How much memory a pass of a network will take, known before it is taken.

The pass is run on tensors without numbers, and the sizes of all that is alive at once are added up: a tenth of a second
for any space. What the kernels use for themselves is not seen; `MARGIN` and `WORKSPACE` stand for it.
"""

from __future__ import annotations

import logging
import math
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from enas import kernels

MARGIN, WORKSPACE = 1.2, 128 * 2**20
"""Measured on the published supernet (docs/results.md): kernels on the CPU take up to 90 MiB beside what is counted."""


GROUP = Path("/sys/fs/cgroup")
"""Where Linux tells the limits of a container."""
NEGLIGIBLE = 4096
"""No child has more numbers alive in a forward pass than so many for each number of its images: not worth a look where
even these are few."""


def peak(network: nn.Module, inputs: Sequence[int], dtype: torch.dtype, routes: Tensor, backward: bool) -> int:
    """Bytes that a pass of `network` adds at its peak: images `inputs` [M or 1, B, H, W, C], routes [M, E, 3].

    With `backward` the gradients of all weights are among them. The native kernels are assumed.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes a second, which only this needs

    # The routes keep their numbers, since some networks read them on the host.
    mode, tally = FakeTensorMode(allow_non_fake_inputs=True), _Tally()
    own: dict[str, Any] = {
        name: mode.from_tensor(value.cpu()) for name, value in network.state_dict(keep_vars=True).items()
    }
    own_routes = routes.cpu()
    with mode, tally, torch.set_grad_enabled(backward):
        images = torch.empty(*inputs, dtype=dtype)
        logits = functional_call(network, own, (images, own_routes)).logits
        if backward:
            logits.sum().backward()
    return int(tally.most * MARGIN) + WORKSPACE


def free(device: torch.device) -> int | None:
    """Bytes that a process can still get on `device`; None where the system does not say."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    candidates = [_of_the_machine(), _of_the_group()]
    return min((known for known in candidates if known is not None), default=None)


def affordable(
    network: nn.Module, inputs: Sequence[int], dtype: torch.dtype, route: Tensor, children: int, device: torch.device
) -> int:
    """How many of `children` one forward pass on images [1, B, H, W, C] has memory for, at least 1.

    `route` [1, E, 3] stands for each of them. All, where the system or the kernels in use do not let it be known; that
    they are fewer is logged.
    """
    room = free(device)
    if room is None or kernels.in_use(device) != "native":
        return children
    if children * math.prod(inputs) * dtype.itemsize * NEGLIGIBLE < room:
        return children

    def needed(number: int) -> int:
        return peak(network, inputs, dtype, route.expand(number, -1, -1), backward=False)

    most = needed(children)
    if most <= room or children == 1:
        return children
    one = needed(1)
    fitting = max(1, 1 + int((room - one) * (children - 1) / max(most - one, 1)))
    logging.getLogger("enas").warning(
        "enas: %d children in one pass would need %.1f GiB, %.1f GiB are free: %d at a time instead",
        children, most / 2**30, room / 2**30, fitting,
    )  # fmt: skip
    return fitting


class _Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The bytes of all tensors that are alive, now and at the most."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = self._now = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        identity, size = storage._cdata, storage.nbytes()
        if identity not in self._alive:
            self._alive.add(identity)
            self._now += size
            self.most = max(self.most, self._now)
            weakref.finalize(storage, self._drop, identity, size)

    def _drop(self, identity: int, size: int) -> None:
        self._alive.discard(identity)
        self._now -= size


def _of_the_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _of_the_group() -> int | None:
    """What the control group of the process, a container's for instance, leaves."""
    try:
        limit = (GROUP / "memory.max").read_text(encoding="utf-8").strip()
        used = int((GROUP / "memory.current").read_text(encoding="utf-8"))
        return None if limit == "max" else int(limit) - used
    except (OSError, ValueError):
        return None
