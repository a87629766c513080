"""The proxies on networks small enough for pencil and paper."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from enas.estimator.proxies import RIDGE, jacobian_covariance, naswot, synflow


class Function(nn.Module):
    """A network without weights."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


def linear(weight: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
    return layer


def pixels(*rows: list[float]) -> Tensor:
    """Images [B, 1, 1, C]."""
    return torch.tensor(rows).view(len(rows), 1, 1, -1)


def test_synaptic_flow_is_the_output_once_a_layer() -> None:
    """With absolute weights the hidden units are 3 and 3 and the output is 9, to which each layer's products sum up."""
    network = nn.Sequential(nn.Flatten(), linear([[1.0, -2.0], [3.0, 0.0]]), nn.ReLU(), linear([[-1.0, 2.0]]))
    assert synflow(network, (1, 1, 2)).item() == pytest.approx(math.log(1 + 18))


def test_biases_and_gains_do_not_count() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 1))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, 2.0]]))  # type: ignore[operator]
        network[1].bias.fill_(100.0)  # type: ignore[operator]
    assert synflow(network, (1, 1, 2)).item() == pytest.approx(math.log(1 + 3))


def test_a_flow_beyond_float32_and_beyond_float64_is_finite() -> None:
    layers = [linear([[1e30]]) for _ in range(12)]
    assert synflow(nn.Sequential(*layers[:3]), (1, 1, 1)).item() == pytest.approx(math.log(3e90), rel=1e-6)
    assert synflow(nn.Sequential(*layers), (1, 1, 1)).item() == pytest.approx(math.log(torch.finfo(torch.float64).max))


def test_a_network_that_is_cut_through_has_no_flow() -> None:
    network = nn.Sequential(linear([[0.0]]), linear([[2.0]]))
    assert synflow(network, (1, 1, 1)).item() == 0.0


def test_codes_are_compared_over_all_relus() -> None:
    """Three units of the first ReLU: codes 101 and 110 agree once. One of the second: 1 and 1 agree."""
    one = Function(lambda x: x.relu())
    images = pixels([1.0, -1.0, 2.0], [1.0, 3.0, 0.0])
    assert naswot(one, images).item() == pytest.approx(math.log(3 * 3 - 1 * 1))
    two = Function(lambda x: torch.relu(x.relu().sum(dim=3)))
    assert naswot(two, images).item() == pytest.approx(math.log(4 * 4 - 2 * 2))
    calls = Function(lambda x: nn.functional.relu(x) + torch.relu(x) + x.clone().relu_())
    assert naswot(calls, images).item() == pytest.approx(math.log(9 * 9 - 3 * 3))


def test_images_may_stand_behind_a_child() -> None:
    images = pixels([1.0, -1.0, 2.0], [1.0, 3.0, 0.0])
    assert torch.equal(naswot(Function(lambda x: x[None].relu()), images), naswot(Function(torch.relu), images))


def test_images_seen_alike_are_worse_than_any_seen_apart() -> None:
    network = Function(torch.relu)
    alike = naswot(network, pixels([1.0, -1.0], [2.0, -2.0], [1.0, 1.0]))
    apart = naswot(network, pixels([1.0, -1.0], [2.0, 2.0], [-1.0, 1.0]))
    assert torch.isfinite(alike)
    assert alike < apart


def test_without_relus_there_are_no_codes() -> None:
    with pytest.raises(ValueError, match="calls no ReLU"):
        naswot(Function(torch.tanh), pixels([1.0], [2.0]))


ALIKE = -(math.log(2 + RIDGE) + 1 / (2 + RIDGE) + math.log(RIDGE) + 1 / RIDGE)
APART = -2 * (math.log(1 + RIDGE) + 1 / (1 + RIDGE))


@pytest.mark.parametrize(
    ("function", "score"),
    [
        (lambda x: x.flatten(1) @ torch.tensor([1.0, 2.0, 3.0, 5.0]), ALIKE),  # the gradient is the same everywhere
        (lambda x: x.square().sum(dim=(1, 2, 3)) / 2, APART),  # it is the image, and these images are orthogonal
        (lambda x: 0 * x.sum(dim=(1, 2, 3)), ALIKE),  # it is 0: nothing is told apart
        (lambda x: torch.ones(len(x), requires_grad=True), ALIKE),  # the images are not even looked at
    ],
)
def test_gradients_are_correlated(function: Callable[[Tensor], Tensor], score: float) -> None:
    images = pixels([1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0])
    assert jacobian_covariance(Function(function), images).item() == pytest.approx(score, rel=1e-6)
    assert APART > ALIKE
