"""How often a mutation picks each decision, where it is published as a choice in steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Steps = tuple[str, ...]
"""What leads to a decision, first to last: ("normal", "reads", "node2", "left")."""


def stepwise(decisions: Sequence[Steps | None]) -> Tensor:
    """float64 [D], summing to 1: the probability of each decision where each step is uniform among what is left.

    None stands for a decision that is never picked, since it has one alternative. No two are reached by the same
    steps, and none lies on the way to another.
    """
    next_steps: dict[Steps, set[str]] = {}
    for steps in (steps for steps in decisions if steps is not None):
        for length, step in enumerate(steps):
            next_steps.setdefault(steps[:length], set()).add(step)
    probability = torch.zeros(len(decisions), dtype=torch.float64)
    for place, picked in enumerate(decisions):
        if picked is not None:
            probability[place] = 1.0
            for length in range(len(picked)):
                probability[place] /= len(next_steps[picked[:length]])
    return probability
