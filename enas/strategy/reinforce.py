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
    baseline_decay  of the moving average of rewards; it starts at the first reward (the authors start at 0, so that
                    about 100 samples are biased) and moves before the advantage is taken, once a sample
    learning_rate, betas, epsilon  of Adam
    seed            of the controller's initial weights

    Raises UserError for a value out of range, and from `tell` where the loss is no longer finite.
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
        for key, value in (("learning_rate", learning_rate), ("epsilon", epsilon), ("entropy_weight", entropy_weight)):
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
        )
        self.optimiser = torch.optim.Adam(
            self.controller.parameters(), lr=learning_rate, betas=(betas[0], betas[1]), eps=epsilon
        )
        self.baseline: Tensor | None = None

    def ask(self, count: int, generator: torch.Generator) -> Tensor:
        return self.controller.sample(count, generator)

    def tell(self, estimates: Estimates) -> dict[str, Tensor]:
        policy = self.controller.evaluate(estimates.choices)
        reward = estimates.value.to(policy.entropy.dtype)
        if self.entropy == "reward":
            reward = reward + self.entropy_weight * policy.entropy.detach()
        baseline, advantages = self.baseline, []
        for sample in reward.unbind():
            baseline = sample if baseline is None else torch.lerp(sample, baseline, self.baseline_decay)
            advantages.append(sample - baseline)
        self.baseline = baseline
        loss = -(policy.log_probability * torch.stack(advantages)).mean()
        if self.entropy == "gradient":
            loss = loss - self.entropy_weight * policy.entropy.mean()
        if not bool(torch.isfinite(loss)):
            raise UserError(
                f"the loss of the strategy became NaN or infinite at step {estimates.step}; the last checkpoint is "
                "good: start again with a lower strategy.learning_rate or strategy.entropy_weight"
            )
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        assert baseline is not None
        return {
            "strategy/loss": loss.detach(),
            "strategy/entropy": policy.entropy.detach().mean(),
            "strategy/baseline": baseline,
            "strategy/advantage": torch.stack(advantages).mean(),
            "strategy/log_probability": policy.log_probability.detach().mean(),
        }

    def to(self, device: torch.device) -> None:
        self.controller.to(device)

    def state_dict(self) -> dict[str, Any]:
        return {
            "controller": self.controller.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "baseline": self.baseline,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.controller.load_state_dict(state["controller"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.baseline = state["baseline"]
