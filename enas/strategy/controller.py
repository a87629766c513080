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
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from enas import kernels
from enas.errors import UserError
from enas.kernels import Tables
from enas.space import SearchSpace
from enas.space.base import Kind
from enas.strategy.program import compile_program, vocabularies


class Policy(NamedTuple):
    """Rows [n, D] and what the controller thinks of them, scores [3, n]."""

    choices: Tensor
    scores: Tensor

    @property
    def log_probability(self) -> Tensor:
        """[n], in nats."""
        return self.scores[0]

    @property
    def entropy(self) -> Tensor:
        """[n], summed over the softmaxes of all decisions, in nats."""
        return self.scores[1]

    @property
    def skip_divergence(self) -> Tensor:
        """[n], of the skips from `skip_target`: the sum of KL(policy || target) over all skips, in nats."""
        return self.scores[2]


class Controller(nn.Module):
    """See the module. Shapes: H = `hidden`, n rows.

    temperature   kind -> logits are divided by it
    bound         kind -> logits become bound * tanh(logits), after the temperature
    initial_bias  vocabulary -> starting values of the trained bias of its softmax
    prior         pattern of decision names -> values added to the logits at the end, never trained
    skip_target   how often a skip is to be taken; 0 for no wish

    Raises UserError for an unknown kind, for a temperature or bound not above 0, for a target that is no probability
    below 1, and where a bias does not fit the decisions it is for, or fits none.
    """

    _steps: Tensor
    _choices: Tensor
    _numbers: Tensor

    def __init__(
        self,
        space: SearchSpace,
        hidden: int,
        temperature: Mapping[str, float],
        bound: Mapping[str, float],
        initial_bias: Mapping[str, Sequence[float]],
        prior: Mapping[str, Sequence[float]],
        generator: torch.Generator,
        skip_target: float = 0.0,
    ):
        super().__init__()
        for key, by_kind in (("temperature", temperature), ("bound", bound)):
            for kind, value in by_kind.items():
                if kind not in get_args(Kind) or not isinstance(value, int | float) or not value > 0:
                    allowed = f"a number above 0 for {', '.join(get_args(Kind))}"
                    raise UserError(f"strategy.{key}.{kind}={value}: allowed is {allowed}")
        if not 0 <= skip_target < 1:
            raise UserError(
                f"strategy.skip_target={skip_target}: allowed is more than 0, or 0 for none, and less than 1"
            )
        self.space, self.hidden = space, hidden
        sizes = vocabularies(space)
        self.program = compile_program(space, temperature, bound, prior, skip_target)
        for name, table in zip(Tables._fields, self.program.tables(), strict=True):
            self.register_buffer(f"_{name}", table, persistent=False)

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

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` rows from the policy, int64 [count, D]; the generator lives on the controller's device."""
        shape = (count, len(self.program.choices), self.program.alternatives)
        arrivals = self.start.new_empty(shape).exponential_(generator=generator)
        with torch.no_grad():
            _, choices = self._walk(self._choices.new_zeros(shape[:2], dtype=torch.int64), -arrivals.log())
        return choices

    def evaluate(self, choices: Tensor) -> Policy:
        """Log-probability and entropy of given rows [n, D], with gradients."""
        scores, choices = self._walk(choices, None)
        return Policy(choices, scores)

    def _walk(self, choices: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        weights = kernels.PolicyWeights(
            self.recurrent,
            self.attention_key,
            self.attention_query,
            self.attention_value,
            torch.cat([self.start, *self.embedding.values()]),
            _join(self.softmax, self.start.new_zeros(self.hidden, 0)).t(),
            _join(self.bias, self.start.new_zeros(0)),
        )
        active = self.space.active if self.space.conditional else None
        tables = Tables(self._steps, self._choices, self._numbers)
        return kernels.policy(weights, self.program, tables, choices, noise, active)


def _join(vocabularies: nn.ParameterDict, nothing: Tensor) -> Tensor:
    """The weights of all vocabularies side by side; `nothing` where there are none."""
    weights = [nothing, *vocabularies.values()]
    return weights[-1] if len(weights) <= 2 else torch.cat(weights, dim=-1)
