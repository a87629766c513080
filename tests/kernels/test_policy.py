"""The native policy against its definition, in the types it is used in, and what it does with rows that are none."""

from typing import Any

import pytest
import torch
from torch import Tensor

from conformance import Growing
from enas import kernels
from enas.kernels import native
from enas.kernels.recurrent import PolicyWeights
from enas.space import EnasMicro
from kernels.native_cases import ON_DEVICE, normal
from kernels.policy_cases import PLAIN, POLICIES, SETTINGS, PolicyCase
from strategy.written_out import Skipping
from tolerances import assert_near, assert_same

NAMED = pytest.mark.parametrize("case", POLICIES, ids=lambda case: case.name)
TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def evaluate(case: PolicyCase, dtype: torch.dtype, rows: slice | None = None) -> list[Tensor]:
    """Scores of the native policy for some of the rows, and the gradients of all weights."""
    leaves = [weight.to(dtype).requires_grad_() for weight in case.weights()]
    choices, gradient = case.choices(), normal(3, case.rows, seed=4).to(dtype)
    if rows is not None:
        choices, gradient = choices[rows], gradient[:, rows]
    scores, chosen = native.policy(
        PolicyWeights(*leaves), case.program, case.program.tables(), choices, None, case.active
    )
    assert torch.equal(chosen, choices)
    return [scores.detach(), *torch.autograd.grad(scores, leaves, gradient)]


@TYPES
@NAMED
def test_given_rows(case: PolicyCase, dtype: torch.dtype) -> None:
    leaves = [weight.to(dtype).double().requires_grad_() for weight in case.weights()]
    scores, _ = case.definition(leaves, case.choices())
    gradients = torch.autograd.grad(scores, leaves, normal(3, case.rows, seed=4), materialize_grads=True)
    for one, other in zip(evaluate(case, dtype), [scores.detach(), *gradients], strict=True):
        assert one.dtype == dtype
        assert one.shape == other.shape
        if dtype == torch.float64:
            assert_same(one, other)
        else:
            assert_near(one, other, dtype)


@TYPES
@pytest.mark.parametrize("space", [EnasMicro(1), EnasMicro(5), Skipping()], ids=["one node", "five nodes", "skips"])
@pytest.mark.parametrize("settings", [PLAIN, SETTINGS], ids=["plain", "settings"])
def test_sampled_rows(space: Any, settings: Any, dtype: torch.dtype) -> None:
    case = PolicyCase(space, 12, 9, settings)
    weights, noise = [weight.to(dtype) for weight in case.weights()], case.noise().to(dtype)
    given = torch.full_like(case.choices(), 99)
    found, rows = native.policy(PolicyWeights(*weights), case.program, case.program.tables(), given, noise)
    expected, same = case.definition([weight.double() for weight in weights], given, noise.double())
    assert torch.equal(rows, same)
    assert_same(found, expected.to(dtype))
    assert len(rows.unique(dim=0)) > 1


def test_where_decisions_take_no_part_rows_are_sampled_by_the_reference() -> None:
    case = PolicyCase(Growing(), 4, 50)
    weights, tables = PolicyWeights(*case.weights()), case.program.tables()
    with pytest.raises(AssertionError):
        native.policy(weights, case.program, tables, case.choices(), case.noise(), case.active)
    scores, rows = kernels.policy(weights, case.program, tables, case.choices(), case.noise(), case.active)
    assert case.space.legal(rows).all()
    assert_same(kernels.policy(weights, case.program, tables, rows, None, case.active)[0], scores)


def test_no_bit_of_a_policy_depends_on_the_number_of_threads() -> None:
    case = PolicyCase(EnasMicro(2), 20, 23)
    alone = evaluate(case, torch.float32)
    for threads in (2, 3, 5):
        torch.set_num_threads(threads)
        for one, other in zip(evaluate(case, torch.float32), alone, strict=True):
            assert torch.equal(one, other)


@NAMED
def test_no_bit_of_a_row_depends_on_the_others(case: PolicyCase) -> None:
    together = evaluate(case, torch.float32)[0]
    for row in range(case.rows):
        assert torch.equal(evaluate(case, torch.float32, slice(row, row + 1))[0][:, 0], together[:, row])


@pytest.mark.parametrize("choice", [-1, 5])
def test_a_choice_that_is_none_of_the_alternatives(choice: int) -> None:
    case = PolicyCase(EnasMicro(1), 4, 3)
    rows = case.choices()
    rows[1, 3] = choice
    weights, tables = PolicyWeights(*case.weights()), case.program.tables()
    if not ON_DEVICE:
        with pytest.raises(RuntimeError, match="none of the alternatives"):
            native.policy(weights, case.program, tables, rows)
        return
    scores, _ = native.policy(weights, case.program, tables, rows)  # nobody waits to hear of it
    assert scores[0].isnan().tolist() == [False, True, False]


@TYPES
def test_what_is_not_a_number_stays_so(dtype: torch.dtype) -> None:
    case = PolicyCase(EnasMicro(1), 4, 3)
    for place in range(len(PolicyWeights._fields)):
        weights = [weight.to(dtype) for weight in case.weights()]
        weights[place].fill_(float("nan"))
        made = PolicyWeights(*weights)
        scores, _ = native.policy(made, case.program, case.program.tables(), case.choices())
        assert scores[:2].isnan().all()
        assert (scores[2] == 0).all()  # it has no skips
        _, rows = native.policy(made, case.program, case.program.tables(), case.choices(), case.noise().to(dtype))
        assert case.space.legal(rows).all()


@pytest.mark.parametrize(
    ("place", "shape", "said"),
    [
        (0, (8, 15), "recurrent must be"),
        (1, (5, 4), "recurrent must be|key must be"),
        (2, (4, 5), "query must be"),
        (3, (4, 2), "value must be"),
        (4, (5, 4), "inputs must be"),
        (5, (5, 3), "softmax must be"),
        (6, (4,), "bias must be"),
    ],
)
def test_weights_of_a_wrong_shape_are_refused(place: int, shape: tuple[int, ...], said: str) -> None:
    arguments = list(PolicyCase(EnasMicro(1), 4, 3).arguments(torch.float64))
    arguments[place] = torch.zeros(shape, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=said):
        torch.ops.enas.policy(*arguments)
    arguments[place] = torch.zeros(shape, dtype=torch.float32)
    with pytest.raises(RuntimeError, match=r"one type|recurrent"):
        torch.ops.enas.policy(*arguments)
