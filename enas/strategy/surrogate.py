"""What a row is probably worth: an ensemble of small networks that reads its decisions (Liu et al. 2018, section 3.3).

Rows have few or many decisions that take part, so a network reads them one by one, as an LSTM does, or their mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from enas.space import SearchSpace

Family = Literal["mlp", "lstm"]
"""mlp: two layers on the mean of the embedded decisions; lstm: one layer on the state after the last of them."""
ROWS = 2048
"""Rows that are scored at once, so that memory stays small."""


class Fitting(NamedTuple):
    """How members are made and fitted.

    members        networks; each learns from all rows but its own part of them, one of `members` equal parts
    embedding      length of the vector of a decision and its alternative
    hidden         units of the layer behind, or of the LSTM
    steps          updates of Adam, each on all rows of a member
    learning_rate  of Adam at the start; it falls to 0 along half a cosine
    """

    family: Family
    members: int
    embedding: int
    hidden: int
    steps: int
    learning_rate: float


def fit(
    space: SearchSpace, rows: Tensor, values: Tensor, fitting: Fitting, generator: torch.Generator
) -> Callable[[Tensor], Tensor]:
    """Fit to rows [n, D] and values [n] -> what says of other rows [k, D] how high they will rank: float [k].

    Everything is made anew from `generator`, so that equal data give equal networks. All of it is on the CPU, where it
    is small. What is fitted are the ranks of the values, brought to mean 0 and deviation 1, by the squared error: a
    few failed rows would outweigh all differences among good ones.
    """
    reader = _Reader(space, fitting.family)
    weights = _weights(fitting, reader.tokens, generator)
    from scipy.stats import rankdata  # half a second to import

    read, target = reader(rows), torch.from_numpy(rankdata(values.numpy())).float()
    target = (target - target.mean()) / target.std(unbiased=False).clamp_min(1e-8)
    part = torch.randperm(len(target), generator=generator) % fitting.members
    kept = torch.ones(fitting.members, len(part))
    if 1 < fitting.members <= len(part):
        kept = (part != torch.arange(fitting.members)[:, None]).float()
    kept = kept / kept.sum(dim=1, keepdim=True)
    compute = _mean_of if fitting.family == "mlp" else _state_of
    optimiser = torch.optim.Adam(weights.values(), lr=fitting.learning_rate, fused=True)
    for step in range(fitting.steps):
        optimiser.param_groups[0]["lr"] = fitting.learning_rate * (1 + math.cos(math.pi * step / fitting.steps)) / 2
        loss = (kept * (_worth(weights, compute(weights, read)) - target).square()).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    @torch.no_grad()
    def predict(others: Tensor) -> Tensor:
        parts = torch.split(others, ROWS)
        return torch.cat([_worth(weights, compute(weights, reader(part))).mean(dim=0) for part in parts])

    return predict


class _Reader:
    """From rows [n, D] to what members read: a token for each alternative of each decision, inactive ones left out."""

    def __init__(self, space: SearchSpace, family: Family):
        self.space, self.family = space, family
        sizes = [len(decision.alternatives) for decision in space.decisions]
        self.tokens = sum(sizes)
        self._first = torch.tensor([sum(sizes[:place]) for place in range(len(sizes))])
        self._order = torch.tensor(space.sampling_order)

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What there is to read, and what of it counts, bool [n, D].

        For an MLP the share of each token [n, T]; for an LSTM the tokens int64 [n, D] in the order of sampling.
        """
        active = self.space.active(rows)
        tokens = rows + self._first
        if self.family == "lstm":
            return tokens[:, self._order], active[:, self._order]
        shares = active.float() / active.sum(dim=1, keepdim=True).clamp_min(1)
        return torch.zeros(len(rows), self.tokens).scatter_(1, tokens, shares), active


def _weights(fitting: Fitting, tokens: int, generator: torch.Generator) -> dict[str, Tensor]:
    """The weights of all members [m, inputs, outputs]."""

    def normal(inputs: int, outputs: int, deviation: float) -> Tensor:
        drawn = torch.randn(fitting.members, inputs, outputs, generator=generator)
        return (deviation * drawn).requires_grad_()

    embedding, hidden = fitting.embedding, fitting.hidden
    weights = {
        "embedding": normal(tokens, embedding, 1.0),
        "worth": normal(hidden, 1, hidden**-0.5),
        "worth_bias": normal(1, 1, 0.0),
    }
    if fitting.family == "mlp":
        return {**weights, "in": normal(embedding, hidden, (2 / embedding) ** 0.5), "bias": normal(1, hidden, 0.0)}
    weights["in"] = normal(embedding, 4 * hidden, embedding**-0.5)
    return {**weights, "recurrent": normal(hidden, 4 * hidden, hidden**-0.5), "bias": normal(1, 4 * hidden, 0.0)}


def _mean_of(weights: dict[str, Tensor], read: tuple[Tensor, Tensor]) -> Tensor:
    """[m, n, hidden]: what an MLP makes of the mean embedding."""
    return functional.relu(read[0] @ weights["embedding"] @ weights["in"] + weights["bias"])


def _state_of(weights: dict[str, Tensor], read: tuple[Tensor, Tensor]) -> Tensor:
    """[m, n, hidden]: the state of an LSTM after the last decision that takes part."""
    tokens, active = read
    gates = weights["embedding"] @ weights["in"] + weights["bias"]
    members, words, width = gates.shape
    table = gates.transpose(0, 1).reshape(words, members * width)
    inputs = functional.embedding(tokens.t(), table).reshape(*tokens.t().shape, members, width).transpose(1, 2)
    state = cell = gates.new_zeros(members, len(tokens), width // 4)
    for own, takes_part in zip(inputs.unbind(), active.t().unsqueeze(2).unbind(), strict=True):
        forget, admit, give, content = (own + state @ weights["recurrent"]).chunk(4, dim=2)
        moved = (forget + 1).sigmoid() * cell + admit.sigmoid() * content.tanh()
        cell = torch.where(takes_part, moved, cell)
        state = torch.where(takes_part, give.sigmoid() * moved.tanh(), state)
    return state


def _worth(weights: dict[str, Tensor], features: Tensor) -> Tensor:
    """[m, n, hidden] -> [m, n]."""
    return (features @ weights["worth"] + weights["worth_bias"])[..., 0]
