"""The program of a controller: its steps, and what they read."""

import pytest
import torch

from conformance import Growing
from enas.errors import UserError
from enas.kernels.recurrent import SKIP, SOFTMAX, SOURCE, Choice, Step
from enas.space import EnasMacro, EnasMicro
from enas.space.enas_macro import slot_name
from enas.strategy.program import compile_program, vocabularies
from strategy.written_out import Skipping

INPUT0, INPUT1 = Step(True, 0, False, -1, 0, 0, -1), Step(True, 1, False, -1, 0, 0, -1)


def test_one_cell_after_the_other() -> None:
    program = compile_program(
        EnasMicro(1), {"source": 5.0}, {"operation": 0.5}, {"normal/*/operation": [1, 2, 3, 4, 5]}
    )
    assert program.steps == (
        INPUT0,
        INPUT1,
        Step(True, -1, False, 0, 0, 1, 3),
        Step(False, -1, False, 1, 1, 1, 4),
        Step(False, -1, False, -1, 2, 1, 5),
        Step(False, -1, False, -1, 3, 1, 6),
        Step(False, -1, True, -1, 0, 0, -1),  # the node is finished; nobody points to it
        Step(True, 2, False, -1, 0, 0, -1),
        Step(True, 3, False, -1, 0, 0, -1),
        Step(True, -1, False, 2, 4, 1, 10),
        Step(False, -1, False, 3, 5, 1, 11),
        Step(False, -1, False, -1, 6, 1, 12),
        Step(False, -1, False, -1, 7, 1, -1),
    )
    assert [choice.place for choice in program.choices] == [0, 2, 1, 3, 4, 6, 5, 7]
    assert program.choices[1] == Choice(2, SOURCE, 0, (0, 1), (0.0, 0.0), 5.0, 0.0)
    assert program.choices[2] == Choice(1, SOFTMAX, 0, (), (1.0, 2.0, 3.0, 4.0, 5.0), 1.0, 0.5)
    assert program.choices[6] == Choice(5, SOFTMAX, 0, (), (0.0,) * 5, 1.0, 0.5)
    assert (program.nodes, program.queries, program.alternatives) == (4, 4, 5)


def test_the_published_space_takes_53_steps() -> None:
    program = compile_program(EnasMicro(5), {}, {}, {})
    assert len(program.steps) == 53
    assert (program.nodes, program.queries, program.alternatives) == (12, 20, 6)
    assert [step.node for step in program.steps if step.anchor] == [2, 3, 4, 5, -1, 8, 9, 10, 11]


def test_skips_share_a_step() -> None:
    program = compile_program(Skipping(), {}, {}, {})
    assert [(step.first, step.length, step.query) for step in program.steps if step.length] == [
        (0, 1, -1), (1, 1, -1), (2, 1, 0), (3, 1, -1), (4, 2, 1),
    ]  # fmt: skip
    assert [choice.nodes for choice in program.choices if choice.kind == SKIP] == [(0,), (0,), (1,)]


def test_a_target_is_for_skips_alone() -> None:
    program = compile_program(Growing(), {}, {}, {}, skip_target=0.25)
    assert {choice.kind: choice.target for choice in program.choices} == {SOFTMAX: 0.0, SOURCE: 0.0, SKIP: 0.25}
    skip = next(number for number, choice in enumerate(program.choices) if choice.kind == SKIP)
    assert program.tables().numbers[skip].tolist() == [1.0, 0.0, 0.25, 0.0, 0.0, 0.0, 0.0]


def test_the_macro_controller_looks_at_the_layers_that_skips_name() -> None:
    """Bit j of a layer is slot j in the network, and the key that the controller looks at is that of the same slot."""
    space = EnasMacro(5)
    program = compile_program(space, {}, {}, {})
    keys = {}
    for number, step in enumerate(program.steps):
        if step.node >= 0 and step.anchor:  # it follows the decisions of the layer it is the anchor of
            taken = program.steps[number - 1]
            keys[step.node] = space.decisions[program.choices[taken.first].place].owner
        elif step.node >= 0:
            keys[step.node] = "stem"
    sources = space.route(torch.zeros(1, len(space.decisions), dtype=torch.int64))[0, :, 0].tolist()
    skips = [choice for choice in program.choices if choice.kind == SKIP]
    assert len(skips) == 10
    for choice in skips:
        named = space.decisions[choice.place].alternatives[1]
        assert keys[choice.nodes[0]] == named == slot_name(sources[choice.place])


def test_vocabularies_follow_one_another() -> None:
    space = Growing()
    assert vocabularies(space) == {"width": 2, "combine": 2, "operation": 4}
    words = {
        space.decisions[choice.place].vocabulary: choice.word
        for choice in compile_program(space, {}, {}, {}).choices
        if choice.kind == SOFTMAX
    }
    assert words == {"width": 0, "combine": 2, "operation": 4}


def test_tables_are_filled_up() -> None:
    tables = compile_program(EnasMicro(1), {"source": 2.0}, {"source": 3.0}, {"*/source": [0.5, 0.25]}).tables()
    assert tables.steps.shape == (13, 7)
    assert tables.choices[0].tolist() == [0, SOURCE, 2, 0, 0, 1, 0, 0, 0]
    assert tables.numbers[0].tolist() == [2.0, 3.0, 0.0, 0.5, 0.25, 0.0, 0.0, 0.0]


def test_a_prior_that_fits_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"strategy\.prior\.left: no decision"):
        compile_program(EnasMicro(1), {}, {}, {"left": [1.0]})
    with pytest.raises(UserError, match="needs 2 values"):
        compile_program(EnasMicro(1), {}, {}, {"*/source": [1.0]})
