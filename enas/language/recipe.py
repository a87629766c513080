"""What both trainings of a language model have in common: dropout, the regularised loss, perplexity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from enas.errors import UserError
from enas.space import Noise, Output

WORST = 50.0
"""Nats a word that a loss counts at most, so that a model whose state overflows has a finite perplexity."""


@dataclass(frozen=True)
class Recipe:
    """Variational dropout and regularisers, of which all are off at 0; see `Noise` for the five kinds of dropout.

    activation  weight of the mean square of the last layer's outputs
    slowness    weight of the mean square of their change from word to word
                (both Merity et al. 2017, "Revisiting activation regularization", arXiv:1708.01009)

    Raises UserError for a probability outside 0 to 1 and for a negative weight.
    """

    word: float
    embedding: float
    input: float
    layer: float
    dropout: float
    activation: float
    slowness: float

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if key in ("activation", "slowness"):
                if not 0 <= value < math.inf:
                    raise UserError(f"train.{key}={value}: allowed is 0 or more")
            elif not 0 <= value < 1:
                raise UserError(f"train.{key}={value}: allowed is 0 to less than 1")

    def noise(self, generator: torch.Generator) -> Noise:
        rates = {"word": self.word, "embedding": self.embedding, "input": self.input, "layer": self.layer}
        return Noise(generator, self.dropout, **rates)

    def losses(self, output: Output, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss in nats a word, and the same with the regularisers: what is descended on.

        `output` of M children on [B, T] words each; `targets` int64 [M * B, T] in the same order.
        """
        assert output.hidden is not None
        loss = functional.cross_entropy(output.logits.flatten(0, 2), targets.flatten())
        total = loss
        if self.activation > 0:
            total = total + self.activation * output.hidden.square().mean()
        if self.slowness > 0 and targets.shape[1] > 1:
            total = total + self.slowness * output.hidden.diff(dim=2).square().mean()
        return loss, total


def perplexity(loss: float) -> float:
    """exp(loss), of nats a word; NaN stays NaN."""
    return math.exp(min(loss, WORST)) if not math.isnan(loss) else math.nan


def bounded(loss: Tensor) -> Tensor:
    """Losses in nats a word, finite: at most `WORST`."""
    return loss.nan_to_num(nan=WORST, posinf=WORST).clamp(max=WORST)
