"""The parts of a cell, and what stands around it, against plain loops over pixels."""

import numpy as np
import pytest
import torch
from torch import Tensor

from conformance import generator
from enas.kernels import parts, reference
from enas.kernels.interface import Pointwise
from kernels.loops import depthwise, halved, norm, pooled
from tolerances import assert_same

CHANNELS, BATCH = 3, 2


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (5, 4), (3, 7)])
@pytest.mark.parametrize("stride", [1, 2])
def test_pools_do_not_count_the_border(height: int, width: int, stride: int) -> None:
    x = normal(BATCH, height, width, CHANNELS) - 3.0  # a border of zeros would be the maximum
    found = parts.max_pool(x, stride)
    assert_same(found, torch.from_numpy(pooled(x.numpy(), stride, np.maximum.reduce)))
    found = parts.average_pool(x, stride)
    assert_same(found, torch.from_numpy(pooled(x.numpy(), stride, lambda pixels: sum(pixels) / len(pixels))))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (5, 4)])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_reduction_norm_is_what_the_loops_say(height: int, width: int, channels: int) -> None:
    weights = Pointwise(normal(1, CHANNELS, channels), normal(1, channels, seed=1), normal(1, channels, seed=2))
    x = normal(2, BATCH, height, width, CHANNELS, seed=3)
    out, used = reference.reduction_norm(x, weights)
    expected = [
        norm(halved(np.maximum(child.numpy(), 0), weights.weight[0]), weights.gain[0], weights.bias[0]) for child in x
    ]
    assert_same(out, torch.from_numpy(np.stack(expected)))
    assert used.tensor().shape == (2, 1, 2, channels)
    assert_same(reference.reduction_norm(x, weights, used.tensor())[0], out)


def test_pointwise_norm_is_what_the_loops_say() -> None:
    weights = Pointwise(normal(1, CHANNELS, 5), normal(1, 5, seed=1), normal(1, 5, seed=2))
    x = normal(2, BATCH, 4, 3, CHANNELS, seed=3)
    out, used = reference.pointwise_norm(x, weights)
    expected = [
        norm(np.maximum(child.numpy(), 0) @ weights.weight[0].numpy(), weights.gain[0], weights.bias[0]) for child in x
    ]
    assert_same(out, torch.from_numpy(np.stack(expected)))
    assert_same(reference.pointwise_norm(x, weights, used.tensor())[0], out)


def test_convolution_norm_is_what_the_loops_say() -> None:
    kernel, gain, bias = normal(3, 3, CHANNELS, 4), normal(4, seed=1), normal(4, seed=2)
    x = normal(2, BATCH, 4, 3, CHANNELS, seed=3)
    out, used = reference.convolution_norm(x, kernel, gain, bias)
    expected = []
    for child in x.numpy():
        z = np.zeros((*child.shape[:3], 4))
        for feature in range(4):  # a dense convolution is a sum of depthwise ones
            z[..., feature] = depthwise(child, kernel[..., feature].numpy(), 1).sum(axis=-1)
        expected.append(norm(z, gain, bias))
    assert_same(out, torch.from_numpy(np.stack(expected)))
    assert_same(reference.convolution_norm(x, kernel, gain, bias, used.tensor())[0], out)


def test_a_constant_channel_is_normalised_to_its_bias() -> None:
    """Variance 0: epsilon keeps the result finite, and the variance that is given back is not negative."""
    x = torch.full((2, 3, 3, 2), 7.0)
    gain, bias = torch.tensor([2.0, 3.0]), torch.tensor([0.5, -1.0])
    out, moment = parts.normalise(x, gain, bias, None)
    assert_same(out, bias.expand_as(out))
    variance = moment.tensor()[1]
    assert (variance >= 0).all()
