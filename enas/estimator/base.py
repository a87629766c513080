"""What an estimator is: rows in, `Estimates` out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from enas.architecture import Estimates
from enas.comparison import Basis
from enas.errors import UserError
from enas.language.recipe import bounded

Objective = Literal["accuracy", "loss"]
LABELS: Mapping[Objective, str] = {"accuracy": "accuracy", "loss": "minus loss"}
"""What the values are called in reports."""


class Estimator(ABC):
    """Says how good rows are. All rows of one call are measured on the same data, so that they can be compared."""

    step: int = 0
    """Updates the shared weights have seen; set by the search, and written into every estimate."""

    label: str
    """What the values are called in reports."""
    weights: Basis = "shared"
    """Whose weights the values come from. Those of shared weights are true only until these move."""
    divisible: bool = False
    """Whether less than a full estimate can be had for less work."""
    split: str = "valid"
    """What the values were taken on, as a genotype file says it."""
    draws: bool = True
    """Whether a generator draws the data; without, the generator changes nothing."""

    def key(self, choices: Tensor) -> Tensor:
        """int64 [n, D]: rows of equal keys have equal values. Rows that share weights are known by themselves alone."""
        return choices

    @abstractmethod
    def estimate(self, choices: Tensor, generator: torch.Generator | None = None, budget: float = 1.0) -> Estimates:
        """Rows [n, D] -> n estimates: on validation data drawn from `generator`, or on all of them without one.

        `budget` is the share of a full estimate that each row is worth, above 0; less than 1 only where `divisible`.
        """

    def check_budgets(self, budgets: Sequence[float]) -> None:  # noqa: B027 - any share can be given
        """Raise UserError where estimates of these budgets, ascending, would not differ in what is spent on them."""

    def outcome(self, choices: Tensor) -> dict[str, Tensor]:
        """What is known of rows [n, D] that no search may use, by name [n]: for the report, once all is decided."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a search that goes on must know; nothing where each estimate is made anew."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - see `state_dict`
        """Take up what `state_dict` gave."""


class OneShotEstimator(Estimator):
    """Scores children with the weights of a supernet: what enas-rank can judge."""


def check_objective(objective: str) -> Objective:
    """The objective; raises UserError where images have none of this name."""
    for known in LABELS:
        if objective == known:
            return known
    raise UserError(f"objective={objective}: allowed are accuracy and loss")


class Scores:
    """Sums of the objective over images for M children, kept on the device until they are asked for."""

    def __init__(self, children: int, device: torch.device):
        self._sums = torch.zeros(children, 4, dtype=torch.float64, device=device)
        self.images = 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Logits [M, B, K] of images with labels [B]."""
        self.add_sums(score_sums(logits, labels), labels.shape[0])

    def add_sums(self, sums: Tensor, images: int) -> None:
        """What `score_sums` gave for so many images."""
        self._sums += sums
        self.images += images

    def estimates(self, choices: Tensor, objective: Objective, step: int) -> Estimates:
        """The objective as a value to maximise - accuracy in 0..1, or minus the mean loss - and its standard error.

        All are finite, since NaN would count as the largest value wherever the best is sought. A child whose mean loss
        is not finite has an accuracy of 0, a loss of 50 nats and no error; no loss counts more.
        """
        means = self._sums / self.images
        finite, loss = means[:, 2].isfinite(), bounded(means[:, 2])
        accuracy = torch.where(finite, means[:, 0], 0.0)
        place = 0 if objective == "accuracy" else 2
        variance = (means[:, place + 1] - means[:, place] ** 2).clamp_min(0.0)
        error = torch.where(finite, (variance / max(self.images - 1, 1)).sqrt(), 0.0)
        value = accuracy if objective == "accuracy" else -loss
        return Estimates(choices, value, error, {"accuracy": accuracy, "loss": loss}, self.images, step)


def score_sums(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits [M, B, K], labels [B] -> float64 [M, 4]: sums of hits, their squares, losses and their squares."""
    log_softmax = logits.log_softmax(dim=2)
    correct = (logits.argmax(dim=2) == labels).double()
    wanted = labels.expand(logits.shape[0], -1).unsqueeze(2)
    loss = functional.relu(-log_softmax.gather(2, wanted)[..., 0]).double()
    return torch.stack([correct.sum(1), (correct**2).sum(1), loss.sum(1), (loss**2).sum(1)], dim=1)
