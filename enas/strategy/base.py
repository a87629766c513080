"""What a sampler is: it asks for rows, is told what they were worth, and in the end derives its best."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from enas.architecture import Estimates
from enas.errors import UserError
from enas.space import SearchSpace


class Sampler(ABC):
    """Chooses the next rows. `tell` is the only method that changes it.

    Equal states and equal generators give equal rows. The state is tensors, numbers, strings, lists and dicts, so that
    a checkpoint loads without executing anything.
    """

    def __init__(self, space: SearchSpace):
        self.space = space

    @abstractmethod
    def ask(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` rows to train or to estimate next, int64 [count, D]; keeps nothing that `tell` needs."""

    @abstractmethod
    def tell(self, estimates: Estimates) -> dict[str, Tensor]:
        """Learn from estimated rows; returns scalar metrics as device tensors, by tag."""

    def check(self, epoch: int) -> None:  # noqa: B027 - a sampler that cannot diverge has nothing to check
        """Raise UserError if what was told in `epoch`, counted from 1, or before left the sampler without use."""

    def derive(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` final candidates, int64 [count, D]."""
        return self.ask(count, generator)

    def to(self, device: torch.device) -> None:  # noqa: B027 - a sampler without tensors has nothing to move
        """Move the state to `device`."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]: ...

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


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
