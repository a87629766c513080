"""The helper that refuses to wait for a device: what it refuses, and what it lets pass."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from synchronisation import Synchronised, refuse_synchronisation
from torch import Tensor

WAITS: dict[str, Callable[[Tensor], Any]] = {
    "item": lambda x: x[0].item(),
    "float": lambda x: float(x[0]),
    "int": lambda x: int(x[0]),
    "bool": lambda x: bool(x[0] > 0),
    "if": lambda x: 1 if x[0] > 0 else 2,
    "index": lambda x: list(range(9))[x.long()[0]],
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "cpu": lambda x: x.cpu(),
    "equal": lambda x: torch.equal(x, x),
    "nonzero": lambda x: x.nonzero(),
    "unique": lambda x: x.unique(),
    "mask": lambda x: x[x > 1],
    "write by mask": lambda x: x.__setitem__(x > 1, torch.zeros(2)),
}


@pytest.mark.parametrize("name", WAITS)
def test_what_waits_is_refused(name: str) -> None:
    x = torch.tensor([1.0, 2.0, 3.0])
    WAITS[name](x)
    with refuse_synchronisation(), pytest.raises(Synchronised, match="waits for the device"):
        WAITS[name](x)


def test_work_on_the_device_passes() -> None:
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    with refuse_synchronisation():
        y = torch.where(x > 1, x, 0.0)[torch.tensor([0, 2])]
        y.square().sum().backward()
        x.new_empty(3).exponential_().argmax()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.0, 6.0]
