"""The inner loop of a search: training the shared weights, a child a step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from enas.data import Batches, DataSet
from enas.descent import Descent
from enas.errors import UserError
from enas.randomness import Randomness
from enas.schedule import Cosine
from enas.space import Noise
from enas.supernet import Supernet

METRICS = ("loss", "accuracy", "gradient_norm")


class SharedTraining:
    """Trains the supernet on the training split; whose turn it is, the caller says.

    rate          learning rate by epoch
    weight_decay  twice the authors' l2 coefficient; see Descent
    clip          largest gradient norm; None in the published recipe, whose code computes the clip and drops it
    dropout       in front of the classifier
    randomness    needs the purposes "order" and "augment"
    """

    PURPOSES = ("order", "augment")

    def __init__(
        self,
        supernet: Supernet,
        data: DataSet,
        randomness: Randomness,
        batch_size: int = 64,
        rate: Cosine | None = None,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 2e-4,
        decay_norms: bool = True,
        clip: float | None = 5.0,
        dropout: float = 0.1,
    ):
        if batch_size < 2:
            raise UserError(f"batch_size={batch_size}: allowed is 2 or more, batch norm needs several images")
        if not 0 <= dropout < 1:
            raise UserError(f"train.dropout={dropout}: allowed is 0 to less than 1")
        self.supernet, self.data = supernet, data
        self.batches = Batches(len(data.train), batch_size, randomness["order"])
        self._augment = randomness["augment"]
        self._rate = rate or Cosine(0.05, 0.0005, period=10)
        self._dropout = dropout
        self.descent = Descent(supernet.named_parameters(), momentum, nesterov, weight_decay, decay_norms, clip)
        self.step_count = 0
        self._sums = torch.zeros(len(METRICS), dtype=torch.float64, device=data.train.labels.device)
        self._summed = 0

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.batches.steps

    def rate(self, epoch: int, epochs: int) -> float:
        return self._rate.rate(epoch, epochs)

    def step(self, choices: Tensor, rate: float) -> None:
        """Train child `choices` [1, D] on the next batch; metrics stay on the device until `metrics` is called."""
        inputs, labels = self.data.batch(self.data.train, self.batches.next(), self._augment)
        noise = Noise(self._augment, self._dropout)
        logits = self.supernet(inputs.unsqueeze(0), choices, noise=noise)[0]
        loss = functional.cross_entropy(logits, labels)
        norm = self.descent.step(loss, rate)
        accuracy = (logits.argmax(dim=1) == labels).double().mean()
        self._sums += torch.stack([loss.detach().double(), accuracy, norm.double()])
        self._summed += 1
        self.step_count += 1

    def sample_inputs(self) -> list[Tensor]:
        """Training batches [1, B, H, W, C] for re-estimated batch-norm statistics."""
        return self.data.sample(self.batches.batch_size)

    def metrics(self) -> dict[str, float]:
        """Means since the last call, by tag."""
        means = (self._sums / max(self._summed, 1)).tolist()
        self._sums.zero_()
        self._summed = 0
        return {f"weights/{name}": value for name, value in zip(METRICS, means, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        return {
            "supernet": self.supernet.state_dict(),
            "descent": self.descent.state_dict(),
            "batches": self.batches.state_dict(),
            "step_count": self.step_count,
            "sums": self._sums,
            "summed": self._summed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.supernet.load_state_dict(state["supernet"])
        self.descent.load_state_dict(state["descent"])
        self.batches.load_state_dict(state["batches"])
        self.step_count = state["step_count"]
        self._sums.copy_(state["sums"])
        self._summed = state["summed"]
