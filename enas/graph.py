"""CUDA graphs: a function of tensors, captured once and replayed ever after.

An architecture is a row of integers that the kernels read on the device, so one captured step serves any child. What a
graph saves is the time in which Python asks for one small kernel after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from enas import kernels
from enas.errors import UserError

MODES = ("auto", "off")
WARM_UP = 3
"""Plain calls for each set of shapes before it is captured: libraries choose algorithms and make workspaces then."""
MOST = 4
"""Sets of shapes that are captured; each keeps its memory."""

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Recording(Protocol[Result_co]):
    """A call that was captured."""

    def replay(self, inputs: Sequence[Tensor]) -> Result_co:
        """Do the call again for other inputs of the same shapes; the result is overwritten by the next replay."""


Record = Callable[[Callable[..., Result], Sequence[Tensor], Sequence[torch.Generator]], Recording[Result]]


def wanted(mode: Literal["auto", "off"], device: torch.device, static: bool) -> bool:
    """Whether to capture on `device`: with `auto` on CUDA, with the native kernels, where the space is `static`.

    The reference reads routes on the host, which no graph can. Raises UserError for another mode.
    """
    if mode not in MODES:
        raise UserError(f"graph={mode}: allowed are auto and off")
    return mode == "auto" and static and device.type == "cuda" and kernels.in_use(device) == "native"


class Captured(Generic[Result]):
    """`function` with the same numbers, plain or captured.

    The first `WARM_UP` calls for each set of shapes and types of the inputs are plain, the next is captured, and it and
    all later ones are replays. Inputs are copied; a result is overwritten by the next call. What the function does on
    the host happens only while it is captured, so it must depend on nothing but its inputs and on tensors that stay
    where they are.

    function    of tensors on one device; asks nothing of the device that the host would have to wait for
    generators  on the device, all that the function draws from
    capture     False: every call is plain
    """

    def __init__(
        self,
        function: Callable[..., Result],
        generators: Sequence[torch.Generator] = (),
        capture: bool = False,
        record: Record[Result] | None = None,
    ):
        self._function, self._generators, self._capture = function, tuple(generators), capture
        self._record: Record[Result] = record or CudaRecording
        self._calls: dict[tuple[object, ...], int] = {}
        self._recordings: dict[tuple[object, ...], Recording[Result]] = {}

    def __call__(self, *inputs: Tensor) -> Result:
        if not self._capture:
            return self._function(*inputs)
        key = tuple((tensor.shape, tensor.dtype) for tensor in inputs)
        if key not in self._recordings:
            self._calls[key] = self._calls.get(key, 0) + 1
            if self._calls[key] <= WARM_UP or len(self._recordings) == MOST:
                return self._function(*inputs)
            self._recordings[key] = self._record(self._function, inputs, self._generators)
        return self._recordings[key].replay(inputs)


class CudaRecording(Generic[Result]):
    """A call as a CUDA graph; its random draws go on from where the generators stand at each replay."""

    def __init__(
        self, function: Callable[..., Result], inputs: Sequence[Tensor], generators: Sequence[torch.Generator]
    ):
        self._inputs = [tensor.clone() for tensor in inputs]
        self._graph = torch.cuda.CUDAGraph()
        for generator in generators:
            self._graph.register_generator_state(generator)
        with torch.cuda.device(inputs[0].device), torch.cuda.graph(self._graph):
            self._result = function(*self._inputs)

    def replay(self, inputs: Sequence[Tensor]) -> Result:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._result
