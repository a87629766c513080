"""Estimates without training: what a freshly initialised network gives away about its architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from enas import kernels
from enas.architecture import Estimates
from enas.data import Benchmark, DataSet, Text
from enas.errors import UserError
from enas.estimator import proxies
from enas.estimator.base import Estimator
from enas.kernels.interface import EPSILON
from enas.material import check_material
from enas.randomness import derive_seed, seeded
from enas.space import Scale, SearchSpace
from enas.supernet import Child

Proxy = Literal["synflow", "naswot", "jacobian_covariance", "parameters"]


class ZeroCost(Estimator):
    """Scores the child of each row before any training, on one batch of training images; see `proxies`.

    The network is that of the canonical row, its weights drawn from (seed, canonical row): equal functions have equal
    values, whatever else is estimated. It is computed in plain torch, whose operations can be watched.

    proxy       synflow              log(1 + synaptic flow), on an image of ones; batch norms are the identity: in
                                     evaluation mode, mean 0, variance 1 less the epsilon, gain 1, bias 0
                naswot               log-determinant of the kernel of ReLU codes; batch norm by the batch itself
                jacobian_covariance  how little input gradients of images correlate; batch norm by the batch itself
                parameters           how many there are, from the space's formula: no network is built
    batch_size  training images, the same ones for all rows and calls, not augmented
    seed        of weights and images

    Raises UserError for a value out of range, and for data without images, where only `parameters` can be told.
    """

    weights = "none"
    split = "train"
    draws = False

    def __init__(
        self,
        space: SearchSpace,
        scale: Scale,
        data: DataSet | Text | Benchmark,
        proxy: Proxy = "naswot",
        batch_size: int = 128,
        seed: int = 0,
    ):
        check_material(space, data)
        if proxy not in get_args(Proxy):
            raise UserError(f"estimator.proxy={proxy}: allowed are {', '.join(get_args(Proxy))}")
        if batch_size < 2:
            raise UserError(f"estimator.batch_size={batch_size}: allowed is 2 or more, images are compared")
        self.space, self.scale, self.seed = space, scale, seed
        self.label = self.proxy = proxy
        self._images: Tensor | None = None
        if proxy != "parameters":
            if not isinstance(data, DataSet):
                raise UserError(
                    f"estimator.proxy={proxy}: it looks at images, and the {data.name} data has none; "
                    "allowed is parameters"
                )
            order = torch.randperm(
                len(data.train), generator=seeded(seed, "zero-cost images", data.device), device=data.device
            )
            self._images, _ = data.batch(data.train, order[:batch_size], None)

    def key(self, choices: Tensor) -> Tensor:
        return self.space.canonical(choices)

    def estimate(self, choices: Tensor, generator: torch.Generator | None = None, budget: float = 1.0) -> Estimates:
        keys = self.key(choices)
        if self._images is None:
            value, images = self.space.cost(keys, self.scale).params.double(), 0
        else:
            scores = [self._score(key, self._images) for key in keys.tolist()]
            value, images = torch.stack(scores).to(choices.device), len(self._images)
        return Estimates(choices, value, torch.zeros_like(value), {self.proxy: value}, images, self.step)

    def _score(self, row: list[int], images: Tensor) -> Tensor:
        """The score, float64 [], of one canonical row."""
        generator = seeded(derive_seed(self.seed, f"row {row}"), "weights")
        with kernels.reference_only():
            child = Child(self.space, row, self.scale, generator).to(images.device)
            if self.proxy == "synflow":
                child.set_statistics({name: _neutral(used) for name, used in child.running_statistics().items()})
                return proxies.synflow(child.eval(), images.shape[1:])
            return PROXIES[self.proxy](child.train(), images)


PROXIES: Mapping[str, Callable[[Child, Tensor], Tensor]] = {
    "naswot": proxies.naswot,
    "jacobian_covariance": proxies.jacobian_covariance,
}
"""Those that look at images, by name."""


def _neutral(statistics: Tensor) -> Tensor:
    """Statistics [..., 2, C] by which a batch norm of gain 1 and bias 0 is the identity."""
    blank = torch.zeros_like(statistics)
    blank[..., 1, :] = 1 - EPSILON
    return blank
