"""Back to the last good weights where a loss was not finite."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any, Protocol

import torch

from enas.descent import Descent
from enas.errors import UserError

SLOWER = 0.5
"""What the learning rate is multiplied by at each recovery."""


class Stateful(Protocol):
    """What can be put back as it was."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any) -> Any: ...


class Recovery:
    """Keeps a copy of `parts` from the end of the last epoch, and puts it back when the descent has lost its weights.

    The authors' corrected language-model code goes back to its last checkpoint so. Random numbers go on, so that the
    same step does not come again, and the rate is halved each time.

    parts    what makes the weights, by name; `descent` has to be among them
    allowed  how often; after that UserError, as without recovery

    Raises UserError where `allowed` is negative.
    """

    def __init__(self, descent: Descent, parts: Mapping[str, Stateful], allowed: int):
        if allowed < 0:
            raise UserError(f"train.recoveries={allowed}: allowed is 0 or more")
        self._descent, self._parts, self._allowed = descent, dict(parts), allowed
        self.done = self._kept_at = 0
        self._copy = self._take()

    @property
    def slower(self) -> float:
        """The factor of the learning rate."""
        return SLOWER**self.done

    def check(self, epoch: int, step: int, ended: bool) -> bool:
        """Whether the weights were lost and are back as they were; with `ended`, good ones are kept from `step` on.

        Raises UserError where they are lost once more than is allowed; `epoch` is counted from 1.
        """
        if not bool(self._descent.finite):
            if self.done == self._allowed:
                self._descent.check(epoch)
            self.done += 1
            for name, part in self._parts.items():
                part.load_state_dict(copy.deepcopy(self._copy[name]))
            self._descent.finite.fill_(True)
            logging.getLogger("enas").warning(
                "enas: the loss became NaN or infinite in epoch %d; back to the weights of step %d, at %g of the "
                "learning rate (%d of %d times)",
                epoch, self._kept_at, self.slower, self.done, self._allowed,
            )  # fmt: skip
            return True
        if ended and step != self._kept_at:
            self._copy, self._kept_at = self._take(), step
        return False

    def _take(self) -> dict[str, Any]:
        return {name: copy.deepcopy(_detached(part.state_dict())) for name, part in self._parts.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done, "kept_at": self._kept_at, "copy": self._copy}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done, self._kept_at, self._copy = state["done"], state["kept_at"], state["copy"]


def _detached(state: Any) -> Any:
    """Tensors without their history, which deepcopy refuses."""
    if isinstance(state, torch.Tensor):
        return state.detach()
    if isinstance(state, Mapping):
        return {key: _detached(value) for key, value in state.items()}
    return state
