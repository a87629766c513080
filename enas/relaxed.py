"""The inner loop of a search by a relaxation: weights learn under a mixture of operations, and the mixing too."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from enas.data import Batches, DataSet
from enas.errors import UserError
from enas.randomness import Randomness
from enas.schedule import Cosine
from enas.space import Noise
from enas.strategy.relaxation import Levels, Relaxation, Weights
from enas.supernet import Supernet
from enas.train import SharedTraining


class RelaxedTraining(SharedTraining):
    """Trains the supernet under the mixing of a relaxation, and lets that learn before each step of the weights.

    strategy    which alpha learns: from a batch of validation images, changed at random as training images are (the
                authors split the training data in halves), or in the weights' own backward pass
    epochs      of the whole training, which the strategy's share of progress is taken of
    randomness  needs the purposes of SharedTraining and "valid order" and "mixing"

    The other keys are SharedTraining's. `children` and `graph` are about steps on paths alone: where chance draws the
    rows that are trained, the weights learn on those and not on the mixture.

    A step on a mixture is one network's, so that batch norm is over the whole batch, and no CUDA graph: what changes
    with progress is on the host. A loss of alpha's own has no dropout, which would drown a finite difference; where
    alpha learns in the weights' backward pass there is one loss, with their dropout.

    Raises UserError as SharedTraining does and for data without validation images; ValueError where the supernet's
    partial channels are not the strategy's.
    """

    PURPOSES: ClassVar[tuple[str, ...]] = (*SharedTraining.PURPOSES, "valid order", "mixing")

    def __init__(
        self,
        supernet: Supernet,
        data: DataSet,
        randomness: Randomness,
        strategy: Relaxation,
        epochs: int,
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
        super().__init__(
            supernet,
            data,
            randomness,
            batch_size,
            rate,
            momentum,
            nesterov,
            weight_decay,
            decay_norms,
            clip,
            dropout,
            children,
            graph,
        )
        if len(data.valid) < 2:
            raise UserError(
                f"data.valid={len(data.valid)}: a relaxation needs 2 or more validation images, which the {data.name} "
                "data has not"
            )
        if supernet.scale.partial != strategy.partial:
            raise ValueError(f"partial={supernet.scale.partial}: the strategy needs a supernet of {strategy.partial}")
        self.strategy, self._total = strategy, epochs * self.steps
        strategy.settle(supernet.scale)
        self.valid_batches = Batches(len(data.valid), self.batches.batch_size, randomness["valid order"])
        self._generator = randomness["mixing"]
        self._mixture = _Mixture(supernet)
        self._by_chance, self._learning = False, True
        self._gradient_norm = torch.zeros((), dtype=torch.float64, device=randomness.device)
        self._updates = 0

    @property
    def progress(self) -> float:
        """The share of the whole training that is done, 0..1."""
        return min(self.step_count / self._total, 1.0)

    def begin(self, by_chance: bool, learning: bool) -> None:
        self._by_chance, self._learning = by_chance, learning

    def _advance(self, *inputs: Tensor) -> None:
        """Children [M, D], images int64 [B], rate []; the children are trained where chance drew them."""
        _, indices, rate = inputs
        progress = self.progress
        learning = self._learning and self.strategy.learns(progress)
        batch = None
        if learning and (self._by_chance or self.strategy.two_level):
            self.phases.enter("strategy")
            batch = self._images(self.data.train, indices)
            valid = self._images(self.data.valid, self.valid_batches.next()) if self.strategy.two_level else batch
            weights = dict(self.supernet.named_parameters())
            levels = Levels(self._loss, weights, batch, valid, partial(self.descent.unroll, rate=rate))
            self._count(self.strategy.update(levels, self._generator, progress))
        if self._by_chance:
            super()._advance(*inputs)
        else:
            self.phases.enter("data")
            batch = batch or self._images(self.data.train, indices)
            self._train_mixture(batch, rate, progress, learning and not self.strategy.two_level)

    def _images(self, split: Any, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.data.batch(split, indices, self._augment)

    def _loss(self, weights: Weights, mixing: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The pure function that the strategy differentiates."""
        images, labels = batch
        if self.strategy.exact:  # bfloat16 would round the difference away
            images = images.to(self.data.mean.dtype)
        named: dict[str, Tensor] = {f"supernet.{name}": weight for name, weight in weights.items()}
        logits = functional_call(self._mixture, named, (images.unsqueeze(0), mixing, self.strategy.hard))
        return functional.cross_entropy(logits[0], labels)

    def _train_mixture(self, batch: tuple[Tensor, Tensor], rate: Tensor, progress: float, learning: bool) -> None:
        """Move the weights, and alpha with them where it learns from the same loss."""
        images, labels = batch
        self.phases.enter("forward")
        mixing, penalty = self.strategy.mixing(self._generator, progress), None
        if learning:
            penalty = self.strategy.penalty()
        else:
            mixing = mixing.detach()
        noise = Noise(self._augment, self._dropout)
        logits = self._mixture(images.unsqueeze(0), mixing, self.strategy.hard, noise)[0]
        self._descend(logits, labels, rate, penalty)
        if learning:
            self._count(self.strategy.move(self.strategy.taken()))

    def _count(self, norm: Tensor) -> None:
        self._gradient_norm += norm.double()
        self._updates += 1

    def metrics(self) -> dict[str, float]:
        """As SharedTraining's, and what the strategy shows; the norm of alpha's gradient is absent while it stands."""
        found = super().metrics() | {tag: float(value) for tag, value in self.strategy.measures(self.progress).items()}
        if self._updates:
            found["strategy/gradient_norm"] = float(self._gradient_norm) / self._updates
        self._gradient_norm.zero_()
        self._updates = 0
        return found

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "valid_batches": self.valid_batches.state_dict(),
            "gradient_norm": self._gradient_norm,
            "updates": self._updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.valid_batches.load_state_dict(state["valid_batches"])
        self._gradient_norm.copy_(state["gradient_norm"])
        self._updates = state["updates"]


class _Mixture(nn.Module):
    """The supernet as a module whose forward pass is its mixture, for `functional_call`."""

    def __init__(self, supernet: Supernet):
        super().__init__()
        self.supernet = supernet

    def forward(self, inputs: Tensor, mixing: Tensor, hard: bool, noise: Noise | None = None) -> Tensor:
        return self.supernet.mix(inputs, mixing, noise=noise, hard=hard)
