"""Counts what csrc/cuda launches in a training step of the published network: `step.py LIBRARY` -> JSON.

In a process of its own, since the device code takes the native library's place. Images are small: their size changes
no count.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from enas import kernels
from enas.bench.launches import TABLE
from enas.bench.networks import PUBLISHED
from enas.descent import Descent
from enas.randomness import seeded
from enas.space import EnasMicro, Scale
from enas.supernet import Supernet
from kernels.device import stand_in
from shim.library import launches

SCALE = Scale(PUBLISHED.layers, PUBLISHED.filters, height=8, width=8, channels=3, classes=10)


class _Counting(TorchDispatchMode):
    def __init__(self, library: Path):
        super().__init__()
        self.library, self.found = library, defaultdict[str, set[int]](set)

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        before = launches(self.library)
        result = function(*arguments, **(options or {}))
        if function.namespace == "enas" and (number := launches(self.library) - before):
            self.found[function._opname].add(number)
        return result


def main(library: Path) -> None:
    stand_in(library)
    kernels.select("native", torch.device("cpu"))
    space = EnasMicro()
    supernet = Supernet(space, SCALE, seeded(0, "weights"))
    inputs = torch.randn(1, 2, SCALE.height, SCALE.width, SCALE.channels, generator=seeded(0, "inputs"))
    descent = Descent(islice(supernet.named_parameters(), TABLE))
    counting = _Counting(library)
    for row in space.random(2, seeded(0, "children")):
        with counting:
            loss = functional.cross_entropy(supernet(inputs, row[None])[0], torch.arange(2))
            descent.step(loss, 0.1)
    print(json.dumps({name: sorted(numbers) for name, numbers in counting.found.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
