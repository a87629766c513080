"""Truncated back-propagation through time: the windows in which a text is read."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from enas.data import columns
from enas.errors import UserError

SHORTEST, SPREAD, HALVED = 5, 5.0, 0.05
"""Of random lengths: the least, the standard deviation, how often half the length is the mean (AWD-LSTM, Merity et al.
2017, arXiv:1708.02182, section 5)."""


class Window(NamedTuple):
    """Words int64 [B, T] and the words that follow them; `first` of a pass, before which nothing was read."""

    inputs: Tensor
    targets: Tensor
    first: bool


class Windows:
    """Endless stream of windows over a text in columns that are read side by side, pass after pass.

    words         int64 [N]
    batch_size    columns
    length        words of a window; the mean one where lengths are random
    random        lengths are drawn anew for each pass, so that not always the same words begin a window
    generator     gives the lengths; its state is saved by its owner

    Raises UserError for values below 1, and for a text too short for two words a column.
    """

    def __init__(self, words: Tensor, batch_size: int, length: int, random: bool, generator: torch.Generator):
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: allowed is 1 or more columns of text")
        if length < 1:
            raise UserError(f"train.length={length}: allowed is 1 or more words")
        self._columns = columns(words, batch_size)
        self._usable = self._columns.shape[1] - 1  # the last word of a column has no next one
        if self._usable < 1:
            raise UserError(
                f"batch_size={batch_size}: the training text has {len(words)} words, each column needs at least 2"
            )
        self.batch_size, self.length = batch_size, length
        self._random, self._generator = random, generator
        self._lengths: list[int] = []
        self._window = self._start = 0

    @property
    def steps(self) -> int:
        """Windows of the mean length in one pass, at least 1."""
        return max(1, self._usable // self.length)

    def next(self) -> Window:
        """The next window; the last of a pass may be shorter."""
        if self._window == len(self._lengths):
            self._lengths, self._window, self._start = self._draw(), 0, 0
        start, end = self._start, self._start + self._lengths[self._window]
        self._window, self._start = self._window + 1, end
        return Window(self._columns[:, start:end], self._columns[:, start + 1 : end + 1], start == 0)

    def _draw(self) -> list[int]:
        """The lengths of a pass, drawn together: the host waits for the device once a pass."""
        shortest = min(SHORTEST, self.length)
        count = -(-self._usable // (shortest if self._random else self.length))
        lengths = [self.length] * count
        if self._random:
            own = self._generator
            halved = torch.rand(count, generator=own, device=own.device) < HALVED
            mean = torch.where(halved, self.length / 2, float(self.length))
            drawn = mean + SPREAD * torch.randn(count, generator=own, device=own.device)
            lengths = drawn.long().clamp_min(shortest).tolist()
        kept: list[int] = []
        left = self._usable
        while left > 0:
            kept.append(min(lengths[len(kept)], left))
            left -= kept[-1]
        return kept

    def state_dict(self) -> dict[str, Any]:
        return {"lengths": list(self._lengths), "window": self._window, "columns": list(self._columns.shape)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken; UserError where the text had another length."""
        if list(state["columns"]) != list(self._columns.shape):
            raise UserError(
                f"the checkpoint's training text has {state['columns'][1]} words a column, the data's has "
                f"{self._columns.shape[1]}: resume with the same data, or start a new run"
            )
        self._lengths, self._window = list(state["lengths"]), state["window"]
        self._start = sum(self._lengths[: self._window])
