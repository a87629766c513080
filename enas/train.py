"""The inner loop of a search on images: training the shared weights, one child or several a step."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from enas.data import Batches, DataSet
from enas.descent import Descent
from enas.errors import UserError
from enas.material import check_material
from enas.randomness import Randomness
from enas.schedule import Cosine
from enas.space import Noise
from enas.supernet import Child, Supernet
from enas.weights import WeightTraining


class SharedTraining(WeightTraining):
    """Trains the supernet on the training images.

    children      that share a batch, each with its own slice of it; batch norm is over a child's own images
    rate          learning rate by epoch
    weight_decay  twice the authors' l2 coefficient; see Descent
    clip          largest gradient norm; None in the published recipe, whose code computes the clip and drops it
    dropout       in front of the classifier
    randomness    needs the purposes "order" and "augment"
    graph         "auto": the step becomes a CUDA graph where that is possible; "off": never. The numbers are the same

    Raises UserError for a value out of range, and where space or data are not of images.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "gradient_norm")
    unit = "images"

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
        check_material(supernet.space, data, "images", "train")
        if batch_size < 2:
            raise UserError(f"batch_size={batch_size}: allowed is 2 or more, batch norm needs several images")
        if not 0 <= dropout < 1:
            raise UserError(f"train.dropout={dropout}: allowed is 0 to less than 1")
        self.data = data
        self.batches = Batches(len(data.train), batch_size, randomness["order"])
        if children < 1 or self.batches.batch_size % children or self.batches.batch_size < 2 * children:
            raise UserError(
                f"train.children={children}: allowed are numbers that divide the batch of {self.batches.batch_size} "
                "images into slices of 2 or more"
            )
        self._dropout = dropout
        descent = Descent(supernet.named_parameters(), momentum, nesterov, weight_decay, decay_norms, clip)
        super().__init__(supernet, randomness, descent, rate or Cosine(0.05, 0.0005, period=10), children, graph)

    @property
    def steps(self) -> int:
        return self.batches.steps

    @property
    def examples(self) -> int:
        return self.batches.batch_size

    def _next(self, rate: float) -> tuple[Tensor, ...]:
        return self.batches.next(), self._rate.fill_(rate)

    def _train(self, *inputs: Tensor) -> None:
        """Children [M, D], images int64 [B], rate []."""
        choices, indices, rate = inputs
        self.phases.enter("data")
        images, labels = self.data.batch(self.data.train, indices, self._augment)
        self.phases.enter("forward")
        images = images.view(choices.shape[0], -1, *images.shape[1:])
        logits = self.supernet(images, choices, noise=Noise(self._augment, self._dropout)).flatten(0, 1)
        self._descend(logits, labels, rate)

    def _descend(self, logits: Tensor, labels: Tensor, rate: Tensor, penalty: Tensor | None = None) -> None:
        """Move the weights by the cross-entropy of logits [B, K], and add up the metrics.

        `penalty`, a scalar, is added to what is differentiated and is no part of the metrics.
        """
        loss = functional.cross_entropy(logits, labels)
        self.phases.enter("backward")
        self.descent.differentiate(loss if penalty is None else loss + penalty)
        self.phases.enter("update")
        norm = self.descent.move(loss, rate)
        accuracy = (logits.argmax(dim=1) == labels).double().mean()
        self._sums += torch.stack([loss.detach().double(), accuracy, norm.double()])

    def sample_inputs(self) -> list[Tensor]:
        """Training batches [1, B, H, W, C] for re-estimated batch-norm statistics."""
        return self.data.sample(self.batches.batch_size)

    def extract(self, choices: Tensor) -> Child:
        """The child of the row [1, D], with its own batch-norm statistics over training images."""
        child = super().extract(choices)
        child.set_statistics(self.supernet.statistics(self.sample_inputs(), choices))
        return child

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "batches": self.batches.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.batches.load_state_dict(state["batches"])
