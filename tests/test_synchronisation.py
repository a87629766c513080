"""The watch over waits sees every kind of them."""

from collections.abc import Callable

import pytest
import torch
from synchronisation import no_reads
from torch import Tensor


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x.cpu(),
        lambda x: bool(x[0]),
        lambda x: float(x[0]),
        lambda x: range(x[0].long()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.equal(x, x),
        lambda x: torch.unique(x),
    ],
)
def test_what_waits_fails(read: Callable[[Tensor], object]) -> None:
    x = torch.ones(3)
    read(x)
    with no_reads(), pytest.raises(AssertionError, match="makes the host wait"):
        read(x)


def test_what_does_not_wait_passes() -> None:
    x = torch.ones(3, requires_grad=True)
    with no_reads():
        y = torch.where(x > 0, x, 0)[torch.tensor([0, 2])]
        y.sum().backward()
