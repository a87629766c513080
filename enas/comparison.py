"""What a search found beside what chance found, and what the difference allows to say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from enas.architecture import Estimates

Basis = Literal["shared", "own", "none"]
"""Whose weights estimates come from: a supernet's, each row's own, or nobody's here."""
BASES: Mapping[Basis, str] = {"shared": "with shared weights", "own": "trained alone", "none": "without training"}
"""How reports say it."""


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
    """The search's candidates against random rows: same weights, same images, same treatment.

    With shared weights there are as many random rows as candidates; where a row's estimate does not change, as many as
    the search has estimated. `outcome` is what is known of the best row that no search may use, by name.
    """

    search: Contender
    random: Contender
    outcome: Mapping[str, float] = field(default_factory=dict)

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
        """What the margin of the best allows to say, at two standard errors; nothing where these are not known."""
        margin = self.margins()
        if margin["best_margin_error"] == 0 and margin["best_margin"] != 0:
            return "is ahead of" if margin["best_margin"] > 0 else "is behind"
        if margin["best_margin"] == 0 or abs(margin["best_margin"]) <= 2 * margin["best_margin_error"]:
            return "is not distinguishable from"
        return "beats" if margin["best_margin"] > 0 else "is beaten by"

    def text(self, objective: str, unit: str = "images", basis: Basis = "shared") -> str:
        """The comparison for a terminal; `unit` is what the validation data consists of."""
        where = "" if basis == "none" else f" on validation {unit}"
        lines = [f"{objective}{where}, {BASES[basis]}:"]
        for name, side in (("search", self.search), ("random", self.random)):
            own = side.summary()
            line = f"  {name}: {own['candidates']} candidates, mean {own['mean']:.4f}, std {own['std']:.4f}, best "
            if own["images"]:
                line += (
                    f"{own['best']:.4f} ({own['images']} {unit}); best of {own['rescored']} estimated again "
                    f"{own['rescored_best']:.4f} +- {own['rescored_error']:.4f} ({own['rescored_images']} {unit})"
                )
            else:
                line += f"{own['best']:.4f}"
            lines.append(line)
        lines += [f"  {name} of the search's best: {value:.4f}" for name, value in self.outcome.items()]
        margin = self.margins()
        lines.append(
            f"  the search {self.verdict()} its random baseline: best {margin['best_margin']:+.4f} +- "
            f"{margin['best_margin_error']:.4f}, mean {margin['mean_margin']:+.4f} +- {margin['mean_margin_error']:.4f}"
        )
        if margin["best_margin_error"] == 0:
            lines.append("  one search and one draw of chance: enas-compare says whether that holds over seeds")
        return "\n".join(lines)
