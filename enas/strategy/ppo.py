"""Proximal policy optimisation (Schulman et al. 2017) of a recurrent controller: the search strategy of NASNet.

Zoph et al. 2018: an LSTM of 100 units, minibatches of 20 children, a moving baseline of 0.95, an entropy bonus of 1e-5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import SearchSpace
from enas.strategy.policy_gradient import Entropy, PolicyGradient


class Ppo(PolicyGradient):
    """Collects told rows until there is a minibatch of them, then goes over them several times.

    clip       an update gains nothing from moving a row's probability further than by this share
    passes     how often the collected rows are gone over, an Adam update for each minibatch
    minibatch  rows behind an update; where several are collected they are divided evenly, none is left over

    For the other keys and what is raised see `PolicyGradient`. `ask` keeps nothing: collected rows are taken as sampled
    by the policy as it stands before the first pass, which is so where rows are asked for and told in turn, since the
    policy does not move while rows are collected.
    """

    def __init__(
        self,
        space: SearchSpace,
        clip: float = 0.2,
        passes: int = 4,
        minibatch: int = 20,
        hidden: int = 100,
        temperature: Mapping[str, float] | None = None,
        bound: Mapping[str, float] | None = None,
        initial_bias: Mapping[str, Sequence[float]] | None = None,
        prior: Mapping[str, Sequence[float]] | None = None,
        entropy_weight: float = 1e-5,
        entropy: Entropy = "gradient",
        skip_target: float = 0.4,
        skip_weight: float = 0.8,
        baseline_decay: float = 0.95,
        learning_rate: float = 0.0035,
        betas: Sequence[float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        seed: int = 0,
    ):
        super().__init__(
            space,
            hidden,
            temperature,
            bound,
            initial_bias,
            prior,
            entropy_weight,
            entropy,
            skip_target,
            skip_weight,
            baseline_decay,
            learning_rate,
            betas,
            epsilon,
            seed,
        )
        if not 0 < clip < 1:
            raise UserError(f"strategy.clip={clip}: allowed is more than 0 and less than 1")
        for key, value in (("passes", passes), ("minibatch", minibatch)):
            if value < 1:
                raise UserError(f"strategy.{key}={value}: allowed is 1 or more")
        self.clip, self.passes, self.minibatch = clip, passes, minibatch
        self._rows = torch.empty(0, len(space.decisions), dtype=torch.int64)
        self._values = torch.empty(0, dtype=torch.float64)
        tags = ("loss", "entropy", "baseline", "advantage", "log_probability", "clipped")
        self._said = {f"strategy/{tag}": torch.zeros(()) for tag in (*tags, *(["skip_divergence"] * bool(self.skips)))}
        """What the last update said: tells that only collect have nothing newer."""

    def tell(self, estimates: Estimates) -> dict[str, Tensor]:
        self._rows = torch.cat([self._rows, estimates.choices])
        self._values = torch.cat([self._values, estimates.value.double()])
        if len(self._rows) >= self.minibatch:
            self._said = self._update()
            self._rows, self._values = self._rows[:0], self._values[:0]
        return dict(self._said)

    def _update(self) -> dict[str, Tensor]:
        with torch.no_grad():
            before = self.controller.evaluate(self._rows).scores
        reward = self._rewards(self._values, before[1])
        baselines = self._baselines(reward)
        advantages = reward - baselines
        pieces = len(self._rows) // self.minibatch
        minibatches = [tensor.tensor_split(pieces) for tensor in (self._rows, before[0], advantages)]
        losses, clipped = [], []
        for _ in range(self.passes):
            for rows, old, advantage in zip(*minibatches, strict=True):
                scores = self.controller.evaluate(rows).scores
                ratio = (scores[0] - old).exp()
                bounded = ratio.clamp(1 - self.clip, 1 + self.clip)
                lesser = torch.where(advantage > 0, torch.minimum(ratio, bounded), torch.maximum(ratio, bounded))
                loss = self._loss(torch.cat([lesser[None], scores[1:]]), advantage)
                self._descend(loss)
                losses.append(loss.detach())
                clipped.append((lesser != ratio).float().mean())
        metrics = self._metrics(torch.stack(losses).mean(), before, baselines, advantages)
        return {**metrics, "strategy/clipped": torch.stack(clipped).mean()}

    def remembered(self) -> Tensor:
        return self._rows

    def refresh(self, estimates: Estimates) -> None:
        self._values = estimates.value.double()

    def to(self, device: torch.device) -> None:
        super().to(device)
        self._rows, self._values = self._rows.to(device), self._values.to(device)
        self._said = {tag: value.to(device) for tag, value in self._said.items()}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "rows": self._rows, "values": self._values, "said": dict(self._said)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._rows, self._values, self._said = state["rows"].clone(), state["values"].clone(), dict(state["said"])
