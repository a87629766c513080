"""From the decisions of a space to the program of its policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from itertools import groupby

from enas.errors import UserError
from enas.kernels.recurrent import SKIP, SOFTMAX, SOURCE, Choice, Program, Step
from enas.space import Decision, SearchSpace


def vocabularies(space: SearchSpace) -> dict[str, int]:
    """The vocabularies that are chosen from by a softmax, and the number of their words."""
    softmaxes = [decision for decision in space.decisions if decision.kind not in ("source", "skip")]
    return {decision.vocabulary: len(decision.alternatives) for decision in softmaxes}


def compile_program(
    space: SearchSpace,
    temperature: Mapping[str, float],
    bound: Mapping[str, float],
    prior: Mapping[str, Sequence[float]],
    skip_target: float = 0.0,
) -> Program:
    """The steps of the LSTM for all decisions in sampling order; see `Controller` for the settings.

    A decision takes a step; decisions of one `step` share it. When a node is finished, one more step makes its anchor;
    a node that no decision builds gets its key from a step on the start embedding and a zero anchor, right before it
    is first pointed to. Raises UserError for a prior that does not fit the decisions it is for, or fits none.
    """
    for pattern in prior:
        if not any(fnmatch(decision.name, pattern) for decision in space.decisions):
            raise UserError(f"strategy.prior.{pattern}: no decision of space {space.name} has such a name")
    words, first = {}, 0
    for vocabulary, size in vocabularies(space).items():
        words[vocabulary], first = first, first + size
    ordered = [(place, space.decisions[place]) for place in space.sampling_order]
    pointed = {node for decision in space.decisions for node in _nodes(decision)}
    kinds = {"source": SOURCE, "skip": SKIP}

    steps: list[Step] = []
    choices: list[Choice] = []
    numbers: dict[str, int] = {}  # of the nodes that have a key
    queries, deciding = 0, -1
    owner: str | None = None

    def read() -> bool:
        """Whether the next step reads the start embedding; else it reads what the deciding step chose."""
        nonlocal deciding
        if deciding < 0:
            return True
        steps[deciding] = steps[deciding]._replace(consumer=len(steps))
        deciding = -1
        return False

    for _, group in groupby(ordered, key=lambda item: item[1].step):
        taken = list(group)
        decisions = [decision for _, decision in taken]
        if pointed and owner is not None and decisions[0].owner != owner:
            if owner in pointed:
                numbers[owner] = len(numbers)
            steps.append(Step(read(), numbers.get(owner, -1), True, -1, 0, 0, -1))
        owner = decisions[0].owner
        for node in dict.fromkeys(node for decision in decisions for node in _nodes(decision)):
            if node not in numbers:
                numbers[node] = len(numbers)
                steps.append(Step(True, numbers[node], False, -1, 0, 0, -1))
        attends = any(decision.kind in kinds for decision in decisions)
        steps.append(Step(read(), -1, False, queries if attends else -1, len(choices), len(taken), -1))
        queries, deciding = queries + attends, len(steps) - 1
        for place, decision in taken:
            choices.append(
                Choice(
                    place,
                    kinds.get(decision.kind, SOFTMAX),
                    words.get(decision.vocabulary, 0) if decision.kind not in kinds else 0,
                    tuple(numbers[node] for node in _nodes(decision)),
                    _prior_of(decision, prior),
                    float(temperature.get(decision.kind, 1.0)),
                    float(bound.get(decision.kind, 0.0)),
                    skip_target if decision.kind == "skip" else 0.0,
                )
            )
    return Program(tuple(steps), tuple(choices))


def _nodes(decision: Decision) -> tuple[str, ...]:
    """The nodes that a source or a skip can point to."""
    return {"source": decision.alternatives, "skip": decision.alternatives[1:]}.get(decision.kind, ())


def _prior_of(decision: Decision, prior: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
    total = [0.0] * len(decision.alternatives)
    for pattern, values in prior.items():
        if fnmatch(decision.name, pattern):
            if len(values) != len(total):
                raise UserError(f"strategy.prior.{pattern}={list(values)}: {decision.name} needs {len(total)} values")
            total = [one + other for one, other in zip(total, values, strict=True)]
    return tuple(total)
