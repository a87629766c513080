"""Whether a search collapses: to skip connections, or to no operation at all.

Weight sharing is known for it: operations without weights are good before those with weights are trained, so they win
while they would lose alone (Zela et al. 2020, "Understanding and robustifying differentiable architecture search").
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from enas.space import SearchSpace

SKIPS = frozenset({"identity", "skip_connect"})
"""Operations that give what they read."""
NONES = frozenset({"none"})
"""Operations that give nothing."""
SAMPLES = 512
"""Uniform rows that tell what chance has: a share is then known to about 0.01."""


class Collapse(NamedTuple):
    """What was seen in some rows.

    skip_share, none_share  shares, 0..1, among their active decisions about an operation
    warning                 one sentence where one of them, or both together, dominates; None where not
    """

    skip_share: float
    none_share: float
    warning: str | None


class CollapseDetector:
    """Compares rows of `space` with uniform ones.

    A share dominates where it is more than halfway from that of uniform rows to all: above 0.6 for the skips of
    NAS-Bench-201, where it is 0.2 by chance. A space without such operations never collapses, and neither does one of
    recurrent cells, where the identity is no skip but an activation.
    """

    def __init__(self, space: SearchSpace):
        self._space = space
        self._codes = {
            place: tuple([name in names for name in decision.alternatives] for names in (SKIPS, NONES))
            for place, decision in enumerate(space.decisions)
            if decision.kind == "operation" and space.reads == "images"
        }
        self._chance = self._shares(space.random(SAMPLES, torch.Generator().manual_seed(0)))

    def look(self, choices: Tensor) -> Collapse:
        """The shares in rows int64 [n, D], and whether they are too large."""
        skips, nones = self._shares(choices)
        shares = {"skip connections": (skips, self._chance[0]), "the operation none": (nones, self._chance[1])}
        shares["skip connections and none together"] = (skips + nones, sum(self._chance))
        warning = None
        for name, (share, chance) in shares.items():
            if share > (1 + chance) / 2 and warning is None:
                warning = (
                    f"the search collapses: {name} make {100 * share:.0f} % of the operations it chooses, of uniform "
                    f"rows {100 * chance:.0f} %; see docs/algorithms.md, 'Collapse'"
                )
        return Collapse(skips, nones, warning)

    def _shares(self, choices: Tensor) -> tuple[float, float]:
        choices = choices.cpu()
        active = self._space.active(choices)
        counts, total = [0, 0], 0
        for place, kinds in self._codes.items():
            chosen = choices[active[:, place], place]
            total += len(chosen)
            for number, own in enumerate(kinds):
                counts[number] += int(torch.tensor(own)[chosen].sum())
        return counts[0] / max(total, 1), counts[1] / max(total, 1)
