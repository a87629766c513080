"""The one-shot estimate: a child's score with the weights of the supernet (ENAS paper, section 2.2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.data import DataSet
from enas.errors import UserError
from enas.estimator.base import LABELS, Objective, OneShotEstimator, Scores, check_objective, score_sums
from enas.graph import Captured, wanted
from enas.material import check_material
from enas.memory import affordable
from enas.randomness import seeded
from enas.supernet import Supernet


class Shared(OneShotEstimator):
    """Scores children on validation images with shared weights, several in one forward pass.

    batch_size  validation images a forward pass, which is also the batch of the `batch` policy
    images      how many are drawn where not all are used; at most the validation split
    children    in one forward pass, fewer where memory would not suffice; changes no result
    statistics  batch-norm policy: "batch" normalises by the validation batch itself, as the authors' micro search
                does; "reestimated" by statistics of that child over training images, taken before each call.
                Averages over several children, which ended NAS-Bench-201 at 54 %, do not exist.
    graph       "auto": the forward pass becomes a CUDA graph where that is possible, for the policy "batch"; "off":
                never. The numbers are the same

    Raises UserError for a value out of range, for data without validation images, and where space or data are not of
    images.
    """

    def __init__(
        self,
        supernet: Supernet,
        data: DataSet,
        objective: Objective = "loss",
        batch_size: int = 160,
        images: int = 160,
        children: int = 10,
        statistics: Literal["batch", "reestimated"] = "batch",
        graph: Literal["auto", "off"] = "auto",
    ):
        check_material(supernet.space, data, "images", "estimator")
        if len(data.valid) == 0:
            raise UserError(f"data.valid=0: a search needs validation images, the {data.name} data has none")
        self.objective = check_objective(objective)
        if statistics not in ("batch", "reestimated"):
            raise UserError(f"estimator.statistics={statistics}: allowed are batch and reestimated")
        for key, value in (("batch_size", batch_size), ("images", images), ("children", children)):
            if value < 1:
                raise UserError(f"estimator.{key}={value}: allowed is 1 or more")
        self.supernet, self.data = supernet, data
        self.label = LABELS[self.objective]
        self.batch_size, self.images, self.children = batch_size, images, children
        self.statistics = statistics
        self._fitted = False
        self._captured = Captured(self._score, capture=wanted(graph, data.valid.labels.device, supernet.space.static))

    @torch.no_grad()
    def estimate(self, choices: Tensor, generator: torch.Generator | None = None, budget: float = 1.0) -> Estimates:
        split, device = self.data.valid, choices.device
        count = len(split) if generator is None else self.images
        # All of them come in a random order too: a split is often sorted by class, and a batch of one class is
        # normalised by that class.
        order = torch.randperm(len(split), generator=generator or seeded(0, "all images", device), device=device)
        indices = order[:count]
        # Batches of nearly equal size: a short last one would be normalised by very few images.
        batches = indices.tensor_split(-(-len(indices) // self.batch_size))
        self._fit(choices[:1], len(batches[0]))
        parts = []
        for rows in torch.split(choices, self.children):
            scores = Scores(rows.shape[0], device)
            statistics = self._statistics(rows)
            for batch in batches:
                sums = self._captured(rows, batch) if statistics is None else self._score(rows, batch, statistics)
                scores.add_sums(sums, len(batch))
            parts.append(scores.estimates(rows, self.objective, self.step))
        return Estimates.joined(parts)

    def _fit(self, row: Tensor, images: int) -> None:
        """Lower `children`, before the first pass, to what there is memory for; `row` [1, D] stands for all."""
        if not self._fitted and len(row) and self.supernet.space.static:
            shape, dtype = (1, images, *self.data.image_shape), self.data.storage or self.data.mean.dtype
            route = self.supernet.space.route(row)
            self.children = affordable(self.supernet.network, shape, dtype, route, self.children, row.device)
            self._fitted = True

    def _score(self, rows: Tensor, batch: Tensor, statistics: dict[str, Tensor] | None = None) -> Tensor:
        """Children [M, D] on validation images int64 [B] -> their `score_sums`; images and stem are made once."""
        inputs, labels = self.data.batch(self.data.valid, batch, None)
        return score_sums(self.supernet(inputs.unsqueeze(0), rows, statistics=statistics), labels)

    def _statistics(self, rows: Tensor) -> dict[str, Tensor] | None:
        if self.statistics == "batch":
            return None
        return self.supernet.statistics(self.data.sample(self.batch_size), rows)
