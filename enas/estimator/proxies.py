"""Scores of a network that was never trained: what zero-cost proxies compute, for any module that reads images.

Each takes a freshly initialised network, images [B, H, W, C] -> logits [B, K], whose operations are those of plain
torch, and gives a finite score, float64 []; higher is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

RIDGE = 1e-5
"""Added to eigenvalues by Mellor et al., first version, so that a logarithm and a reciprocal exist."""


def synflow(network: nn.Module, shape: Sequence[int]) -> Tensor:
    """log(1 + sum of weight x gradient) with absolute weights, for one image of ones of `shape` (H, W, C).

    Tanaka et al. 2020, "Pruning neural networks without any data by iteratively conserving synaptic flow",
    arXiv:2006.05467; as a score of networks Abdelfattah et al. 2021, arXiv:2101.08134: weights of convolutions and
    linear layers count, gains and biases of batch norm do not. Everything is computed in float64, since the sums of a
    deep network overflow float32; the logarithm changes no rank and keeps values fit for a surrogate.

    The network is changed: its weights become their absolute values, in float64. Its batch norm has to do nothing.
    """
    network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    weights = [each for name, each in network.named_parameters() if not name.endswith(("gain", "bias"))]
    ones = torch.ones(1, *shape, dtype=torch.float64, device=weights[0].device)
    gradients = torch.autograd.grad(network(ones).sum(), weights, allow_unused=True)
    pairs = zip(weights, gradients, strict=True)
    products = [(weight.detach() * gradient).sum() for weight, gradient in pairs if gradient is not None]
    largest = torch.finfo(torch.float64).max
    return torch.stack(products).sum().nan_to_num(nan=largest, posinf=largest).log1p()


def naswot(network: nn.Module, images: Tensor) -> Tensor:
    """Log-determinant of how alike the ReLUs see the images: the kernel counts, for two images, the equal ReLUs.

    Mellor et al. 2021, "Neural architecture search without training", arXiv:2006.04647. The more the network tells
    images apart before training, the better. Every call of a ReLU counts, the same inputs read twice count twice, as a
    network of modules has them. A kernel that is singular by the tolerance of a numerical rank (two images that all
    ReLUs see alike) has no logarithm: its smallest eigenvalues count as that tolerance, which is below all regular
    ones; the published score is minus infinity there.

    Raises ValueError where the network has no ReLU.
    """
    with torch.no_grad(), _Codes(len(images)) as codes:
        network(images)
    if codes.kernel is None:
        raise ValueError("naswot: the network calls no ReLU of plain torch")
    eigenvalues: Tensor = torch.linalg.eigvalsh(codes.kernel)
    tolerance = eigenvalues[-1] * len(images) * torch.finfo(torch.float64).eps
    return torch.maximum(eigenvalues, tolerance).log().sum()


class _Codes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, every ReLU adds its kernel: which of `batch` images have it on or off together.

    kernel  float64 [B, B], whole numbers; None before the first
    """

    def __init__(self, batch: int):
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernel: Tensor | None = None
        self._batch = batch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.relu.default, torch.ops.aten.relu_.default):
            self._add(args[0])
        return func(*args, **(kwargs or {}))

    def _add(self, x: Tensor) -> None:
        """x [B, ...] or, of a network of one child, [1, B, ...]."""
        on = (x > 0).reshape(self._batch, -1).float()
        count = on.sum(dim=1).double()
        # Both on, and both off: 2 * both - one - other + all. The products are whole numbers that float32 holds.
        alike = 2 * (on @ on.t()).double() - count[:, None] - count + on.shape[1]
        self.kernel = alike if self.kernel is None else self.kernel + alike


def jacobian_covariance(network: nn.Module, images: Tensor) -> Tensor:
    """How little the gradients of the images go together: minus the sum of log(v + k) + 1 / (v + k), k = 1e-5.

    v are the eigenvalues of the correlation matrix of the images' gradients, those of the sum of all logits with
    respect to the pixels (Mellor et al., first version of arXiv:2006.04647, June 2020). A constant gradient, that of a
    network that is cut through, has no correlation: it counts as equal to all others, which is the worst.
    """
    inputs = images.detach().clone().requires_grad_()
    [gradient] = torch.autograd.grad(network(inputs).sum(), inputs, materialize_grads=True)
    rows = gradient.flatten(1).double()
    rows = rows - rows.mean(dim=1, keepdim=True)
    length = rows.norm(dim=1, keepdim=True)
    constant = length == 0
    unit = rows / length.where(~constant, 1.0)
    correlation = torch.where(constant | constant.t(), 1.0, unit @ unit.t())
    shifted: Tensor = torch.linalg.eigvalsh(correlation).clamp_min(0.0) + RIDGE
    return -(shifted.log() + 1 / shifted).sum()
