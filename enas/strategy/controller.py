"""The recurrent controller: a policy over the decisions of any space.

ENAS paper, section 2.2; authors' micro_controller.py.

It is made from the decisions alone. A decision is sampled from the state of an LSTM; its input is what was chosen
before. A `source` is chosen by attention over the nodes it names; a `skip` by the same attention, as yes or no; all
other kinds by a softmax over their vocabulary. When a node is finished, one more step of the LSTM makes its anchor,
which later sources attend to; a node that no decision builds (a cell's input) gets its key from a step on the start
embedding and a zero anchor, as published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from itertools import groupby
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from enas.errors import UserError
from enas.space import Decision, SearchSpace
from enas.space.base import Kind


class Policy(NamedTuple):
    """Rows and what the controller thinks of them: log-probability [n] and summed softmax entropy [n], in nats."""

    choices: Tensor
    log_probability: Tensor
    entropy: Tensor


class Controller(nn.Module):
    """See the module. Shapes: H = `hidden`, n rows.

    temperature   kind -> logits are divided by it
    bound         kind -> logits become bound * tanh(logits), after the temperature
    initial_bias  vocabulary -> starting values of the trained bias of its softmax
    prior         pattern of decision names -> values added to the logits at the end, never trained

    Raises UserError for an unknown kind, for a temperature or bound not above 0, and where a bias does not fit the
    decisions it is for, or fits none.
    """

    def __init__(
        self,
        space: SearchSpace,
        hidden: int,
        temperature: Mapping[str, float],
        bound: Mapping[str, float],
        initial_bias: Mapping[str, Sequence[float]],
        prior: Mapping[str, Sequence[float]],
        generator: torch.Generator,
    ):
        super().__init__()
        for key, by_kind in (("temperature", temperature), ("bound", bound)):
            for kind, value in by_kind.items():
                if kind not in get_args(Kind) or not isinstance(value, int | float) or not value > 0:
                    allowed = f"a number above 0 for {', '.join(get_args(Kind))}"
                    raise UserError(f"strategy.{key}.{kind}={value}: allowed is {allowed}")
        self.space, self.hidden = space, hidden
        self.temperature, self.bound = dict(temperature), dict(bound)
        ordered = [(place, space.decisions[place]) for place in space.sampling_order]
        self._steps = [list(group) for _, group in groupby(ordered, key=lambda item: item[1].step)]
        self._anchored = any(decision.kind in ("source", "skip") for decision in space.decisions)
        sizes = {
            decision.vocabulary: len(decision.alternatives)
            for decision in space.decisions
            if decision.kind not in ("source", "skip")
        }

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.rand(shape, generator=generator) * 0.2 - 0.1)  # authors' micro_controller

        self.recurrent = uniform(2 * hidden, 4 * hidden)
        self.start = uniform(1, hidden)
        self.attention_key, self.attention_query = uniform(hidden, hidden), uniform(hidden, hidden)
        self.attention_value = uniform(hidden, 1)
        self.embedding = nn.ParameterDict({name: uniform(size, hidden) for name, size in sizes.items()})
        self.softmax = nn.ParameterDict({name: uniform(hidden, size) for name, size in sizes.items()})
        self.bias = nn.ParameterDict({name: torch.zeros(size) for name, size in sizes.items()})
        for name, values in initial_bias.items():
            if name not in sizes or len(values) != sizes[name]:
                allowed = ", ".join(f"{known} ({size} values)" for known, size in sizes.items())
                raise UserError(f"strategy.initial_bias.{name}={list(values)}: allowed are {allowed}")
            with torch.no_grad():
                self.bias[name].copy_(torch.tensor(values))
        self._prior = [_prior_of(decision, prior) for decision in space.decisions]
        for pattern in prior:
            if not any(fnmatch(decision.name, pattern) for decision in space.decisions):
                raise UserError(f"strategy.prior.{pattern}: no decision of space {space.name} has such a name")

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` rows from the policy, int64 [count, D]; the generator lives on the controller's device."""
        with torch.no_grad():
            return self._walk(
                self.start.new_zeros((count, len(self.space.decisions)), dtype=torch.int64), generator
            ).choices

    def evaluate(self, choices: Tensor) -> Policy:
        """Log-probability and entropy of given rows [n, D], with gradients."""
        return self._walk(choices.clone(), None)

    def _walk(self, choices: Tensor, generator: torch.Generator | None) -> Policy:
        """Go through the decisions in sampling order, filling `choices` where there is a generator."""
        count = choices.shape[0]
        cell = hidden = self.start.new_zeros(count, self.hidden)
        start = self.start.expand(count, -1)
        given = start
        anchors: dict[str, tuple[Tensor, Tensor]] = {}  # node -> (attention key [n, H], anchor [n, H])
        log_probability = entropy = self.start.new_zeros(count)
        owner: str | None = None
        for step in self._steps:
            first = step[0][1]
            if self._anchored and owner is not None and first.owner != owner:
                cell, hidden = self._advance(given, cell, hidden)
                anchors[owner] = (hidden @ self.attention_key, hidden)
                given = start
            owner = first.owner
            for node in _nodes(step):
                if node not in anchors:
                    cell, hidden = self._advance(start, cell, hidden)
                    anchors[node] = (hidden @ self.attention_key, torch.zeros_like(hidden))
            cell, hidden = self._advance(given, cell, hidden)
            chosen, selected = torch.zeros_like(hidden), hidden.new_zeros(count, 1)
            for place, decision in step:
                log_softmax = self._logits(place, decision, hidden, anchors).log_softmax(dim=1)
                active = self.space.active(choices)[:, place] if self.space.conditional else None
                if generator is not None:
                    choice = _sample(log_softmax, generator)
                    choices[:, place] = choice if active is None else torch.where(active, choice, 0)
                choice = choices[:, place]
                gain = log_softmax.gather(1, choice[:, None])[:, 0]
                spread = -(log_softmax.exp() * log_softmax).sum(dim=1)
                if active is not None:
                    gain, spread = torch.where(active, gain, 0.0), torch.where(active, spread, 0.0)
                log_probability, entropy = log_probability + gain, entropy + spread
                if decision.kind == "source":
                    offered = torch.stack([anchors[node][1] for node in decision.alternatives], dim=1)
                    chosen = chosen + offered[torch.arange(count, device=choice.device), choice]
                elif decision.kind == "skip":
                    taken = choice[:, None].to(hidden.dtype)
                    chosen, selected = chosen + taken * anchors[decision.alternatives[1]][1], selected + taken
                else:
                    chosen = chosen + self.embedding[decision.vocabulary][choice]
            given = chosen / (1 + selected)
        return Policy(choices, log_probability, entropy)

    def _logits(
        self, place: int, decision: Decision, hidden: Tensor, anchors: Mapping[str, tuple[Tensor, Tensor]]
    ) -> Tensor:
        """[n, A] for the alternatives of one decision."""
        if decision.kind == "source":
            logits = self._attend([anchors[node][0] for node in decision.alternatives], hidden)
        elif decision.kind == "skip":
            score = self._attend([anchors[decision.alternatives[1]][0]], hidden)
            logits = torch.cat([-score, score], dim=1)
        else:
            logits = hidden @ self.softmax[decision.vocabulary] + self.bias[decision.vocabulary]
        if decision.kind in self.temperature:
            logits = logits / self.temperature[decision.kind]
        if decision.kind in self.bound:
            logits = self.bound[decision.kind] * torch.tanh(logits)
        prior = self._prior[place]
        return logits if prior is None else logits + prior.to(logits)

    def _attend(self, keys: Sequence[Tensor], hidden: Tensor) -> Tensor:
        query = (hidden @ self.attention_query).unsqueeze(1)
        return (torch.tanh(torch.stack(list(keys), dim=1) + query) @ self.attention_value).squeeze(2)

    def _advance(self, given: Tensor, cell: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """One step of an LSTM without biases: (cell, hidden), each [n, H]."""
        gates = torch.cat([given, hidden], dim=1) @ self.recurrent
        take, forget, show, content = gates.chunk(4, dim=1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(take) * torch.tanh(content)
        return cell, torch.sigmoid(show) * torch.tanh(cell)


def _nodes(step: Sequence[tuple[int, Decision]]) -> list[str]:
    """The nodes that the sources and skips of one step can point to, in order."""
    names: dict[str, None] = {}
    for _, decision in step:
        if decision.kind == "source":
            names.update(dict.fromkeys(decision.alternatives))
        elif decision.kind == "skip":
            names[decision.alternatives[1]] = None
    return list(names)


def _sample(log_softmax: Tensor, generator: torch.Generator) -> Tensor:
    """One alternative for each row [n, A] -> [n]: the first of exponential arrivals with these rates."""
    arrivals = torch.empty_like(log_softmax).exponential_(generator=generator)
    return (log_softmax - arrivals.log()).argmax(dim=1)


def _prior_of(decision: Decision, prior: Mapping[str, Sequence[float]]) -> Tensor | None:
    total = None
    for pattern, values in prior.items():
        if fnmatch(decision.name, pattern):
            if len(values) != len(decision.alternatives):
                expected = len(decision.alternatives)
                raise UserError(f"strategy.prior.{pattern}={list(values)}: {decision.name} needs {expected} values")
            added = torch.tensor(list(values), dtype=torch.float32)
            total = added if total is None else total + added
    return total
