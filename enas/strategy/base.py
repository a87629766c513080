"""What a strategy is: a sampler asks for rows and is told what they were worth, a relaxation gives mixtures of all.

In the end either derives its best rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import SearchSpace


class Strategy(ABC):
    """What both kinds have in common.

    Equal states and equal generators give equal rows. The state is tensors, numbers, strings, lists and dicts, so that
    a checkpoint loads without executing anything.
    """

    accept: Callable[[Tensor], Tensor] | None = None
    """Which of rows [n, D] are legal and within the limits, bool [n]; None where all are. A search sets it.

    Rows that do not pass are refused without being told. A strategy that waits for certain rows has to know of them.
    """

    def __init__(self, space: SearchSpace):
        self.space = space

    @abstractmethod
    def ask(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` rows to train or to estimate next, int64 [count, D]; changes nothing, keeps nothing."""

    def derive(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` final candidates, int64 [count, D]."""
        return self.ask(count, generator)

    def check(self, epoch: int) -> None:  # noqa: B027 - a strategy that cannot diverge has nothing to check
        """Raise UserError if what was learned in `epoch`, counted from 1, or before left the strategy without use."""

    def to(self, device: torch.device) -> None:  # noqa: B027 - a strategy without tensors has nothing to move
        """Move the state to `device`."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]: ...

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Sampler(Strategy):
    """Chooses the next rows. `tell` and `refresh` are the only methods that change it."""

    @property
    def budget(self) -> float:
        """The share, above 0 and at most 1, of a full estimate that the rows asked for now are worth."""
        return 1.0

    @property
    def budgets(self) -> tuple[float, ...]:
        """All that `budget` may be, ascending; below 1 only an estimator that is `divisible` serves."""
        return (1.0,)

    @property
    def wanted(self) -> int | None:
        """How many rows, 1 or more, it has use for now: what is asked for beyond is wasted; None: any number."""
        return None

    @abstractmethod
    def tell(self, estimates: Estimates) -> dict[str, Tensor]:
        """Learn from estimated rows; returns scalar metrics as device tensors, by tag."""

    def remembered(self) -> Tensor:
        """The rows int64 [r, D] whose values it still uses; none for a sampler that keeps no values.

        Where shared weights have moved since they were told, the search estimates them again and calls `refresh`.
        """
        return torch.empty(0, len(self.space.decisions), dtype=torch.int64)

    def refresh(self, estimates: Estimates) -> None:
        """Replace the values of the `remembered` rows, given in their order, by new ones."""


def propose(
    draw: Callable[[int], Tensor], count: int, accept: Callable[[Tensor], Tensor] | None, rounds: int = 100
) -> tuple[Tensor, int, int]:
    """`count` accepted rows, how many were drawn for them, and how many of those were rejected.

    `draw(n)` gives rows [n, D], `accept` says which of them pass, bool [n]; None where all do, and then the host does
    not wait to count them. Raises UserError when `rounds` draws of `count` rows do not suffice: the limits leave too
    little of the space.
    """
    if accept is None:
        return draw(count), count, 0
    accepted: list[Tensor] = []
    found = drawn = 0
    for _ in range(rounds):
        rows = draw(count)
        accepted.append(rows[accept(rows)])
        found, drawn = found + accepted[-1].shape[0], drawn + count
        if found >= count:
            return torch.cat(accepted)[:count], drawn, drawn - found
    raise UserError(
        f"limit.params and limit.macs leave too little: of {drawn} sampled rows only {found} passed; "
        "raise the limits or make network.filters or network.layers smaller"
    )
