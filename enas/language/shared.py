"""The inner loop of a search on text: training the shared weights by next words, with a carried state."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from enas.data import Text
from enas.descent import Descent
from enas.errors import UserError
from enas.language.recipe import Recipe, perplexity
from enas.language.recovery import Recovery
from enas.language.windows import Windows
from enas.material import check_material
from enas.randomness import Randomness
from enas.schedule import Cosine
from enas.supernet import Supernet
from enas.weights import WeightTraining


class LanguageTraining(WeightTraining):
    """Trains the supernet on windows of the training text.

    Columns of text are read side by side; what a column's state was at the end of a window is its state at the
    beginning of the next, whichever child comes then, without gradients through it. A new pass begins with zeros.

    batch_size     columns
    length         words of a window; gradients go back through so many
    random_length  lengths vary around it, the rate in proportion
    steps          of an epoch; None: one pass over the text
    children       that share the columns, each with its own slice of them
    recoveries     how often the weights may be lost: they are then those of the last epoch's end; see Recovery
    word, embedding, input, layer, dropout, activation, slowness   see Recipe
    rate, momentum, nesterov, weight_decay, clip, randomness, graph   as SharedTraining

    Raises UserError for a value out of range, and where space or data are not of text.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "gradient_norm")
    unit = "words"

    def __init__(
        self,
        supernet: Supernet,
        data: Text,
        randomness: Randomness,
        batch_size: int = 64,
        length: int = 35,
        random_length: bool = True,
        steps: int | None = None,
        rate: Cosine | None = None,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 8e-7,
        clip: float | None = 0.1,
        word: float = 0.1,
        embedding: float = 0.2,
        input: float = 0.75,
        layer: float = 0.25,
        dropout: float = 0.75,
        activation: float = 0.0,
        slowness: float = 1.0,
        children: int = 1,
        recoveries: int = 3,
        graph: Literal["auto", "off"] = "auto",
    ):
        check_material(supernet.space, data, "text", "train")
        if children < 1 or batch_size % children:
            raise UserError(f"train.children={children}: allowed are numbers that divide the {batch_size} columns")
        if steps is not None and steps < 1:
            raise UserError(f"train.steps={steps}: allowed is 1 or more, or null for one pass over the text")
        self.data = data
        self.recipe = Recipe(word, embedding, input, layer, dropout, activation, slowness)
        self.windows = Windows(data.train, batch_size, length, random_length, randomness["order"])
        self._steps = steps or self.windows.steps
        descent = Descent(supernet.named_parameters(), momentum, nesterov, weight_decay, clip=clip)
        super().__init__(supernet, randomness, descent, rate or Cosine(20.0, 20.0), children, graph)
        scale = supernet.scale
        self._state = torch.zeros(scale.layers, batch_size, scale.filters, device=randomness.device)
        self._recovery = Recovery(descent, {"supernet": supernet, "descent": descent}, recoveries)

    @property
    def steps(self) -> int:
        return self._steps

    @property
    def examples(self) -> int:
        return self.windows.batch_size * self.windows.length

    def _next(self, rate: float) -> tuple[Tensor, ...]:
        window = self.windows.next()
        if window.first:
            self._state.zero_()
        share = window.inputs.shape[1] / self.windows.length
        return window.inputs, window.targets, self._rate.fill_(rate * share * self._recovery.slower)

    def _train(self, *inputs: Tensor) -> None:
        """Children [M, D], words and next words int64 [B, T], rate []."""
        choices, words, targets, rate = inputs
        self.phases.enter("forward")
        children = len(choices)
        state = self._state.view(len(self._state), children, -1, self._state.shape[2])
        noise = self.recipe.noise(self._augment)
        output = self.supernet.read(words.view(children, -1, words.shape[1]), choices, state, noise)
        assert output.state is not None
        loss, total = self.recipe.losses(output, targets)
        self.phases.enter("backward")
        self.descent.differentiate(total)
        self.phases.enter("update")
        norm = self.descent.move(total, rate)
        state.copy_(output.state.detach())
        self._sums += torch.stack([loss.detach().double(), norm.double()])

    def check(self, epoch: int) -> None:
        """Go back where the weights were lost. Raises UserError where that happens too often."""
        if self._recovery.check(epoch, self.step_count, self.step_count % self._steps == 0):
            self._state.zero_()

    def metrics(self) -> dict[str, float]:
        """Means since the last call, by tag, and the perplexity of the mean loss."""
        means = super().metrics()
        return {
            **means,
            "weights/perplexity": perplexity(means["weights/loss"]),
            "weights/recoveries": self._recovery.done,
        }

    def state_dict(self) -> dict[str, Any]:
        own = {"windows": self.windows.state_dict(), "state": self._state, "recovery": self._recovery.state_dict()}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.windows.load_state_dict(state["windows"])
        self._recovery.load_state_dict(state["recovery"])
        self._state.copy_(state["state"])
