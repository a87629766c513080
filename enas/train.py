"""The inner loop of a search: training the shared weights, one child or several a step."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from enas.data import Batches, DataSet
from enas.descent import Descent
from enas.errors import UserError
from enas.graph import Captured, wanted
from enas.phases import Phases
from enas.randomness import Randomness
from enas.schedule import Cosine
from enas.space import Noise
from enas.supernet import Supernet

METRICS = ("loss", "accuracy", "gradient_norm")


class SharedTraining:
    """Trains the supernet on the training split; whose turn it is, the caller says.

    Nothing in a step waits for the device: children, images and their changes, forward and backward pass, clipping,
    optimiser and metrics are all tensors there, and the metrics are read when `metrics` is called.

    children      that share a batch, each with its own slice of it; batch norm is over a child's own images
    rate          learning rate by epoch
    weight_decay  twice the authors' l2 coefficient; see Descent
    clip          largest gradient norm; None in the published recipe, whose code computes the clip and drops it
    dropout       in front of the classifier
    randomness    needs the purposes "order" and "augment"
    graph         "auto": the step becomes a CUDA graph where that is possible; "off": never. The numbers are the same

    Raises UserError for a value out of range.
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
        children: int = 1,
        graph: Literal["auto", "off"] = "auto",
    ):
        if batch_size < 2:
            raise UserError(f"batch_size={batch_size}: allowed is 2 or more, batch norm needs several images")
        if not 0 <= dropout < 1:
            raise UserError(f"train.dropout={dropout}: allowed is 0 to less than 1")
        self.supernet, self.data, self.children = supernet, data, children
        self.batches = Batches(len(data.train), batch_size, randomness["order"])
        if children < 1 or self.batches.batch_size % children or self.batches.batch_size < 2 * children:
            raise UserError(
                f"train.children={children}: allowed are numbers that divide the batch of {self.batches.batch_size} "
                "images into slices of 2 or more"
            )
        self._augment = randomness["augment"]
        self._schedule = rate or Cosine(0.05, 0.0005, period=10)
        self._dropout = dropout
        self.descent = Descent(supernet.named_parameters(), momentum, nesterov, weight_decay, decay_norms, clip)
        self.step_count = 0
        device = data.train.labels.device
        self._sums = torch.zeros(len(METRICS), dtype=torch.float64, device=device)
        self._summed = 0
        # CUDA's optimiser wants its rate in float32, the CPU's takes any.
        self._rate = torch.zeros((), dtype=torch.float32 if device.type == "cuda" else torch.float64, device=device)
        self._captured = Captured(self._train, [self._augment], wanted(graph, device, supernet.space.static))
        self.phases = Phases(device)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.batches.steps

    def rate(self, epoch: int, epochs: int) -> float:
        return self._schedule.rate(epoch, epochs)

    def step(self, choices: Tensor, rate: float) -> None:
        """Train `children` children, choices [M, D], on the next batch at the learning rate `rate`.

        Metrics stay on the device until `metrics` is called.
        """
        self.phases.enter("step")
        self._captured(choices, self.batches.next(), self._rate.fill_(rate))
        self._summed += 1
        self.step_count += 1

    def _train(self, choices: Tensor, indices: Tensor, rate: Tensor) -> None:
        """The part of a step that is done on the device: children [M, D], images int64 [B], rate []."""
        self.phases.enter("data")
        inputs, labels = self.data.batch(self.data.train, indices, self._augment)
        self.phases.enter("forward")
        inputs = inputs.view(choices.shape[0], -1, *inputs.shape[1:])
        logits = self.supernet(inputs, choices, noise=Noise(self._augment, self._dropout)).flatten(0, 1)
        loss = functional.cross_entropy(logits, labels)
        self.phases.enter("backward")
        self.descent.differentiate(loss)
        self.phases.enter("update")
        norm = self.descent.move(loss, rate)
        accuracy = (logits.argmax(dim=1) == labels).double().mean()
        self._sums += torch.stack([loss.detach().double(), accuracy, norm.double()])

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
        self._captured.forget()  # the optimiser has other tensors now
