"""Several strategies over several seeds: what they found by then, how sure that is, and whether chance would have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

RANDOM = "random"
"""The strategy that the others are compared with, by the name of its group."""


@dataclass(frozen=True)
class Track:
    """One search with one seed, as a study keeps it.

    spent     full estimates spent when a better row was found, ascending
    best      what the best row so far is worth: its outcome where that is known, else its estimate
    final     what the row found in the end is worth
    overhead  seconds of the strategy itself for each row it was told; None where it is told of none
    seconds   the whole search, until candidates are derived
    budget    full estimates spent in all
    """

    seed: int
    spent: list[float]
    best: list[float]
    final: float
    overhead: float | None
    seconds: float
    budget: float


class Summary(NamedTuple):
    """What n searches of one strategy found; `p` and `margin` against random, None where there is no such strategy."""

    name: str
    n: int
    mean: float
    std: float
    low: float
    high: float
    margin: float | None
    p: float | None
    overhead: float | None
    seconds: float

    def document(self) -> dict[str, Any]:
        """For JSON, which has no NaN."""
        return {name: None if value != value else value for name, value in self._asdict().items()}


def summarise(tracks: Mapping[str, Sequence[Track]], comparable: bool = True) -> list[Summary]:
    """One entry a strategy, best first: the mean with its 95 % interval (Student's t), and whether chance does as well.

    A name is "evolution", or of a variant "evolution, samples=2", which is compared with random of the same variant.
    Where worth is not `comparable` between searches, since each measured with weights of its own, chance says nothing.

    p is that of the two-sided Mann-Whitney test, which asks nothing of the distributions.
    """
    from scipy.stats import mannwhitneyu, t

    summaries = []
    for name, own in tracks.items():
        found = finals(own)
        mean, n = float(found.mean()), len(found)
        std = float(found.std(ddof=1)) if n > 1 else math.nan
        half = float(t.ppf(0.975, n - 1)) * std / math.sqrt(n) if n > 1 else math.nan
        margin = p = None
        strategy, _, variant = name.partition(", ")
        partner = tracks.get(f"{RANDOM}, {variant}") or tracks.get(RANDOM)
        if comparable and partner is not None and strategy != RANDOM:
            chance = finals(partner)
            margin = mean - float(chance.mean())
            p = float(mannwhitneyu(found, chance, alternative="two-sided").pvalue)
        spans = [track.overhead for track in own if track.overhead is not None]
        overhead = float(np.median(spans)) if spans else None
        seconds = float(sum(track.seconds for track in own))
        summaries.append(Summary(name, n, mean, std, mean - half, mean + half, margin, p, overhead, seconds))
    return sorted(summaries, key=lambda summary: -summary.mean)


def finals(tracks: Sequence[Track]) -> NDArray[np.float64]:
    """What each search found in the end."""
    return np.array([track.final for track in tracks], dtype=np.float64)


def curve(tracks: Sequence[Track], spent: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [n, k]: the best so far of each search when so much was spent; NaN before its first row."""
    rows = []
    for track in tracks:
        place = np.searchsorted(track.spent, spent, side="right") - 1
        rows.append(np.where(place >= 0, np.array([*track.best, math.nan])[place], math.nan))
    return np.array(rows)


def table(summaries: Sequence[Summary], measure: str, percent: bool) -> str:
    """For a terminal, and for Markdown: mean, spread, the mean's interval, margin over random and its p."""
    factor, digits = (100, 2) if percent else (1, 4)
    head = (
        f"| strategy | {measure}{' (%)' if percent else ''} | std | 95 % of the mean | over random | p | n | ms a row |"
    )
    lines = [head, "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for own in summaries:
        mean, std, low, high = (
            "" if math.isnan(value) else f"{factor * value:.{digits}f}"
            for value in (own.mean, own.std, own.low, own.high)
        )
        interval = f"{low} to {high}" if low else ""
        margin = "" if own.margin is None else f"{factor * own.margin:+.{digits}f}"
        p = "" if own.p is None else f"{own.p:.2g}"
        cost = "" if own.overhead is None else f"{1000 * own.overhead:.1f}"
        lines.append(f"| {own.name} | {mean} | {std} | {interval} | {margin} | {p} | {own.n} | {cost} |")
    return "\n".join(lines)
