"""Products of the native library whose halves are filled up to whole vectors."""

import pytest
import torch
from torch import Tensor

from conformance import generator
from enas.kernels import reference
from enas.kernels.interface import Pointwise
from enas.kernels.native import load
from tolerances import assert_same

load()


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("outputs", range(1, 10))
@pytest.mark.parametrize("channels", [1, 4, 5])
def test_a_factorised_reduction_of_any_number_of_outputs(outputs: int, channels: int) -> None:
    """Four outputs are two halves of two, each filled up to four: as many as the whole output has."""
    x = normal(2, 3, 5, 4, channels, seed=0).requires_grad_()
    weights = Pointwise(normal(1, channels, outputs, seed=1), normal(1, outputs, seed=2), normal(1, outputs, seed=3))
    for weight in weights:
        weight.requires_grad_()
    expected, used = reference.reduction_norm(x, weights)
    own = [weight[0].detach() for weight in weights]
    found, z, own_used = torch.ops.enas.pointwise_norm(x.detach(), *own, None, True)
    assert_same(found, expected)
    assert_same(own_used, used.tensor())
    grad = normal(*expected.shape, seed=4)
    expected_grads = torch.autograd.grad(expected, [x, *weights], grad)
    grads = torch.ops.enas.pointwise_norm_backward(grad, x.detach(), *own[:2], z, own_used, False, True)
    for mine, theirs in zip(grads, expected_grads, strict=True):
        assert_same(mine.reshape(theirs.shape), theirs)
