"""Training one architecture on images from scratch: the network that a search is for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from enas.alone import StandAloneTraining
from enas.data import Batches, DataSet, Split
from enas.descent import Descent
from enas.errors import UserError
from enas.material import check_material
from enas.randomness import Randomness
from enas.schedule import Cosine
from enas.space import Material, Noise
from enas.supernet import Child


class FinalTraining(StandAloneTraining):
    """Trains `child` on images; the weights that are tested are the last ones where `merge` leaves nothing to validate.

    merge            train on the training and the validation split together, as published final recipes do
    rate             learning rate by epoch
    weight_decay     twice the authors' l2 coefficient; see Descent
    dropout          in front of the classifier
    drop_path        probability at the last cell and the last epoch, linear in depth and in time before; 0 where the
                     network has no paths to drop
    auxiliary        weight of the auxiliary head's loss, 0 for no head; `child` must have been built with one
    label_smoothing  share of the target that is spread over all classes
    randomness       needs the purposes "order" and "augment"

    Raises UserError for a value out of range, and where space or data are not of images.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "gradient_norm")
    MEASURES = ("accuracy", "loss")
    higher_is_better = True
    unit = "images"
    reads: ClassVar[Material] = "images"

    def __init__(
        self,
        child: Child,
        data: DataSet,
        randomness: Randomness,
        epochs: int,
        batch_size: int = 64,
        merge: bool = False,
        rate: Cosine | None = None,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 4e-4,
        decay_norms: bool = True,
        clip: float | None = 5.0,
        dropout: float = 0.1,
        drop_path: float = 0.0,
        auxiliary: float = 0.0,
        label_smoothing: float = 0.0,
        checkpoint_every: int = 1,
        progress: bool = True,
    ):
        check_material(child.space, data, self.reads, "train")
        if batch_size < 2:
            raise UserError(f"batch_size={batch_size}: allowed is 2 or more, batch norm needs several images")
        for key, share in (("dropout", dropout), ("drop_path", drop_path), ("label_smoothing", label_smoothing)):
            if not 0 <= share < 1:
                raise UserError(f"train.{key}={share}: allowed is 0 to less than 1")
        if drop_path > 0 and not child.network.drops_paths:
            raise UserError(
                f"train.drop_path={drop_path}: a network of space {child.space.name} has no paths to drop; allowed is 0"
            )
        if auxiliary < 0:
            raise UserError(f"train.auxiliary={auxiliary}: allowed is 0, for no auxiliary head, or more")
        self.data = replace(data, train=_union(data.train, data.valid)) if merge else data
        self.validates = not merge and len(data.valid) > 0
        self.batches = Batches(len(self.data.train), batch_size, randomness["order"])
        self._dropout, self._drop_path = dropout, drop_path
        self._auxiliary, self._label_smoothing = auxiliary, label_smoothing
        descent = Descent(child.named_parameters(), momentum, nesterov, weight_decay, decay_norms, clip)
        super().__init__(child, randomness, descent, rate or Cosine(), epochs, checkpoint_every, progress)

    @property
    def steps(self) -> int:
        return self.batches.steps

    @property
    def examples(self) -> int:
        return self.batches.batch_size

    def _step(self, rate: float) -> None:
        self.phases.enter("data")
        inputs, labels = self.data.batch(self.data.train, self.batches.next(), self.randomness["augment"])
        self.phases.enter("forward")
        progress = (self.epoch + self.trained / self.steps) / self.epochs
        noise = Noise(self.randomness["augment"], self._dropout, self._drop_path, progress)
        output = self.child.learn(inputs, noise)
        loss = self._loss(output.logits[0], labels)
        total = loss
        if output.auxiliary is not None:
            total = loss + self._auxiliary * self._loss(output.auxiliary[0], labels)
        self.phases.enter("backward")
        self.descent.differentiate(total)
        self.phases.enter("update")
        norm = self.descent.move(total, rate)
        accuracy = (output.logits[0].argmax(dim=1) == labels).double().mean()
        self._sums += torch.stack([loss.detach().double(), accuracy, norm.double()])

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, label_smoothing=self._label_smoothing)

    def _measure(self, child: Child, split: str) -> dict[str, float]:
        return evaluate(child, self.data, getattr(self.data, split), self.batches.batch_size)

    def _size(self, split: str) -> int:
        return len(getattr(self.data, split))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "batches": self.batches.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.batches.load_state_dict(state["batches"])


@torch.no_grad()
def evaluate(child: Child, data: DataSet, split: Split, batch_size: int) -> dict[str, float]:
    """Accuracy in 0..1 and mean loss in nats of `child` on `split`, by its running statistics."""
    child.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=split.labels.device)
    for indices in torch.split(torch.arange(len(split), device=split.labels.device), batch_size):
        inputs, labels = data.batch(split, indices, None)
        logits = child(inputs)
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        sums += torch.stack([(logits.argmax(dim=1) == labels).sum().double(), loss.double()])
    accuracy, loss_mean = (sums / len(split)).tolist()
    return {"accuracy": accuracy, "loss": loss_mean}


def _union(one: Split, other: Split) -> Split:
    return Split(torch.cat([one.images, other.images]), torch.cat([one.labels, other.labels]))
