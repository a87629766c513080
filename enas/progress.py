"""The progress bar of a search, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from tqdm import tqdm

from enas.plan import Plan


def steps_bar(plan: Plan, steps: int, epoch: int, done: int, shown: bool) -> tqdm[NoReturn]:
    """A bar over all steps of all epochs, with the time left.

    steps  of the weights in an epoch; the updates of the strategy come on top
    epoch  how many epochs are done, and `done` how many steps and updates of the one under way
    """
    updates = [0 if plan.waits(each) else plan.updates for each in range(plan.epochs)]
    total = steps * plan.epochs + sum(updates)
    return tqdm(total=total, initial=steps * epoch + sum(updates[:epoch]) + done, disable=not shown, unit="step")


def epoch_line(machine: Mapping[str, float], unit: str, objective: str, best: float) -> str:
    """What the bar says after an epoch, of its throughput in `unit` and of the best candidate."""
    return f"{machine[f'time/{unit}_per_second']:.0f} {unit}/s, best candidate: {objective} {best:.4f}"
