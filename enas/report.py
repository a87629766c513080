"""What a search says of itself: progress in TensorBoard, and at the end the best found beside the random baseline."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from enas.architecture import Estimates, Genotype
from enas.collapse import CollapseDetector
from enas.comparison import BASES, Basis, Comparison
from enas.draw import draw_graph, plot_comparison, save_svg
from enas.record import Record
from enas.space import Scale, SearchSpace
from enas.supernet import Child, save_child

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Report(ABC):
    """What a search tells while it runs."""

    objective: str
    """The name of what is maximised."""
    warnings: list[str]
    """What a user should know; a checkpoint holds them."""

    @property
    @abstractmethod
    def lines(self) -> int:
        """How many entries of the log are written; a checkpoint holds the number."""

    @abstractmethod
    def save(self, state: Mapping[str, Any]) -> None:
        """Keep the state of the search as its last checkpoint."""

    @abstractmethod
    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log `values` by tag."""

    @abstractmethod
    def told(self, estimates: Estimates) -> None:
        """The strategy is being told `estimates`."""

    @abstractmethod
    def epoch(
        self,
        epoch: int,
        values: Mapping[str, float],
        told: Sequence[Mapping[str, Tensor]],
        watched: Estimates,
        opened: Tensor,
        step: int,
    ) -> None:
        """Log an epoch that has ended.

        epoch    which, counted from 1
        values   what is known as numbers
        told     the metrics of each update of the strategy, of which the mean is logged
        watched  candidates derived now, estimated on the same images after every epoch
        opened   many rows [n, D] the strategy asks for now, to see its choice of operations
        """

    @abstractmethod
    def best_so_far(self, estimates: Estimates, step: int) -> None:
        """Write what is known of a search that was stopped early."""

    @abstractmethod
    def finish(self, comparison: Comparison, child: Child | None, seconds: float, step: int) -> None:
        """Write everything that a finished search leaves behind; `child` where its weights were trained."""


class SearchReport(Report):
    """Writes one search into its run directory.

    scale       the size at which the cost in genotype.json is counted: the supernet's
    manifest    what run.json says of the run's origin; results are added at the end
    objective   the name of what is maximised
    draw_every  epochs between two drawings of the best candidate's cells
    unit        what the data consists of
    basis       whose weights the estimates come from
    split       what they were taken on
    """

    def __init__(
        self,
        record: Record,
        space: SearchSpace,
        scale: Scale,
        manifest: Mapping[str, Any],
        objective: str,
        draw_every: int = 10,
        unit: str = "images",
        basis: Basis = "shared",
        split: str = "valid",
    ):
        self.record, self.space, self.scale = record, space, scale
        self.manifest, self.objective, self.draw_every = dict(manifest), objective, draw_every
        self.unit, self.basis, self.split = unit, basis, split
        self._detector, self.warnings = CollapseDetector(space), list[str]()

    def start(self, documents: Mapping[str, Any] | None = None) -> None:
        """Say that the run began; `documents` are files that belong to the data, by name."""
        self.record.write_documents(documents or {})
        self.record.write_json("run.json", {**self.manifest, "finished": False})

    @property
    def lines(self) -> int:
        return self.record.metrics_lines

    def save(self, state: Mapping[str, Any]) -> None:
        self.record.save_checkpoint(state)

    def told(self, estimates: Estimates) -> None:
        pass  # an epoch's mean is logged at its end

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.record.scalars(values, step)

    def epoch(
        self,
        epoch: int,
        values: Mapping[str, float],
        told: Sequence[Mapping[str, Tensor]],
        watched: Estimates,
        opened: Tensor,
        step: int,
    ) -> None:
        means = {
            tag: float(torch.stack([update[tag] for update in told]).mean()) for update in told[:1] for tag in update
        }
        candidates = {
            "search/candidates_mean": float(watched.value.mean()),
            "search/candidates_best": float(watched.value.max()),
        }
        collapse = self._detector.look(watched.choices)
        shares = {"search/skip_share": collapse.skip_share, "search/none_share": collapse.none_share}
        self.record.scalars({**values, **means, **candidates, **shares, **self._operation_shares(opened)}, step)
        if not self.warnings:  # once
            self._warn(watched, f"epoch {epoch}")
        if epoch % self.draw_every == 0:
            for cell, figure in self._figures(watched.top(1).choices[0].tolist(), f"best candidate of epoch {epoch}"):
                self.record.figure(f"cell/{cell}", figure, step)

    def _operation_shares(self, rows: Tensor) -> dict[str, float]:
        """How often each alternative is chosen in `rows` [n, D], by the part of the network and by its name."""
        shares: dict[str, list[float]] = defaultdict(list)
        for place, decision in enumerate(self.space.decisions):
            if decision.kind not in ("source", "skip"):
                part = decision.owner.partition("/")[0]
                counts = torch.bincount(rows[:, place], minlength=len(decision.alternatives)).tolist()
                for name, count in zip(decision.alternatives, counts, strict=True):
                    word = f"{decision.vocabulary}_{name}" if decision.kind == "number" else name
                    shares[f"policy/{part}/{word}"].append(count / len(rows))
        return {tag: sum(values) / len(values) for tag, values in shares.items()}

    def best_so_far(self, estimates: Estimates, step: int) -> None:
        self._genotype(estimates.top(1), {"interrupted_at_step": step}).write(self.record.run_dir / "genotype.json")
        self.record.write_json("leaderboard.json", [*_entries(estimates.top(len(estimates)), "search")])

    def finish(self, comparison: Comparison, child: Child | None, seconds: float, step: int) -> None:
        best, margins = comparison.best, comparison.margins()
        search, random = comparison.search.summary(), comparison.random.summary()
        genotype = self._genotype(best, {"random_baseline": random, **margins})
        genotype.write(self.record.run_dir / "genotype.json")
        if child is not None:
            save_child(child, self.record.run_dir / "child.pt")
        entries = [
            *_entries(comparison.search.rescored, "search"),
            *_entries(comparison.random.rescored, "random"),
        ]
        self.record.write_json("leaderboard.json", sorted(entries, key=lambda entry: -entry["value"]))
        for cell, figure in self._figures(best.choices[0].tolist(), self._title(best)):
            save_svg(figure, self.record.run_dir / f"cell_{cell}.svg")
            self.record.figure(f"cell/{cell}", figure, step)
        figure = plot_comparison(
            comparison.search.sampled.value.tolist(),
            comparison.random.sampled.value.tolist(),
            f"{self.objective}, {BASES[self.basis]}",
        )
        self.record.figure("baseline/distribution", figure, step)
        self.record.text(
            "baseline/summary", comparison.text(self.objective, self.unit, self.basis).replace("\n", "  \n"), step
        )
        flat = {f"baseline/search_{key}": search[key] for key in ("mean", "std", "best", "rescored_best")}
        flat |= {f"baseline/random_{key}": random[key] for key in ("mean", "std", "best", "rescored_best")}
        self.record.scalars({**flat, **{f"baseline/{key}": value for key, value in margins.items()}}, step)
        self._warn(best, "the row that was found")
        result = {
            "finished": True,
            "warnings": self.warnings,
            "seconds": seconds,
            "search": search,
            "random_baseline": random,
            **margins,
            **({"outcome": dict(comparison.outcome)} if comparison.outcome else {}),
        }
        self.record.write_json("run.json", {**self.manifest, **result})

    def _warn(self, rows: Estimates, where: str) -> None:
        """Say so, in the log and in run.json, where `rows` collapse."""
        if (warning := self._detector.look(rows.choices).warning) is not None:
            logging.getLogger("enas").warning("enas: %s: %s", where, warning)
            self.warnings.append(f"{where}: {warning}")

    def _genotype(self, best: Estimates, provenance: Mapping[str, Any]) -> Genotype:
        estimate = {"objective": self.objective, "weights": self.basis, "split": self.split, **best.entry(0)}
        choices = estimate.pop("choices")
        kept = ("command", "date", "seed", "versions")
        origin: dict[str, Any] = {key: value for key, value in self.manifest.items() if key in kept}
        return self.space.genotype(choices, self.scale, estimate, {**origin, **provenance})

    def _figures(self, row: list[int], title: str) -> Iterator[tuple[str, Figure]]:
        for name, drawing in self.space.drawings(row).items():
            yield name, draw_graph(drawing, title)

    def _title(self, best: Estimates) -> str:
        return f"{self.objective} {float(best.value[0]):.4f} +- {float(best.error[0]):.4f} {BASES[self.basis]}"


def _entries(estimates: Estimates, origin: str) -> Iterator[dict[str, Any]]:
    for index in range(len(estimates)):
        yield {"origin": origin, **estimates.entry(index)}
