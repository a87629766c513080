"""Stochastic gradient descent as both trainings use it: Nesterov momentum, clipping, and a watch for NaN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from enas import kernels
from enas.errors import DivergedError, UserError


class Descent:
    """SGD with momentum on all parameters; an absent gradient is zero.

    Momentum and decay act on a weight that no sampled child used too, as in the authors' code (docs/algorithms.md,
    decision 16).

    weight_decay  d in `gradient + d * weight`: twice the authors' l2, which is multiplied with the sum of squares
    decay_norms   whether gains and biases of batch norm decay too (the authors' do)
    clip          largest norm of the whole gradient, or None

    Raises UserError for a value out of range.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        decay_norms: bool = True,
        clip: float | None = None,
    ):
        if not 0 <= momentum < 1:
            raise UserError(f"train.momentum={momentum}: allowed is 0 to less than 1")
        if nesterov and momentum == 0:
            raise UserError("train.nesterov=true: needs train.momentum above 0")
        if not weight_decay >= 0:
            raise UserError(f"train.weight_decay={weight_decay}: allowed is 0 or more")
        if clip is not None and not clip > 0:
            raise UserError(f"train.clip={clip}: allowed is more than 0, or null for no clipping")
        self._parameters = dict(parameters)
        self._decays = [
            0.0 if name.endswith(("gain", "bias")) and not decay_norms else weight_decay for name in self._parameters
        ]
        self._momentum, self._nesterov, self._clip = momentum, nesterov, clip
        self._sizes = [parameter.numel() for parameter in self._parameters.values()]
        first = next(iter(self._parameters.values()))
        self._momenta = first.new_zeros(sum(self._sizes))
        self.finite = torch.ones((), dtype=torch.bool, device=first.device)
        """False once a loss or a gradient was not finite; a tensor, so that reading it can wait."""

    def step(self, loss: Tensor, rate: float | Tensor) -> Tensor:
        """Differentiate `loss` and move the weights at the learning rate `rate`; returns the gradient's norm.

        A rate that changes between the replays of a captured step has to be a tensor [] on the weights' device.
        """
        self.differentiate(loss)
        return self.move(loss, rate)

    def differentiate(self, loss: Tensor) -> None:
        """The first half of a step: the gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None  # so that what backward makes is taken over, not added to zeros
        loss.backward()  # type: ignore[no-untyped-call]

    def move(self, loss: Tensor, rate: float | Tensor) -> Tensor:
        """The second half of a step: clip, move the weights, and keep in mind whether all was finite."""
        if not isinstance(rate, Tensor):
            rate = self._momenta.new_full((), rate)
        weights = list(self._parameters.values())
        norm = kernels.descend(
            weights,
            self._momenta,
            [parameter.grad for parameter in weights],
            self._decays,
            rate,
            self._momentum,
            self._nesterov,
            self._clip,
        )
        self.finite &= torch.isfinite(loss.detach()) & torch.isfinite(norm)
        return norm

    @torch.no_grad()
    def unroll(self, gradients: Mapping[str, Tensor], rate: float | Tensor) -> tuple[dict[str, Tensor], float | Tensor]:
        """Where a step along `gradients`, by name, would take the weights, without clipping; nothing is changed.

        Returns the weights by name, and how far a weight moves against a unit of its gradient.
        """
        moved: dict[str, Tensor] = {}
        parts = self._momenta.split_with_sizes(self._sizes)
        for (name, parameter), part, decay in zip(self._parameters.items(), parts, self._decays, strict=True):
            change = gradients[name] + decay * parameter
            direction = self._momentum * part.view_as(parameter) + change
            if self._nesterov:
                direction = change + self._momentum * direction
            moved[name] = parameter - rate * direction
        return moved, rate * (1 + self._momentum) if self._nesterov else rate

    def check(self, epoch: int) -> None:
        """Raise DivergedError if a loss or a gradient of `epoch`, counted from 1, or before was not finite."""
        if not bool(self.finite):
            raise DivergedError(
                f"the loss became NaN or infinite in epoch {epoch}; the last checkpoint is good: start again with a "
                "lower train.rate.maximum or with train.clip set"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"momenta": self._momenta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state; its tensors are copied to where the old ones lie, which captured steps read."""
        self._momenta.copy_(state["momenta"])
