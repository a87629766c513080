"""What a relaxation is: architecture parameters in a continuous set, learned by gradients (Liu et al. 2019, DARTS)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from enas.collapse import NONES, SKIPS
from enas.errors import UserError
from enas.space import RelaxableSpace, Scale, SearchSpace
from enas.strategy.base import Strategy

Weights = Mapping[str, nn.Parameter]
Loss = Callable[[Weights, Tensor, Any], Tensor]
"""A pure function: of weights by name, a mixing [E, O] and a batch; gives a scalar."""
Unroll = Callable[[Mapping[str, Tensor]], tuple[dict[str, Tensor], float | Tensor]]
"""The weights' own next step: from their gradients by name to the weights after it, and how far a weight then moves
against a unit of its gradient. What it gives is a constant for autograd."""


class Levels(NamedTuple):
    """The two levels of a relaxed search at one step: weights that fit training data, a mixing that fits other data.

    weights  as they are; never changed
    train    the batch that the weights learn from next
    valid    a batch that they do not learn from
    unroll   the weights' own next step
    """

    loss: Loss
    weights: Mapping[str, Tensor]
    train: Any
    valid: Any
    unroll: Unroll


class Relaxation(Strategy):
    """Architecture parameters alpha float32 [E, O], and the mixing [E, O] that comes of them.

    A network is computed under the mixing, whose gradient moves alpha by an Adam of its own. Rows come out of the
    distribution softmax(alpha) of each edge.

    learning_rate, betas, weight_decay  of Adam; decay is added to the gradient, as the authors' Adam does
    initial                             standard deviation of alpha at first
    seed                                of that

    Raises UserError for a space that is not relaxable, for a value out of range, and from `check` where a gradient was
    not finite.
    """

    two_level: ClassVar[bool] = True
    """Whether alpha learns from validation data; else from the weights' own loss, in the same backward pass."""
    hard: ClassVar[bool] = False
    """Whether a mixing is a path: of each edge one operation is run."""
    exact: bool = False
    """Whether losses are subtracted from one another, and have to be computed in the type of the weights."""
    partial: int = 1
    """Of the channels of an edge one in `partial` passes through its operations (Scale.partial)."""

    def __init__(
        self,
        space: SearchSpace,
        learning_rate: float = 3e-4,
        betas: Sequence[float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        initial: float = 1e-3,
        seed: int = 0,
    ):
        if not isinstance(space, RelaxableSpace):
            raise UserError(
                f"space {space.name} has no mixture of operations that a gradient could move; use a strategy that "
                "samples rows, or a relaxable space such as darts or nasbench201"
            )
        super().__init__(space)
        for key, value in (("learning_rate", learning_rate), ("weight_decay", weight_decay), ("initial", initial)):
            if not 0 <= value < math.inf:
                raise UserError(f"strategy.{key}={value}: allowed is 0 or more")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"strategy.betas={list(betas)}: allowed are two numbers, each 0 to less than 1")
        self.relaxable = space
        generator = torch.Generator().manual_seed(seed)
        shape = (len(space.edges), len(space.candidates))
        alpha = nn.Parameter(initial * torch.randn(shape, generator=generator))
        self.learned = {"alpha": alpha, **self._more(space, initial, generator)}
        """What Adam moves, by name."""
        self.optimiser = torch.optim.Adam(
            self.learned.values(), lr=learning_rate, betas=(betas[0], betas[1]), weight_decay=weight_decay, fused=True
        )
        self.finite = torch.ones((), dtype=torch.bool)
        """False once a gradient was not finite; a tensor, so that reading it can wait."""

    def _more(self, space: RelaxableSpace, initial: float, generator: torch.Generator) -> dict[str, nn.Parameter]:
        """Parameters beside alpha, of standard deviation `initial`."""
        return {}

    @property
    def alpha(self) -> nn.Parameter:
        """[E, O]."""
        return self.learned["alpha"]

    @abstractmethod
    def mixing(self, generator: torch.Generator, progress: float) -> Tensor:
        """The weights [E, O] of the operations, differentiable; `progress` is the share of the training done, 0..1."""

    def strengths(self) -> Tensor:
        """How strong each operation is, [E, O]: what rows are sampled in proportion to, and derived from."""
        return self.alpha.softmax(dim=1)

    def learns(self, progress: float) -> bool:
        """Whether alpha moves at this point of the training."""
        return True

    def settle(self, scale: Scale) -> None:
        """Told the size of the network before the training."""

    def penalty(self) -> Tensor:
        """What is added to the loss that alpha learns from, differentiable; a scalar."""
        return torch.zeros((), device=self.alpha.device)

    def update(self, levels: Levels, generator: torch.Generator, progress: float) -> Tensor:
        """One step of alpha; returns the norm of its gradient. Reads nothing back from the device."""
        loss = levels.loss(constants(levels.weights), self.mixing(generator, progress), levels.valid)
        return self.move(self._gradients(loss + self.penalty()))

    def _gradients(self, loss: Tensor) -> list[Tensor]:
        """Of all that is learned; zeros where `loss` does not depend on it, as where every sampled edge is none."""
        learned = list(self.learned.values())
        if not loss.requires_grad:
            return [torch.zeros_like(parameter) for parameter in learned]
        return list(torch.autograd.grad(loss, learned, allow_unused=True, materialize_grads=True))

    def move(self, gradients: Sequence[Tensor]) -> Tensor:
        """Let Adam move what is learned; returns the norm of the gradients, weight decay not counted."""
        for parameter, gradient in zip(self.learned.values(), gradients, strict=True):
            parameter.grad = gradient
        norm = nn.utils.get_total_norm(gradients)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.finite &= torch.isfinite(norm)
        return norm

    def taken(self) -> list[Tensor]:
        """The gradients that a backward pass of another's left; zeros where it left none."""
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in self.learned.values()]

    @torch.no_grad()
    def ask(self, count: int, generator: torch.Generator) -> Tensor:
        """Rows read off the strengths after Gumbel noise on their logarithms.

        So the operation of an edge is drawn in proportion to its strength, and where a node keeps some of its edges
        these are drawn without replacement, each in proportion to the strengths that are left (Gumbel top-k).
        """
        logits = self.strengths().double().log()
        noisy = logits + gumbel((count, *logits.shape), generator, logits)
        # On the host at once: reading rows off one by one would wait for the device as often.
        mixings = (noisy - noisy.amax(dim=(1, 2), keepdim=True)).exp().cpu()
        return self._rows([self.relaxable.discretise(mixing) for mixing in mixings])

    @torch.no_grad()
    def derive(self, count: int, generator: torch.Generator) -> Tensor:
        """The one row that the method's authors read off, `count` times."""
        return self._rows([self.relaxable.discretise(self.strengths())]).expand(count, -1)

    def _rows(self, rows: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(rows, dtype=torch.int64, device=self.alpha.device).view(-1, len(self.space.decisions))

    @torch.no_grad()
    def measures(self, progress: float) -> dict[str, Tensor]:
        """What there is to see, by tag: entropy of an edge's operations in nats, shares of skips and of none."""
        shares = self.alpha.softmax(dim=1)
        found = {"strategy/entropy": torch.special.entr(shares).sum(dim=1).mean()}
        for tag, names in (("skip", SKIPS), ("none", NONES)):
            places = [place for place, name in enumerate(self.relaxable.candidates) if name in names]
            found[f"strategy/{tag}_share"] = shares[:, places].sum(dim=1).mean()
        return found

    def check(self, epoch: int) -> None:
        if not bool(self.finite):
            raise UserError(
                f"the gradient of the architecture parameters became NaN or infinite in epoch {epoch}; the last "
                "checkpoint is good: start again with a lower strategy.learning_rate or train.rate.maximum"
            )

    def to(self, device: torch.device) -> None:
        for parameter in self.learned.values():
            parameter.data = parameter.data.to(device)
        self.finite = self.finite.to(device)

    def state_dict(self) -> dict[str, Any]:
        learned = {name: parameter.detach() for name, parameter in self.learned.items()}
        return {"learned": learned, "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, parameter in self.learned.items():
                parameter.copy_(state["learned"][name])
        self.optimiser.load_state_dict(state["optimiser"])


def constants(weights: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Weights that no gradient is wanted of; parameters still, which modules ask for by `get_parameter`."""
    return {name: nn.Parameter(weight.detach(), requires_grad=False) for name, weight in weights.items()}


def leaves(weights: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Weights that a gradient is wanted of."""
    return {name: nn.Parameter(weight.detach()) for name, weight in weights.items()}


def gumbel(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Noise of the standard Gumbel distribution, of the type and on the device of `like`."""
    noise = torch.empty(tuple(shape), dtype=like.dtype, device=like.device).exponential_(generator=generator)
    return -noise.clamp_min(torch.finfo(like.dtype).tiny).log()
