"""REINFORCE with a recurrent controller: the search strategy of ENAS (Pham et al. 2018, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from enas.architecture import Estimates
from enas.space import SearchSpace
from enas.strategy.policy_gradient import Entropy, PolicyGradient


class Reinforce(PolicyGradient):
    """Policy gradient on the controller; one Adam update for each `tell`, averaged over its rows.

    For the keys and what is raised see `PolicyGradient`. The authors add the entropy to the reward and start the
    baseline at 0, so that about 100 samples are biased.
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
        entropy: Entropy = "gradient",
        skip_target: float = 0.4,
        skip_weight: float = 0.8,
        baseline_decay: float = 0.99,
        learning_rate: float = 0.0035,
        betas: Sequence[float] = (0.0, 0.999),
        epsilon: float = 1e-3,
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

    def tell(self, estimates: Estimates) -> dict[str, Tensor]:
        scores = self.controller.evaluate(estimates.choices).scores
        reward = self._rewards(estimates.value, scores[1].detach())
        baselines = self._baselines(reward)
        advantages = reward - baselines
        loss = self._loss(scores, advantages)
        self._descend(loss)
        return self._metrics(loss, scores, baselines, advantages)
