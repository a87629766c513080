"""What a search calls, ours and plain PyTorch's: children for the steps, steps, and updates of the strategy."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from enas.api import BOUND
from enas.architecture import Estimates
from enas.bench.cases import Setting, to_planes
from enas.bench.controller import Asked, PeerController, PeerReinforce
from enas.bench.machine import autocast
from enas.bench.networks import MOMENTUM, RATE, WEIGHT_DECAY, score_of_peer
from enas.bench.peer import PeerDescent, PeerNetwork
from enas.data import Batches, DataSet
from enas.estimator import Shared
from enas.randomness import Randomness, seeded
from enas.space import EnasMicro
from enas.strategy import Reinforce
from enas.supernet import Supernet
from enas.train import SharedTraining


class Side(Protocol):
    """One way to search; what is asked and scored is its own affair."""

    def children(self, count: int) -> object:
        """Ask for the children of `count` training steps."""

    def train(self, rows: Tensor) -> None:
        """A training step of each child [n, D]."""

    def ask(self, count: int) -> Any:
        """Rows to learn from."""

    def score(self, asked: Any) -> Any:
        """Their scores on one batch of validation images."""

    def tell(self, asked: Any, scores: Any) -> None:
        """One update of the strategy."""


class OurSide:
    """What `enas.search` calls."""

    def __init__(self, supernet: Supernet, data: DataSet, setting: Setting, clip: float | None):
        self._device = device = setting.device
        randomness = Randomness(setting.seed, SharedTraining.PURPOSES, device)
        self._training = SharedTraining(
            supernet, data, randomness, setting.batch_size, None, MOMENTUM, weight_decay=WEIGHT_DECAY, clip=clip
        )
        self._estimator = Shared(supernet, data, "accuracy", setting.batch_size, setting.batch_size)
        self._strategy = Reinforce(supernet.space, bound=BOUND, seed=setting.seed)
        self._strategy.to(device)
        self._rows, self._images = (seeded(setting.seed, purpose, device) for purpose in ("rows", "images"))

    def children(self, count: int) -> Tensor:
        return self._strategy.ask(count, self._rows)

    def train(self, rows: Tensor) -> None:
        rows = rows.to(self._device)
        for place in range(len(rows)):
            self._training.step(rows[place, None], RATE)

    def ask(self, count: int) -> Tensor:
        return self._strategy.ask(count, self._rows)

    def score(self, asked: Tensor) -> Estimates:
        return self._estimator.estimate(asked, self._images)

    def tell(self, asked: Tensor, scores: Estimates) -> None:
        self._strategy.tell(scores)


class PeerSide:
    """The same in plain PyTorch: only the sampled path is computed, all images and sums stay on the device.

    Its batches are made by our kernel, which is faster than what it stands for.
    """

    def __init__(self, network: PeerNetwork, layout: str, data: DataSet, setting: Setting, clip: float | None):
        device = setting.device
        self._network, self._layout, self._data, self._setting = network, layout, data, setting
        self._order, self._augment, self._rows, self._images = (
            seeded(setting.seed, purpose, device) for purpose in ("order", "augment", "rows", "images")
        )
        self._batches = Batches(len(data.train), setting.batch_size, self._order)
        self._descent = PeerDescent(network, MOMENTUM, WEIGHT_DECAY, clip)
        space = EnasMicro()
        ours = Reinforce(space, bound=BOUND, seed=setting.seed)
        controller = PeerController(space.nodes, ours.controller.hidden, BOUND)
        controller.copy_weights(ours.controller)
        self._strategy = PeerReinforce(controller.to(device))
        self._loss = torch.zeros((), device=device)

    def children(self, count: int) -> list[list[int]]:
        with torch.no_grad():
            rows: list[list[int]] = self._strategy.controller(count, self._rows).rows.tolist()
        return rows

    def train(self, rows: Tensor) -> None:
        for row in rows.tolist():
            inputs, labels = self._data.batch(self._data.train, self._batches.next(), self._augment)
            with autocast(self._setting.precision, self._setting.device):
                loss = functional.cross_entropy(self._network(to_planes(inputs, self._layout), row), labels)
            self._descent.step(loss, RATE)
            self._loss += loss.detach()

    def ask(self, count: int) -> Asked:
        asked: Asked = self._strategy.controller(count, self._rows)
        return asked

    def score(self, asked: Asked) -> Estimates:
        return score_of_peer(self._network, self._layout, self._data, self._setting, asked.rows, self._images)

    def tell(self, asked: Asked, scores: Estimates) -> None:
        self._strategy.tell(asked, scores.value)
