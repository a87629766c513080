"""Training one recurrent cell on text from scratch, and measuring a language model."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from enas.alone import StandAloneTraining
from enas.data import Text, columns
from enas.descent import Descent
from enas.errors import UserError
from enas.language.averaging import Average
from enas.language.recipe import Recipe, bounded, perplexity
from enas.language.recovery import Recovery, Stateful
from enas.language.windows import Windows
from enas.material import check_material
from enas.randomness import Randomness
from enas.schedule import Cosine
from enas.space import Material
from enas.supernet import Child


class FinalLanguageTraining(StandAloneTraining):
    """Trains `child` on windows of the training text, and averages its weights when they stop improving.

    patience     epochs without improvement before averaging, see Average; None: no averaging
    scored       columns in which validation and test text are read side by side; each begins with a state of zeros
    batch_size, length, random_length, steps, recoveries   see LanguageTraining
    word, embedding, input, layer, dropout, activation, slowness   see Recipe
    rate, momentum, nesterov, weight_decay, clip, randomness   as FinalTraining

    Raises UserError for a value out of range, and where space or data are not of text.
    """

    METRICS: ClassVar[tuple[str, ...]] = ("loss", "gradient_norm")
    MEASURES = ("perplexity", "loss")
    higher_is_better = False
    unit = "words"
    reads: ClassVar[Material] = "text"
    validates = True

    def __init__(
        self,
        child: Child,
        data: Text,
        randomness: Randomness,
        epochs: int,
        batch_size: int = 64,
        length: int = 35,
        random_length: bool = True,
        steps: int | None = None,
        rate: Cosine | None = None,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 8e-7,
        clip: float | None = 0.25,
        word: float = 0.125,
        embedding: float = 0.175,
        input: float = 0.725,
        layer: float = 0.225,
        dropout: float = 0.75,
        activation: float = 0.7,
        slowness: float = 0.0,
        patience: int | None = 10,
        scored: int = 10,
        recoveries: int = 3,
        checkpoint_every: int = 1,
        progress: bool = True,
    ):
        check_material(child.space, data, self.reads, "train")
        for key, value in (("steps", steps), ("scored", scored)):
            if value is not None and value < 1:
                raise UserError(f"train.{key}={value}: allowed is 1 or more")
        for split in ("valid", "test"):
            if len(getattr(data, split)) < 2 * scored:
                raise UserError(f"train.scored={scored}: the {split} text is too short for so many columns")
        self.data, self.scored = data, scored
        self.recipe = Recipe(word, embedding, input, layer, dropout, activation, slowness)
        self.windows = Windows(data.train, batch_size, length, random_length, randomness["order"])
        self._steps_of_epoch = steps or self.windows.steps
        descent = Descent(child.named_parameters(), momentum, nesterov, weight_decay, clip=clip)
        super().__init__(child, randomness, descent, rate or Cosine(20.0, 20.0), epochs, checkpoint_every, progress)
        scale = child.scale
        self._state = torch.zeros(scale.layers, 1, batch_size, scale.filters, device=randomness.device)
        self.average = Average(child, patience)
        self.goes_by_validation = patience is not None
        parts: dict[str, Stateful] = {"child": child, "descent": descent, "average": self.average}
        self._recovery = Recovery(descent, parts, recoveries)

    @property
    def steps(self) -> int:
        return self._steps_of_epoch

    @property
    def examples(self) -> int:
        return self.windows.batch_size * self.windows.length

    def _step(self, rate: float) -> None:
        self.phases.enter("data")
        window = self.windows.next()
        if window.first:
            self._state.zero_()
        self.phases.enter("forward")
        output = self.child.learn(window.inputs, self.recipe.noise(self.randomness["augment"]), self._state)
        assert output.state is not None
        loss, total = self.recipe.losses(output, window.targets)
        self.phases.enter("backward")
        self.descent.differentiate(total)
        self.phases.enter("update")
        share = window.inputs.shape[1] / self.windows.length
        norm = self.descent.move(total, rate * share * self._recovery.slower)
        self.average.update()
        self._state.copy_(output.state.detach())
        self._sums += torch.stack([loss.detach().double(), norm.double()])

    def check(self, epoch: int) -> None:
        """Go back where the weights were lost. Raises UserError where that happens too often."""
        step = self.epoch * self.steps + self.trained
        if self._recovery.check(epoch, step, self.trained == self.steps):
            self._state.zero_()

    def _means(self, means: dict[str, float]) -> dict[str, float]:
        averaged = {"averaged_steps": self.average.count, "recoveries": self._recovery.done}
        return {**means, "perplexity": perplexity(means["loss"]), **averaged}

    def kept(self) -> AbstractContextManager[object]:
        return self.average.applied()

    def _validated(self, valid: dict[str, float]) -> None:
        self.average.judge(valid["perplexity"])

    def _measure(self, child: Child, split: str) -> dict[str, float]:
        return evaluate(child, columns(getattr(self.data, split), self.scored), self.windows.length)

    def _size(self, split: str) -> int:
        """Words that are predicted: the first of each column is not."""
        text = columns(getattr(self.data, split), self.scored)
        return text.numel() - len(text)

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "windows": self.windows.state_dict(),
            "state": self._state,
            "average": self.average.state_dict(),
            "recovery": self._recovery.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.windows.load_state_dict(state["windows"])
        self.average.load_state_dict(state["average"])
        self._recovery.load_state_dict(state["recovery"])
        self._state.copy_(state["state"])


def evaluate(child: Child, text: Tensor, length: int) -> dict[str, float]:
    """Perplexity and mean loss in nats a word of `child` on columns of text int64 [B, L], the state carried through."""
    loss = float(bounded(sum_losses(child, text, length)[0] / (text.numel() - len(text))))
    return {"perplexity": perplexity(loss), "loss": loss}


@torch.no_grad()
def sum_losses(child: Child, text: Tensor, length: int) -> Tensor:
    """Sums over all predicted words of `evaluate` of their losses in nats, and of the squares of those: float64 [2]."""
    child.eval()
    sums, state = torch.zeros(2, dtype=torch.float64, device=text.device), None
    for start in range(0, text.shape[1] - 1, length):
        end = min(start + length, text.shape[1] - 1)
        output = child.read(text[:, start:end], state)
        targets = text[:, start + 1 : end + 1].flatten()
        losses = functional.cross_entropy(output.logits.flatten(0, 2), targets, reduction="none").double()
        sums += torch.stack([losses.sum(), losses.square().sum()])
        state = output.state
    return sums
