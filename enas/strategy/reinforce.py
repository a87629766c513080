"""REINFORCE with a recurrent controller: the search strategy of ENAS (Pham et al. 2018, section 2.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import SearchSpace
from enas.strategy.base import Sampler
from enas.strategy.controller import Controller


class Reinforce(Sampler):
    """Policy gradient on the controller; one Adam update for each `tell`, averaged over its rows.

    hidden          units of the controller's LSTM
    temperature     kind -> divisor of the logits
    bound           kind -> logits are kept within +-bound by tanh
    initial_bias    vocabulary -> starting bias of its softmax
    prior           pattern of decision names -> constant added to the logits
    entropy_weight  how much a nat of entropy is worth, in units of the objective
    entropy         "reward": added to the reward and not differentiated, as the authors do; "gradient": a term of the
                    loss, whose gradient keeps the policy open
    skip_target     how often a skip connection is to be taken; 0 for no wish
    skip_weight     what a nat of distance from there costs, in units of the objective: the divergence of the skips that
                    are sampled together is summed, and the mean over those sums is a term of the loss
    baseline_decay  of the moving average of rewards; it starts at the first reward (the authors start at 0, so that
                    about 100 samples are biased) and moves before the advantage is taken, once a sample
    learning_rate, betas, epsilon  of Adam
    seed            of the controller's initial weights

    Nothing in `ask` and `tell` waits for the device. Raises UserError for a value out of range, and from `check` where
    a loss was not finite.
    """

    def __init__(
        self,
        space: SearchSpace,
        hidden: int = 64,
        temperature: Mapping[str, float] | None = None,
        bound: Mapping[str, float] | None = None,
        initial_bias: Mapping[str, Sequence[float]] | None = None,
        prior: Mapping[str, Sequence[float]] | None = None,
        entropy_weight: float = 1e-4,
        entropy: Literal["reward", "gradient"] = "gradient",
        skip_target: float = 0.4,
        skip_weight: float = 0.8,
        baseline_decay: float = 0.99,
        learning_rate: float = 0.0035,
        betas: Sequence[float] = (0.0, 0.999),
        epsilon: float = 1e-3,
        seed: int = 0,
    ):
        super().__init__(space)
        if entropy not in ("reward", "gradient"):
            raise UserError(f"strategy.entropy={entropy}: allowed are reward and gradient")
        if not 0 < baseline_decay < 1:  # at 0 the baseline is the reward itself, and nothing is ever learned
            raise UserError(f"strategy.baseline_decay={baseline_decay}: allowed is more than 0 and less than 1")
        if hidden < 1:
            raise UserError(f"strategy.hidden={hidden}: allowed is 1 or more")
        for key, value in (
            ("learning_rate", learning_rate),
            ("epsilon", epsilon),
            ("entropy_weight", entropy_weight),
            ("skip_weight", skip_weight),
        ):
            if not 0 <= value < math.inf:
                raise UserError(f"strategy.{key}={value}: allowed is 0 or more")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"strategy.betas={list(betas)}: allowed are two numbers, each 0 to less than 1")
        self.entropy_weight, self.entropy, self.baseline_decay = entropy_weight, entropy, baseline_decay
        self.controller = Controller(
            space,
            hidden,
            temperature or {},
            bound or {},
            initial_bias or {},
            prior or {},
            torch.Generator().manual_seed(seed),
            skip_target,
        )
        skipping = {decision.step for decision in space.decisions if decision.kind == "skip"}
        self.skips = len(skipping) if skip_target > 0 else 0
        """How many groups of skips, each sampled together, are measured against the target."""
        self.skip_cost = skip_weight / self.skips if self.skips else 0.0
        self.optimiser = torch.optim.Adam(
            self.controller.parameters(), lr=learning_rate, betas=(betas[0], betas[1]), eps=epsilon, fused=True
        )
        self.baseline = torch.zeros(())
        self.started = torch.zeros((), dtype=torch.bool)
        """Whether there was a reward yet, which the baseline starts at."""
        self.finite = torch.ones((), dtype=torch.bool)
        """False once a loss was not finite; a tensor, so that reading it can wait."""

    def ask(self, count: int, generator: torch.Generator) -> Tensor:
        return self.controller.sample(count, generator)

    def tell(self, estimates: Estimates) -> dict[str, Tensor]:
        scores = self.controller.evaluate(estimates.choices).scores
        log_probability, entropy, divergence = scores.detach()
        reward = estimates.value.to(entropy.dtype)
        if self.entropy == "reward":
            reward = reward + self.entropy_weight * entropy
        baselines = self._baselines(reward)
        advantages = reward - baselines
        bonus = torch.full_like(reward, self.entropy_weight if self.entropy == "gradient" else 0.0)
        price = torch.full_like(reward, -self.skip_cost)
        loss = -(scores * torch.stack([advantages, bonus, price])).sum() / len(reward)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.finite &= torch.isfinite(loss.detach())
        metrics = {
            "strategy/loss": loss.detach(),
            "strategy/entropy": entropy.mean(),
            "strategy/baseline": baselines[-1],
            "strategy/advantage": advantages.mean(),
            "strategy/log_probability": log_probability.mean(),
        }
        return {**metrics, "strategy/skip_divergence": divergence.mean() / self.skips} if self.skips else metrics

    def _baselines(self, reward: Tensor) -> Tensor:
        """The baseline after each of the rewards [n], which moves it; the first one of all starts it."""
        self.baseline = self.baseline.to(reward)
        baselines = [torch.where(self.started, self.baseline, reward[0])]
        for sample in reward.unbind():
            baselines.append(torch.lerp(sample, baselines[-1], self.baseline_decay))
        self.baseline.copy_(baselines[-1])
        self.started.fill_(True)
        return torch.stack(baselines[1:])

    def check(self, epoch: int) -> None:
        if not bool(self.finite):
            raise UserError(
                f"the loss of the strategy became NaN or infinite in epoch {epoch}; the last checkpoint is good: start "
                "again with a lower strategy.learning_rate or strategy.entropy_weight"
            )

    def to(self, device: torch.device) -> None:
        self.controller.to(device)
        self.baseline, self.started, self.finite = (
            tensor.to(device) for tensor in (self.baseline, self.started, self.finite)
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "controller": self.controller.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "baseline": self.baseline,
            "started": self.started,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.controller.load_state_dict(state["controller"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.baseline, self.started = state["baseline"].clone(), state["started"].clone()
