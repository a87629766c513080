"""Drawings of a study: the best so far of several strategies against what was spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from enas.draw_parts import INK, PAPER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#2E78B7", "#D67A1F", "#3A8F4E", "#B23A48", "#7A55A3", "#8A6240", "#C25B9E", "#5F6B73", "#9A9A1F", "#1F9AA0")
"""Ten that can be told apart; more strategies begin again with dashes."""


def draw_curves(
    curves: Mapping[str, NDArray[np.float64]], spent: NDArray[np.float64], title: str, ylabel: str
) -> Figure:
    """A line for each strategy, the mean over its searches [n, k], with a band of its 95 % interval (Student's t).

    `spent` [k] is what was spent by then. Points at which some search had found nothing are left out.
    """
    from matplotlib.figure import Figure
    from scipy.stats import t

    figure = Figure(figsize=(8.0, 5.0), dpi=150, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    shown = []
    for place, (name, values) in enumerate(curves.items()):
        whole = ~np.isnan(values).any(axis=0)
        if not whole.any():
            continue
        mean, error = values[:, whole].mean(axis=0), np.zeros(whole.sum())
        if len(values) > 1:
            factor = float(t.ppf(0.975, len(values) - 1))
            error = factor * values[:, whole].std(axis=0, ddof=1) / np.sqrt(len(values))
        colour, style = COLOURS[place % len(COLOURS)], "-" if place < len(COLOURS) else "--"
        axes.plot(spent[whole], mean, style, color=colour, linewidth=1.8, label=f"{name} (n = {len(values)})")
        axes.fill_between(spent[whole], mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
        shown.append(mean)
    if shown:
        # The first rows of all are far below what the lines are drawn for.
        joined = np.concatenate([mean[len(mean) // 20 :] for mean in shown])
        room = 0.05 * max(float(np.ptp(joined)), 1e-6)
        axes.set_ylim(float(np.quantile(joined, 0.03)) - room, float(joined.max()) + room)
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    axes.set_title(title, size=11, color=INK)
    axes.set_xlabel("rows estimated")
    axes.set_ylabel(ylabel)
    axes.grid(color=PAPER)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
