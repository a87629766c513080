"""Averaged stochastic gradient descent: the mean of the weights, from when they stop improving."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from enas.errors import UserError


class Average:
    """The mean of a network's weights over all steps since it was started.

    It starts by itself when the validation perplexity is worse than the best of all epochs but the last `patience`
    (non-monotonically triggered, Merity et al. 2017, arXiv:1708.02182, section 3). Until then the network's own weights
    stand for the mean.

    patience  epochs; None: it never starts

    Raises UserError where `patience` is below 1.
    """

    def __init__(self, network: nn.Module, patience: int | None):
        if patience is not None and patience < 1:
            raise UserError(f"train.patience={patience}: allowed is 1 or more epochs, or null for no averaging")
        self._network, self._patience = network, patience
        self._seen: list[float] = []
        self.count = 0
        self._means: dict[str, torch.Tensor] = {}

    @property
    def started(self) -> bool:
        return bool(self._means)

    def judge(self, perplexity: float) -> None:
        """The validation perplexity of one more epoch."""
        patience = self._patience
        earlier = [] if patience is None or self.started else self._seen[:-patience]
        if earlier and perplexity > min(earlier):
            self._means = {name: own.detach().clone() for name, own in self._network.named_parameters()}
        self._seen.append(perplexity)

    @torch.no_grad()
    def update(self) -> None:
        """Count the weights after one more step."""
        if self.started:
            self.count += 1
            for name, own in self._network.named_parameters():
                self._means[name].lerp_(own, 1 / self.count)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the network has the mean weights."""
        own = {name: parameter.detach().clone() for name, parameter in self._network.named_parameters()}
        self._put(self._means)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, weights: dict[str, torch.Tensor]) -> None:
        for name, value in weights.items():
            self._network.get_parameter(name).copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": list(self._seen), "count": self.count, "means": self._means}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._seen, self.count, self._means = list(state["seen"]), state["count"], dict(state["means"])
