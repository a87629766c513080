"""The one-shot estimate on text: a child's perplexity with the weights of the supernet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from enas.architecture import Estimates
from enas.data import Text, columns
from enas.errors import UserError
from enas.estimator.base import OneShotEstimator
from enas.graph import Captured, wanted
from enas.language.recipe import bounded
from enas.material import check_material
from enas.supernet import Supernet

TextObjective = Literal["perplexity", "loss"]
REWARD = 80.0
"""What a perplexity of 1 would be worth (ENAS paper, section 3.1; all codes)."""
TEXT_LABELS: Mapping[TextObjective, str] = {"perplexity": f"{REWARD:g}/perplexity", "loss": "minus loss"}
"""What the values are called in reports."""


def check_text_objective(objective: str) -> TextObjective:
    """The objective; raises UserError where text has none of this name."""
    for known in TEXT_LABELS:
        if objective == known:
            return known
    raise UserError(f"objective={objective}: on text allowed are perplexity and loss")


class Language(OneShotEstimator):
    """Scores children on validation text with shared weights; all rows of a call on the same words, from zero states.

    Where not all text is used, `windows` consecutive windows from a random place are, the state carried from one to
    the next. On all of it the state is carried through. A child whose state overflows counts 50 nats a word.

    objective   "perplexity": the value is 80 / perplexity; "loss": minus nats a word
    batch_size  columns of text that are read side by side
    length      words of a window
    windows     behind an estimate on a part of the text
    children    in one forward pass; changes no result, only the memory: logits are children x columns x words x
                vocabulary
    graph       "auto": the forward pass becomes a CUDA graph where that is possible; "off": never

    Raises UserError for a value out of range, and where space or data are not of text.
    """

    def __init__(
        self,
        supernet: Supernet,
        data: Text,
        objective: TextObjective = "perplexity",
        batch_size: int = 64,
        length: int = 35,
        windows: int = 1,
        children: int = 1,
        graph: Literal["auto", "off"] = "auto",
    ):
        check_material(supernet.space, data, "text", "estimator")
        self.objective = check_text_objective(objective)
        sizes = {"batch_size": batch_size, "length": length, "windows": windows, "children": children}
        for key, value in sizes.items():
            if value < 1:
                raise UserError(f"estimator.{key}={value}: allowed is 1 or more")
        if len(data.valid) < 2 * batch_size:
            raise UserError(
                f"estimator.batch_size={batch_size}: the validation text has {len(data.valid)} words, each column "
                "needs at least 2"
            )
        self.supernet = supernet
        self.label = TEXT_LABELS[self.objective]
        self.length, self.windows, self.children = length, windows, children
        self._text = columns(data.valid, batch_size)
        self._captured = Captured(self._score, capture=wanted(graph, data.valid.device, supernet.space.static))

    @torch.no_grad()
    def estimate(self, choices: Tensor, generator: torch.Generator | None = None, budget: float = 1.0) -> Estimates:
        text, usable = self._text, self._text.shape[1] - 1
        if generator is not None and (count := self.length * self.windows) < usable:
            start = torch.randint(usable - count + 1, (1,), generator=generator, device=generator.device)
            text = text[:, start + torch.arange(count + 1, device=start.device)]
            usable = count
        parts = []
        for rows in torch.split(choices, self.children):
            scale = self.supernet.scale
            shape = (scale.layers, len(rows), len(text), scale.filters)
            state = next(self.supernet.parameters()).new_zeros(shape)
            sums = torch.zeros(len(rows), 2, dtype=torch.float64, device=choices.device)
            for first in range(0, usable, self.length):
                window = text[:, first : min(first + self.length, usable) + 1]
                added, state = self._captured(rows, window, state)
                sums += added
            parts.append(word_estimates(rows, sums, usable * len(text), self.objective, self.step))
        return Estimates.joined(parts)

    def _score(self, rows: Tensor, window: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Children [M, D] on words int64 [B, T + 1]: [M, 2] sums of losses and their squares; the next state."""
        output = self.supernet.read(window[:, :-1].unsqueeze(0), rows, state)
        assert output.state is not None
        logits, targets = output.logits.flatten(1, 2), window[:, 1:].flatten()
        losses = torch.stack([functional.cross_entropy(own, targets, reduction="none") for own in logits]).double()
        return torch.stack([losses.sum(dim=1), losses.square().sum(dim=1)], dim=1), output.state


def word_estimates(rows: Tensor, sums: Tensor, words: int, objective: TextObjective, step: int) -> Estimates:
    """Estimates of rows [n, D] from sums [n, 2], over so many words, of their losses and of the squares of those."""
    loss, square = (sums / words).unbind(dim=1)
    loss, square = bounded(loss), square.nan_to_num(nan=0.0, posinf=0.0)
    error = ((square - loss**2).clamp_min(0.0) / max(words - 1, 1)).sqrt()
    perplexity = loss.exp()
    value = REWARD / perplexity if objective == "perplexity" else -loss
    if objective == "perplexity":
        error = error * value  # to first order: the derivative of exp(-loss) is itself
    return Estimates(rows, value, error, {"perplexity": perplexity, "loss": loss}, words, step)
