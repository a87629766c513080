"""What is told of a search while it runs: the progress bar, rewards and throughput."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from torch import Tensor
from tqdm import tqdm

from enas.architecture import Estimates
from enas.plan import Plan
from enas.record import throughput
from enas.weights import Weights


def steps_bar(plan: Plan, steps: int, epoch: int, done: int, shown: bool) -> tqdm[NoReturn]:
    """A bar over all steps of all epochs, with the time left.

    steps  of the weights in an epoch; the updates of the strategy come on top
    epoch  how many epochs are done, and `done` how many steps and updates of the one under way
    """
    updates = [0 if plan.waits(each) else plan.updates for each in range(plan.epochs)]
    total = steps * plan.epochs + sum(updates)
    return tqdm(total=total, initial=steps * epoch + sum(updates[:epoch]) + done, disable=not shown, unit="step")


def epoch_line(objective: str, watched: Estimates, unit: str, machine: Mapping[str, float]) -> str:
    """What the bar says after an epoch, of its throughput in `unit` and of the best candidate."""
    best = float(watched.value.max())
    return f"{machine[f'time/{unit}_per_second']:.0f} {unit}/s, best candidate: {objective} {best:.4f}"


def rewards(estimates: Estimates) -> dict[str, Tensor]:
    """Of the rows of one update: mean and spread of the values, means of what else was measured; scalars by tag."""
    metrics = {f"search/sampled_{name}": metric.mean() for name, metric in estimates.metrics.items()}
    spread = estimates.value.std(unbiased=False)
    return {**metrics, "search/reward": estimates.value.mean(), "search/reward_std": spread}


def work_done(training: Weights, steps: int, rows: int, seconds: float, epochs_left: int) -> dict[str, float]:
    """The clock's part of an epoch's log: `steps` of the weights and `rows` estimated for the strategy in `seconds`."""
    work = {training.unit: steps * training.examples, "children": steps * training.children + rows}
    return throughput(work, seconds, training.phases.device, training.phases.shares(), epochs_left)
