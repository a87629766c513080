"""The honest estimate: each row is trained alone, with weights of its own, as every search did before ENAS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from enas.alone import StandAloneTraining
from enas.architecture import Estimates
from enas.data import DataSet, Text, columns
from enas.errors import DivergedError, UserError
from enas.estimator.base import LABELS, Estimator, Objective, Scores, check_objective, score_sums
from enas.estimator.language import TEXT_LABELS, TextObjective, check_text_objective, word_estimates
from enas.final import FinalTraining
from enas.language import FinalLanguageTraining
from enas.language.final import sum_losses
from enas.material import check_material
from enas.randomness import Randomness, derive_seed, seeded
from enas.space import Material, Scale, SearchSpace
from enas.supernet import Child


class Scratch(Estimator):
    """Trains the child of each row on the training split, from fresh weights, and scores it on the validation split.

    What is trained is the canonical row, its weights and the order of its data drawn from (seed, canonical row): equal
    functions have equal values, whatever else is estimated, before or beside them. It works on every space with
    networks, also where weights cannot be shared. All of the validation split is used, by the running statistics of
    the last weights (averaged ones, where the recipe averages); the test split is never read. A child whose loss is no
    longer finite has an accuracy of 0 and a loss of 50 nats.

    A budget below 1 is that share of the epochs, rounded to the nearest whole number, halves up, and at least 1; the
    learning rate goes through its whole schedule in them. Every budget starts from fresh weights.

    objective   accuracy or loss; on text perplexity or loss
    seed        of all weights and all orders
    epochs      passes over the training split of a full estimate
    batch_size  images, or columns of text, a training step, and images of a pass over the validation split
    train       the recipe: FinalTraining or FinalLanguageTraining with all its other settings; None: its defaults

    Raises UserError for a value out of range, where there are no validation images, where the recipe merges them into
    training, and where space, data and recipe are not of one kind.
    """

    weights = "own"
    divisible = True
    draws = False

    def __init__(
        self,
        space: SearchSpace,
        scale: Scale,
        data: DataSet | Text,
        objective: Objective | TextObjective = "accuracy",
        seed: int = 0,
        epochs: int = 10,
        batch_size: int = 64,
        train: partial[StandAloneTraining] | None = None,
    ):
        check_material(space, data)
        default: type[StandAloneTraining] = FinalTraining if space.reads == "images" else FinalLanguageTraining
        recipe: partial[StandAloneTraining] = train or partial(default)
        made_for: Material = getattr(recipe.func, "reads", space.reads)
        check_material(space, data, made_for, "estimator.train")
        if epochs < 1:
            raise UserError(f"estimator.epochs={epochs}: allowed is 1 or more")
        if len(data.valid) == 0:
            raise UserError(f"data.valid=0: a search needs validation images, the {data.name} data has none")
        if recipe.keywords.get("merge", False):
            raise UserError("estimator.train.merge=true: the validation split scores, it cannot be trained on")
        self.space, self.scale, self.data, self.seed = space, scale, data, seed
        self.epochs, self.batch_size, self._recipe = epochs, batch_size, recipe
        self._objective: Objective | TextObjective
        if space.reads == "text":
            self._objective = check_text_objective(objective)
            self.label = TEXT_LABELS[self._objective]
        else:
            self._objective = check_objective(objective)
            self.label = LABELS[self._objective]
        rows = space.random(1000, torch.Generator())
        self._training(rows[space.legal(rows)][:1], 1)  # a wrong recipe is refused before work starts

    def key(self, choices: Tensor) -> Tensor:
        return self.space.canonical(choices)

    def estimate(self, choices: Tensor, generator: torch.Generator | None = None, budget: float = 1.0) -> Estimates:
        if not 0 < budget <= 1:
            raise ValueError(f"budget={budget}: it has to be above 0 and at most 1")
        epochs = self._epochs(budget)
        pairs = zip(torch.split(choices, 1), torch.split(self.key(choices), 1), strict=True)
        return Estimates.joined([self._one(row, key, epochs, budget) for row, key in pairs])

    def check_budgets(self, budgets: Sequence[float]) -> None:
        epochs = [self._epochs(budget) for budget in budgets]
        if self.epochs * budgets[0] < 1 or len(set(epochs)) < len(epochs):
            shares = ", ".join(f"{budget:.3g}" for budget in budgets)
            raise UserError(
                f"estimator.epochs={self.epochs}: the strategy estimates at {shares} of it, which is "
                f"{', '.join(map(str, epochs))} epochs; allowed are epochs of which these are different whole numbers, "
                f"{math.ceil(1 / budgets[0])} at least"
            )

    def _epochs(self, budget: float) -> int:
        return max(1, int(self.epochs * budget + 0.5))

    def _training(self, key: Tensor, epochs: int) -> StandAloneTraining:
        """A training of the canonical row [1, D] that has not begun."""
        row: list[int] = key[0].tolist()
        own, device = derive_seed(self.seed, f"row {row}"), self.data.device
        auxiliary = self._recipe.keywords.get("auxiliary", 0.0) > 0
        child = Child(self.space, row, self.scale, seeded(own, "weights"), auxiliary).to(device)
        randomness = Randomness(own, StandAloneTraining.PURPOSES, device)
        try:
            return self._recipe(child, self.data, randomness, epochs, batch_size=self.batch_size, progress=False)
        except UserError as error:  # which speaks of the keys of enas-train
            raise UserError(f"estimator.{error}") from error

    def _one(self, row: Tensor, key: Tensor, epochs: int, budget: float) -> Estimates:
        training = self._training(key, epochs)
        lost = False
        try:
            training.train()
        except DivergedError:
            lost = True
        with training.kept():
            if isinstance(training, FinalLanguageTraining):
                found = self._read(row, training, lost)
            else:
                found = self._look(row, training, lost)
        return replace(found, budget=budget)

    @torch.no_grad()
    def _look(self, row: Tensor, training: StandAloneTraining, lost: bool) -> Estimates:
        """The estimate [1] of a network of images."""
        assert isinstance(self.data, DataSet)
        child, split = training.child.eval(), self.data.valid
        scores = Scores(1, self.data.device)
        for indices in torch.split(torch.arange(len(split), device=self.data.device), self.batch_size):
            inputs, labels = self.data.batch(split, indices, None)
            sums = score_sums(child(inputs).unsqueeze(0), labels)
            scores.add_sums(sums * math.nan if lost else sums, len(indices))
        return scores.estimates(row, check_objective(self._objective), self.step)

    def _read(self, row: Tensor, training: FinalLanguageTraining, lost: bool) -> Estimates:
        """The estimate [1] of a language model."""
        assert isinstance(self.data, Text)
        text = columns(self.data.valid, training.scored)
        sums = sum_losses(training.child, text, training.windows.length)
        words = text.numel() - len(text)
        sums = sums * math.nan if lost else sums
        return word_estimates(row, sums[None], words, check_text_objective(self._objective), self.step)
