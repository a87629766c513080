"""A stand-in for a CUDA graph, to test on a CPU what depends on one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Tape:
    """Does a captured call again on its own copies of the inputs, into its own result; not when it is made."""

    made = 0

    def __init__(
        self,
        function: Callable[..., Tensor | None],
        inputs: Sequence[Tensor],
        generators: Sequence[torch.Generator],
    ):
        Tape.made += 1
        self._function, self._inputs = function, [tensor.clone() for tensor in inputs]
        self._result: Tensor | None = None

    def replay(self, inputs: Sequence[Tensor]) -> Tensor | None:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        result = self._function(*self._inputs)
        if result is None or self._result is None:
            self._result = result
        else:
            self._result.copy_(result)
        return self._result
