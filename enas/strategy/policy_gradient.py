"""What policy gradients on a recurrent controller have in common: rewards, baseline, the loss and its update."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from enas.errors import UserError
from enas.space import SearchSpace
from enas.strategy.base import Sampler
from enas.strategy.controller import Controller

Entropy = Literal["reward", "gradient"]


class PolicyGradient(Sampler):
    """A controller that is asked for rows, a moving baseline of their rewards, and Adam.

    hidden          units of the controller's LSTM
    temperature     kind -> divisor of the logits
    bound           kind -> logits are kept within +-bound by tanh
    initial_bias    vocabulary -> starting bias of its softmax
    prior           pattern of decision names -> constant added to the logits
    entropy_weight  how much a nat of entropy is worth, in units of the objective
    entropy         "reward": added to the reward and not differentiated; "gradient": a term of the loss, whose gradient
                    keeps the policy open
    skip_target     how often a skip connection is to be taken; 0 for no wish
    skip_weight     what a nat of distance from there costs, in units of the objective: the divergence of the skips that
                    are sampled together is summed, and the mean over those sums is a term of the loss
    baseline_decay  of the moving average of rewards; it starts at the first reward and moves before the advantage is
                    taken, once a sample
    learning_rate, betas, epsilon  of Adam
    seed            of the controller's initial weights

    Nothing in `ask` and `tell` waits for the device. Raises UserError for a value out of range, and from `check` where
    a loss was not finite.
    """

    def __init__(
        self,
        space: SearchSpace,
        hidden: int,
        temperature: Mapping[str, float] | None,
        bound: Mapping[str, float] | None,
        initial_bias: Mapping[str, Sequence[float]] | None,
        prior: Mapping[str, Sequence[float]] | None,
        entropy_weight: float,
        entropy: Entropy,
        skip_target: float,
        skip_weight: float,
        baseline_decay: float,
        learning_rate: float,
        betas: Sequence[float],
        epsilon: float,
        seed: int,
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

    def _rewards(self, values: Tensor, entropy: Tensor) -> Tensor:
        """What rows of `values` [n] earn, whose policy has `entropy` [n]: float [n]."""
        reward = values.to(entropy.dtype)
        return reward + self.entropy_weight * entropy if self.entropy == "reward" else reward

    def _baselines(self, reward: Tensor) -> Tensor:
        """The baseline after each of the rewards [n], which moves it; the first one of all starts it."""
        self.baseline = self.baseline.to(reward)
        baselines = [torch.where(self.started, self.baseline, reward[0])]
        for sample in reward.unbind():
            baselines.append(torch.lerp(sample, baselines[-1], self.baseline_decay))
        self.baseline.copy_(baselines[-1])
        self.started.fill_(True)
        return torch.stack(baselines[1:])

    def _loss(self, scores: Tensor, weight: Tensor) -> Tensor:
        """Minus the mean of scores [3, n]: the first times `weight` [n], entropy and skips times their worth."""
        bonus = torch.full_like(weight, self.entropy_weight if self.entropy == "gradient" else 0.0)
        price = torch.full_like(weight, -self.skip_cost)
        return -(scores * torch.stack([weight, bonus, price])).sum() / len(weight)

    def _descend(self, loss: Tensor) -> None:
        """One update of the controller."""
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.finite &= torch.isfinite(loss.detach())

    def _metrics(self, loss: Tensor, scores: Tensor, baselines: Tensor, advantages: Tensor) -> dict[str, Tensor]:
        """What an update on rows of `scores` [3, n] has to say."""
        log_probability, entropy, divergence = scores.detach()
        metrics = {
            "strategy/loss": loss.detach(),
            "strategy/entropy": entropy.mean(),
            "strategy/baseline": baselines[-1],
            "strategy/advantage": advantages.mean(),
            "strategy/log_probability": log_probability.mean(),
        }
        return {**metrics, "strategy/skip_divergence": divergence.mean() / self.skips} if self.skips else metrics

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
