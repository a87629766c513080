"""What a search says of itself: progress in TensorBoard, and at the end the best found beside the random baseline."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from enas.architecture import Estimates, Genotype
from enas.draw import draw_graph, plot_comparison, save_svg
from enas.record import Record
from enas.space import Scale, SearchSpace
from enas.supernet import Child, save_child

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Contender:
    """`sampled`: all its candidates on the same images; `rescored`: the best of them on all validation images."""

    sampled: Estimates
    rescored: Estimates

    def summary(self) -> dict[str, Any]:
        value = self.sampled.value
        return {
            "candidates": len(self.sampled),
            "images": self.sampled.images,
            "mean": float(value.mean()),
            "std": float(value.std(unbiased=False)),
            "best": float(value.max()),
            "rescored": len(self.rescored),
            "rescored_images": self.rescored.images,
            "rescored_best": float(self.rescored.value[0]),
            "rescored_error": float(self.rescored.error[0]),
        }


@dataclass(frozen=True)
class Comparison:
    """The search's candidates against as many random rows: same weights, same images, same treatment."""

    search: Contender
    random: Contender

    @property
    def best(self) -> Estimates:
        """The search's best row, on all validation images: one entry."""
        return self.search.rescored.top(1)

    def margins(self) -> dict[str, float]:
        """By how much the search beats chance, and the standard errors of both differences (images, candidates)."""
        ours, theirs = self.search, self.random
        spread = [side.sampled.value.var(unbiased=False) / len(side.sampled) for side in (ours, theirs)]
        return {
            "mean_margin": float(ours.sampled.value.mean() - theirs.sampled.value.mean()),
            "mean_margin_error": math.sqrt(float(spread[0] + spread[1])),
            "best_margin": float(ours.rescored.value[0] - theirs.rescored.value[0]),
            "best_margin_error": math.hypot(float(ours.rescored.error[0]), float(theirs.rescored.error[0])),
        }

    def verdict(self) -> str:
        """What the margin of the best allows to say, at two standard errors."""
        margin = self.margins()
        if abs(margin["best_margin"]) <= 2 * margin["best_margin_error"]:
            return "is not distinguishable from"
        return "beats" if margin["best_margin"] > 0 else "is beaten by"

    def text(self, objective: str, unit: str = "images") -> str:
        """The comparison for a terminal; `unit` is what the validation data consists of."""
        lines = [f"{objective} on validation {unit}, with shared weights:"]
        for name, side in (("search", self.search), ("random", self.random)):
            own = side.summary()
            lines.append(
                f"  {name}: {own['candidates']} candidates, mean {own['mean']:.4f}, std {own['std']:.4f}, best "
                f"{own['best']:.4f} ({own['images']} {unit}); best of {own['rescored']} estimated again "
                f"{own['rescored_best']:.4f} +- {own['rescored_error']:.4f} ({own['rescored_images']} {unit})"
            )
        margin = self.margins()
        lines.append(
            f"  the search {self.verdict()} its random baseline: best {margin['best_margin']:+.4f} +- "
            f"{margin['best_margin_error']:.4f}, mean {margin['mean_margin']:+.4f} +- {margin['mean_margin_error']:.4f}"
        )
        return "\n".join(lines)


class SearchReport:
    """Writes one search into its run directory.

    scale      the size at which the cost in genotype.json is counted: the supernet's
    manifest   what run.json says of the run's origin; results are added at the end
    objective  the name of what is maximised
    unit       what the data consists of
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
    ):
        self.record, self.space, self.scale = record, space, scale
        self.manifest, self.objective, self.draw_every = dict(manifest), objective, draw_every
        self.unit = unit

    def start(self, documents: Mapping[str, Any] | None = None) -> None:
        """Say that the run began; `documents` are files that belong to the data, by name."""
        self.record.write_documents(documents or {})
        self.record.write_json("run.json", {**self.manifest, "finished": False})

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.record.scalars(values, step)

    def epoch(
        self,
        values: Mapping[str, float],
        told: Sequence[Mapping[str, Tensor]],
        watched: Estimates,
        opened: Tensor,
        step: int,
    ) -> None:
        """Log an epoch.

        values   what is known as numbers
        told     the metrics of each update of the strategy, of which the mean is logged
        watched  candidates derived now, estimated on the same images after every epoch
        opened   many rows [n, D] the strategy asks for now, to see its choice of operations
        """
        means = {
            tag: float(torch.stack([update[tag] for update in told]).mean()) for update in told[:1] for tag in update
        }
        candidates = {
            "search/candidates_mean": float(watched.value.mean()),
            "search/candidates_best": float(watched.value.max()),
        }
        self.record.scalars({**values, **means, **candidates, **self._operation_shares(opened)}, step)

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

    def draw(self, row: list[int], title: str, step: int) -> None:
        """Show the cells of a row in TensorBoard."""
        for cell, figure in self._figures(row, title):
            self.record.figure(f"cell/{cell}", figure, step)

    def best_so_far(self, estimates: Estimates, step: int) -> None:
        """Write genotype.json and leaderboard.json of a search that was stopped early."""
        self._genotype(estimates.top(1), {"interrupted_at_step": step}).write(self.record.run_dir / "genotype.json")
        self.record.write_json("leaderboard.json", [*_entries(estimates.top(len(estimates)), "search")])

    def finish(self, comparison: Comparison, child: Child, seconds: float, step: int) -> None:
        """Write everything that a finished search leaves behind."""
        best, margins = comparison.best, comparison.margins()
        search, random = comparison.search.summary(), comparison.random.summary()
        genotype = self._genotype(best, {"random_baseline": random, **margins})
        genotype.write(self.record.run_dir / "genotype.json")
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
            f"{self.objective}, shared weights",
        )
        self.record.figure("baseline/distribution", figure, step)
        self.record.text("baseline/summary", comparison.text(self.objective, self.unit).replace("\n", "  \n"), step)
        flat = {f"baseline/search_{key}": search[key] for key in ("mean", "std", "best", "rescored_best")}
        flat |= {f"baseline/random_{key}": random[key] for key in ("mean", "std", "best", "rescored_best")}
        self.record.scalars({**flat, **{f"baseline/{key}": value for key, value in margins.items()}}, step)
        result = {
            "finished": True,
            "seconds": seconds,
            "search": search,
            "random_baseline": random,
            **margins,
        }
        self.record.write_json("run.json", {**self.manifest, **result})

    def _genotype(self, best: Estimates, provenance: Mapping[str, Any]) -> Genotype:
        estimate = {"objective": self.objective, "weights": "shared", "split": "valid", **best.entry(0)}
        choices = estimate.pop("choices")
        kept = ("command", "date", "seed", "versions")
        origin: dict[str, Any] = {key: value for key, value in self.manifest.items() if key in kept}
        return self.space.genotype(choices, self.scale, estimate, {**origin, **provenance})

    def _figures(self, row: list[int], title: str) -> Iterator[tuple[str, Figure]]:
        for name, drawing in self.space.drawings(row).items():
            yield name, draw_graph(drawing, title)

    def _title(self, best: Estimates) -> str:
        return f"{self.objective} {float(best.value[0]):.4f} +- {float(best.error[0]):.4f} with shared weights"


def _entries(estimates: Estimates, origin: str) -> Iterator[dict[str, Any]]:
    for index in range(len(estimates)):
        yield {"origin": origin, **estimates.entry(index)}
