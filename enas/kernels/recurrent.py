"""The definition of a recurrent policy: decisions one after the other, each chosen from the state of an LSTM.

What a controller does on a space is data: a `Program` says in which step the LSTM reads what, and what is decided from
its state. The controller of any space is thereby one operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

SOFTMAX, SOURCE, SKIP = range(3)
"""How a decision is taken: a softmax over a vocabulary, attention over nodes, or attention as yes or no to one."""


class PolicyWeights(NamedTuple):
    """All weights of a policy with H hidden units; the vocabularies, one after the other, have V words."""

    recurrent: Tensor  # [2H, 4H]  rows: input, hidden state; columns: input, forget, output gate, content; no biases
    key: Tensor  # [H, H]
    query: Tensor  # [H, H]
    value: Tensor  # [H, 1]
    inputs: Tensor  # [1 + V, H]  the start embedding, then the embedding of each word
    softmax: Tensor  # [V, H]
    bias: Tensor  # [V]


class Step(NamedTuple):
    """One step of the LSTM, and what becomes of its hidden state."""

    from_start: bool  # it reads the start embedding, else what was chosen last
    node: int  # the node whose attention key is made here; -1: none
    anchor: bool  # the hidden state is the node's anchor, which a decision for the node passes on; else that is zero
    query: int  # the number of this step among those that attend to nodes; -1: it does not
    first: int  # the decisions taken here are `first` to `first + length` of the program
    length: int
    consumer: int  # the step that reads what is chosen here; -1: none


class Choice(NamedTuple):
    """One decision. Its logits are divided by `temperature`, kept within `bound` by tanh, and added to `prior`.

    A skip with a `target` above 0 is to be taken with that probability: how far the policy is from it is scored.
    """

    place: int  # in the row
    kind: int
    word: int  # a softmax: the first word of its vocabulary
    nodes: tuple[int, ...]  # a source: what its alternatives point to; a skip: the one node
    prior: tuple[float, ...]  # one number for each alternative
    temperature: float = 1.0
    bound: float = 0.0  # 0: none
    target: float = 0.0  # 0: none; else less than 1


class Tables(NamedTuple):
    """A program as the native operation reads it, on the device."""

    steps: Tensor  # int32 [S, 7], the fields of Step
    choices: Tensor  # int32 [D, 4 + A]: place, kind, alternatives, first word, nodes
    numbers: Tensor  # float64 [D, 3 + A]: temperature, bound, target, prior


@dataclass(frozen=True)
class Program:
    """The steps in order, and the decisions in the order they are taken; A is the most alternatives of one."""

    steps: tuple[Step, ...]
    choices: tuple[Choice, ...]

    @cached_property
    def alternatives(self) -> int:
        return max(len(choice.prior) for choice in self.choices)

    @cached_property
    def nodes(self) -> int:
        """How many nodes have a key."""
        return 1 + max(step.node for step in self.steps)

    @cached_property
    def queries(self) -> int:
        """How many steps attend."""
        return 1 + max(step.query for step in self.steps)

    def tables(self) -> Tables:
        width = self.alternatives

        def filled(values: tuple[float, ...]) -> list[float]:
            return [*values, *[0] * (width - len(values))]

        return Tables(
            torch.tensor(self.steps, dtype=torch.int32),
            torch.tensor(
                [
                    [choice.place, choice.kind, len(choice.prior), choice.word, *filled(choice.nodes)]
                    for choice in self.choices
                ],
                dtype=torch.int32,
            ),
            torch.tensor(
                [[choice.temperature, choice.bound, choice.target, *filled(choice.prior)] for choice in self.choices],
                dtype=torch.float64,
            ),
        )


def policy(
    weights: PolicyWeights,
    program: Program,
    tables: Tables,
    choices: Tensor,
    noise: Tensor | None = None,
    active: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Rows of decisions, sampled or given, and what the policy thinks of them.

    choices  int64 [n, D], the given rows; where they are sampled, only their shape counts
    noise    None, or Gumbel noise [n, D, A] in the order of the program: the alternative with the largest sum of
             log-probability and noise is sampled (the Gumbel-max trick)
    active   None, or what says of rows which decisions take part, bool [n, D]; it is asked with rows that are filled up
             to the decision at hand. One that takes no part is sampled as 0 and counts in nothing

    Returns the rows and, before them, scores [3, n] in nats: the log-probability; the entropy of the softmaxes, summed;
    and the Kullback-Leibler divergence of skips from their targets, KL(policy || target), summed.
    """
    walk = _Walk(weights, program, tables.numbers, choices.clone())
    for step in program.steps:
        walk.advance(step)
        if step.length:
            walk.decide(step, noise, active)
    return torch.stack([walk.log_probability, walk.entropy, walk.divergence]), walk.choices


class _Walk:
    """Where a walk through a program stands."""

    def __init__(self, weights: PolicyWeights, program: Program, numbers: Tensor, choices: Tensor):
        self.weights, self.program, self.numbers, self.choices = weights, program, numbers, choices
        units = weights.key.shape[0]
        self.rows = torch.arange(choices.shape[0], device=choices.device)
        self.cell = self.hidden = weights.inputs.new_zeros(choices.shape[0], units)
        self.start = weights.inputs[0].expand_as(self.cell)
        self.chosen = self.start
        self.keys: dict[int, Tensor] = {}
        self.anchors: dict[int, Tensor] = {}
        self.log_probability = self.entropy = self.divergence = self.cell.new_zeros(choices.shape[0])

    def advance(self, step: Step) -> None:
        """One step of the LSTM."""
        given = self.start if step.from_start else self.chosen
        gates = torch.cat([given, self.hidden], dim=1) @ self.weights.recurrent
        take, forget, show, content = gates.chunk(4, dim=1)
        self.cell = torch.sigmoid(forget) * self.cell + torch.sigmoid(take) * torch.tanh(content)
        self.hidden = torch.sigmoid(show) * torch.tanh(self.cell)
        if step.node >= 0:
            self.keys[step.node] = self.hidden @ self.weights.key
            self.anchors[step.node] = self.hidden if step.anchor else torch.zeros_like(self.hidden)

    def decide(self, step: Step, noise: Tensor | None, active: Callable[[Tensor], Tensor] | None) -> None:
        """Take the decisions of one step, and let the next one read their mean."""
        chosen, selected = torch.zeros_like(self.hidden), self.hidden.new_zeros(len(self.choices), 1)
        for number in range(step.first, step.first + step.length):
            decision = self.program.choices[number]
            log_softmax = self._logits(number, decision).log_softmax(dim=1)
            taking_part = None if active is None else active(self.choices)[:, decision.place]
            if noise is not None:
                sampled = (log_softmax + noise[:, number, : log_softmax.shape[1]]).argmax(dim=1)
                self.choices[:, decision.place] = sampled if taking_part is None else sampled * taking_part
            choice = self.choices[:, decision.place]
            gain = log_softmax.gather(1, choice[:, None])[:, 0]
            spread = -(log_softmax.exp() * log_softmax).sum(dim=1)
            distance = self._distance(number, decision, log_softmax)
            if taking_part is not None:
                gain, spread, distance = (torch.where(taking_part, score, 0.0) for score in (gain, spread, distance))
            self.log_probability, self.entropy = self.log_probability + gain, self.entropy + spread
            self.divergence = self.divergence + distance
            if decision.kind == SOURCE:
                chosen = chosen + torch.stack([self.anchors[node] for node in decision.nodes], dim=1)[self.rows, choice]
            elif decision.kind == SKIP:
                taken = choice[:, None].to(chosen.dtype)
                chosen, selected = chosen + taken * self.anchors[decision.nodes[0]], selected + taken
            else:
                chosen = chosen + self.weights.inputs[1 + decision.word + choice]
        self.chosen = chosen / (1 + selected)

    def _distance(self, number: int, decision: Choice, log_softmax: Tensor) -> Tensor:
        """[n], from the target of a decision; 0 where it has none."""
        if decision.target == 0:
            return torch.zeros_like(self.divergence)
        target = self.numbers[number, 2]
        wished = torch.stack([1 - target, target]).log().to(log_softmax.dtype)
        return (log_softmax.exp() * (log_softmax - wished)).sum(dim=1)

    def _logits(self, number: int, decision: Choice) -> Tensor:
        """[n, A] for the alternatives of one decision."""
        if decision.kind == SOFTMAX:
            words = slice(decision.word, decision.word + len(decision.prior))
            logits = self.hidden @ self.weights.softmax[words].t() + self.weights.bias[words]
        else:
            query = (self.hidden @ self.weights.query).unsqueeze(1)
            keys = torch.stack([self.keys[node] for node in decision.nodes], dim=1)
            logits = (torch.tanh(keys + query) @ self.weights.value).squeeze(2)
        if decision.kind == SKIP:
            logits = torch.cat([-logits, logits], dim=1)
        logits = logits / decision.temperature
        if decision.bound > 0:
            logits = decision.bound * torch.tanh(logits)
        return logits + self.numbers[number, 3 : 3 + len(decision.prior)].to(logits.dtype)
