"""A searched cell and a plain LSTM of as many parameters: the same text, loop, recipe and number of steps."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from enas.data import Text, columns
from enas.language import FinalLanguageTraining
from enas.language.final import evaluate
from enas.material import check_material
from enas.randomness import Randomness, seeded
from enas.schedule import Cosine
from enas.space import EnasRnn, Noise, Output, Scale, SearchSpace, load_genotype
from enas.space.layers import keep
from enas.supernet import Child

PUBLISHED = "0 2 1 0 2 1 2 2 4 0 5 0 3 2 6 2"
"""The cell of the authors' corrected code."""
UNITS = 128
LOOKS = 5
"""How often validation text is read."""
SHORT: dict[str, Any] = {
    "word": 0.0, "embedding": 0.0, "input": 0.1, "layer": 0.1, "dropout": 0.1, "activation": 0.0, "clip": 0.25,
}  # fmt: skip
"""The recipe of a few passes over the text, which leave little to overfit; conf/experiment/text_demo_final.yaml."""
RATE = Cosine(20.0, 1.0)
"""Over LOOKS epochs, which end where validation text is read."""


class Lstm(nn.Module):
    """torch's LSTM between an embedding and the same embedding as classifier, with a bias; a stand-in for a `Child`.

    Its state [2, 1, B, H] is the output and the memory. Dropout of what a node reads is left out: torch's LSTM has no
    place for it.
    """

    def __init__(self, units: int, vocabulary: int, generator: torch.Generator):
        super().__init__()
        self.space, self.scale = EnasRnn(1), Scale(2, units, 1, 1, 1, vocabulary)
        self.embedding = nn.Parameter((2 * torch.rand(vocabulary, units, generator=generator) - 1) * 0.1)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.lstm = nn.LSTM(units, units, batch_first=True)
        with torch.no_grad():
            for parameter in self.lstm.parameters():
                parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * units**-0.5)

    def read(self, inputs: Tensor, state: Tensor | None = None) -> Output:
        return self._compute(inputs, state, None)

    def learn(self, inputs: Tensor, noise: Noise, state: Tensor | None = None) -> Output:
        return self._compute(inputs, state, noise)

    def _compute(self, inputs: Tensor, state: Tensor | None, noise: Noise | None) -> Output:
        """Words int64 [B, T]; as `RecurrentNetwork` has it."""

        def drop(x: Tensor, shape: Sequence[int], rate: float) -> Tensor:
            return x if noise is None or rate == 0 else x * keep(shape, 1 - rate, noise.generator, x)

        (batch, _), (vocabulary, units) = inputs.shape, self.embedding.shape
        table: Tensor = self.embedding
        if noise is not None:
            table = drop(drop(table, (vocabulary, 1), noise.word), (vocabulary, units), noise.embedding)
        x = functional.embedding(inputs, table)
        x = drop(x, (batch, 1, units), noise.input if noise else 0.0)
        given = None if state is None else (state[0], state[1])
        hidden, (output, memory) = self.lstm(x, given)
        x = drop(hidden, (batch, 1, units), noise.dropout if noise else 0.0)
        logits = functional.linear(x, self.embedding, self.bias)
        return Output(logits.unsqueeze(0), None, {}, torch.stack([output, memory]), hidden.unsqueeze(0))


def size(units: int, vocabulary: int) -> int:
    """Parameters of an `Lstm`."""
    return vocabulary * (units + 1) + 8 * units**2 + 8 * units


def units_for(params: int, vocabulary: int) -> int:
    """The units of the LSTM whose number of parameters is nearest to `params`."""
    most = next(units for units in range(1, params) if size(units, vocabulary) >= params)
    return min((most, max(1, most - 1)), key=lambda units: abs(size(units, vocabulary) - params))


@dataclass(frozen=True)
class Look:
    """Where one side stands after `step` steps, in `seconds` of training."""

    name: str
    params: int
    step: int
    seconds: float
    train_loss: float
    valid_perplexity: float

    def text(self) -> str:
        return (
            f"{self.name:<6} {self.params:>11,} {self.step:>7} {self.seconds:>9.1f} {self.train_loss:>12.4f} "
            f"{self.valid_perplexity:>17.2f}"
        )

    def document(self) -> dict[str, Any]:
        return asdict(self)


HEADING = f"{'side':<6} {'parameters':>11} {'steps':>7} {'seconds':>9} {'train loss':>12} {'valid perplexity':>17}"


class _Loop(FinalLanguageTraining):
    """The loop of the final training, that is looked at from time to time."""

    def looks(self, name: str, schedule: Cosine, steps: int) -> Iterator[Look]:
        params = sum(parameter.numel() for parameter in self.child.parameters())
        valid, seconds, done = columns(self.data.valid, self.scored), 0.0, 0
        for look in range(1, LOOKS + 1):
            self._sums.zero_()
            started, end = time.perf_counter(), steps * look // LOOKS
            self.child.train()
            for _ in range(done, end):
                self._step(schedule.rate(look - 1, LOOKS))
            loss = float(self._sums[0]) / max(end - done, 1)
            seconds, done = seconds + time.perf_counter() - started, end
            perplexity = evaluate(self.child, valid, self.windows.length)["perplexity"]
            yield Look(name, params, done, seconds, loss, perplexity)


def cell(genotype: Path | None, data: Text, seed: int) -> Child:
    """The network of a genotype at the size of its search, or of the published cell with `UNITS` units.

    Raises UserError where the genotype is no recurrent cell.
    """
    space: SearchSpace = EnasRnn(8)
    row, layers, units = cast(EnasRnn, space).parse(PUBLISHED), 1, UNITS
    if genotype is not None:
        found, space = load_genotype(genotype)
        row, scale = list(found.architecture.choices), found.cost["scale"]
        layers, units = scale["layers"], scale["filters"]
        check_material(space, data)
    return Child(space, row, Scale(layers, units, *data.extents), seeded(seed, "cell")).to(data.train.device)


def compare(data: Text, child: Child, steps: int, batch_size: int, seed: int) -> Iterator[Look]:
    """Train `child` and an LSTM of nearly its parameters for `steps` steps each, by the recipe `SHORT`."""
    params = sum(parameter.numel() for parameter in child.parameters())
    device = data.train.device
    lstm = Lstm(units_for(params, len(data.classes)), len(data.classes), seeded(seed, "lstm")).to(device)
    for name, network in (("cell", child), ("lstm", lstm)):
        randomness = Randomness(seed, FinalLanguageTraining.PURPOSES, device)
        loop = _Loop(cast(Child, network), data, randomness, 1, batch_size, progress=False, **SHORT)
        yield from loop.looks(name, RATE, steps)
