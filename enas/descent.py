"""Stochastic gradient descent as both trainings use it: Nesterov momentum, clipping, and a watch for NaN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from enas.errors import DivergedError, UserError


class Descent:
    """SGD with momentum on all parameters; gradients are zero, never absent.

    A weight that no sampled child used has a zero gradient, so that momentum and decay still act on it, as in the
    authors' code (docs/algorithms.md, decision 16).

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
        self._parameters: list[nn.Parameter] = []
        self._names: dict[nn.Parameter, str] = {}
        decayed: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in parameters:
            self._parameters.append(parameter)
            self._names[parameter] = name
            parameter.grad = torch.zeros_like(parameter)
            (others if name.endswith(("gain", "bias")) and not decay_norms else decayed).append(parameter)
        groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        self._optimiser = torch.optim.SGD(
            [group for group in groups if group["params"]], lr=0.0, momentum=momentum, nesterov=nesterov, fused=True
        )
        self._clip = clip
        self.finite = torch.ones((), dtype=torch.bool, device=self._parameters[0].device)
        """False once a loss or a gradient was not finite; a tensor, so that reading it can wait."""

    def step(self, loss: Tensor, rate: float | Tensor) -> Tensor:
        """Differentiate `loss` and move the weights at the learning rate `rate`; returns the gradient's norm.

        A rate that changes between the replays of a captured step has to be a tensor [], float32 on CUDA.
        """
        self.differentiate(loss)
        return self.move(loss, rate)

    def differentiate(self, loss: Tensor) -> None:
        """The first half of a step: the gradients."""
        self._optimiser.zero_grad()  # so that what backward makes is taken over, not added to zeros
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter in self._parameters:
            if parameter.grad is None:  # no sampled child used it
                parameter.grad = torch.zeros_like(parameter)

    def move(self, loss: Tensor, rate: float | Tensor) -> Tensor:
        """The second half of a step: clip, move the weights, and keep in mind whether all was finite."""
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm(gradients, foreach=True)
        if self._clip is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self._clip, norm, foreach=True)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()
        self.finite &= torch.isfinite(loss.detach()) & torch.isfinite(norm)
        return norm

    @torch.no_grad()
    def unroll(self, gradients: Mapping[str, Tensor], rate: float | Tensor) -> tuple[dict[str, Tensor], float | Tensor]:
        """Where a step along `gradients`, by name, would take the weights, without clipping; nothing is changed.

        Returns the weights by name, and how far a weight moves against a unit of its gradient.
        """
        moved: dict[str, Tensor] = {}
        for group in self._optimiser.param_groups:
            momentum, decay = group["momentum"], group["weight_decay"]
            for parameter in group["params"]:
                name = self._names[parameter]
                change = gradients[name] + decay * parameter
                buffer = self._optimiser.state[parameter].get("momentum_buffer")
                direction = change if buffer is None else momentum * buffer + change
                if group["nesterov"]:
                    direction = change + momentum * direction
                moved[name] = parameter - rate * direction
        return moved, rate * (1 + momentum) if group["nesterov"] else rate

    def check(self, epoch: int) -> None:
        """Raise DivergedError if a loss or a gradient of `epoch`, counted from 1, or before was not finite."""
        if not bool(self.finite):
            raise DivergedError(
                f"the loss became NaN or infinite in epoch {epoch}; the last checkpoint is good: start again with a "
                "lower train.rate.maximum or with train.clip set"
            )

    def state_dict(self) -> dict[str, Any]:
        return self._optimiser.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._optimiser.load_state_dict(state)
