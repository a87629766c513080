"""Digests of what csrc/cuda computes: `bits.py [LIBRARY MULTIPROCESSORS]` -> JSON, by call.

In a process of its own, since how programs are launched is decided once (ENAS_LAUNCH, csrc/cuda/residency.cpp). Without
arguments on the GPU, else by the device code built for the host, of a device with so many multiprocessors.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from enas.kernels import native
from kernels.device import flat, stand_in
from kernels.half_cases import HALF_CASES
from kernels.native_cases import Call, Case, cell_call, normal, outcome
from kernels.operations import CASES
from shim.library import set_multiprocessors

OPERATIONS = [case for case in [*CASES, *HALF_CASES] if not case.operation.startswith(("null", "augment", "policy"))]
CELLS = {
    "normal": Case(channels=20, height=9, width=18),
    "concatenated reduction": Case(channels=12, height=11, width=9, stride=2, project=False, seed=2),
    "reduction": Case(children=2, channels=33, height=7, width=5, nodes=2, stride=2, seed=3),
    "more steps than one launch has": Case(children=2, batch=1, channels=4, height=3, width=3, nodes=14, seed=4),
}


def results(device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, Sequence[Tensor]]]:
    """What every operation gives for its cases, and cells with their gradients."""

    def moved(arguments: Any) -> Any:
        return tree_map(lambda one: one.to(device) if isinstance(one, Tensor) else one, arguments)

    for one in OPERATIONS:
        yield one.name, flat(getattr(torch.ops.enas, one.operation)(*moved(one.arguments(dtype))))
    for name, case in CELLS.items():
        call = cell_call(case, case.routes().to(device))
        yield name, _outcome(call, moved([*case.inputs(), *case.weights().tensors()]), 2, dtype)
    sizes = ((2, 2, 9, 10, 20), (2, 5, 5, 20), (2, 20, 20), (2, 20), (2, 20))
    tensors = [normal(*size, seed=place) for place, size in enumerate(sizes)]
    yield "separable", _outcome(partial(_separable), moved(tensors), 1, dtype)


def _separable(module: Any, tensors: list[Tensor]) -> Any:
    return module.separable(*tensors, statistics=None, stride=2)


def _outcome(call: Call, tensors: list[Tensor], images: int, dtype: torch.dtype) -> list[Tensor]:
    typed = [tensor.to(dtype if place < images else torch.float32) for place, tensor in enumerate(tensors)]
    out, _ = call(native, typed)
    gradient = normal(*out.shape, seed=99).to(dtype).to(out.device)
    return outcome(call, native, typed, gradient)


def main(library: Path | None = None, multiprocessors: int = 0) -> None:
    if library is not None:
        set_multiprocessors(library, multiprocessors)
        stand_in(library)
    else:
        native.load()
    digests = {}
    for dtype in (torch.float32, torch.bfloat16):
        for name, tensors in results(torch.device("cpu" if library else "cuda"), dtype):
            content = hashlib.sha256()
            for tensor in tensors:
                content.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
            digests[f"{name}, {dtype}"] = content.hexdigest()
    print(json.dumps(digests))


if __name__ == "__main__":
    main(*(convert(argument) for convert, argument in zip((Path, int), sys.argv[1:], strict=False)))
