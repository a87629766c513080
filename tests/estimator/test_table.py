"""Rows judged by a table: the signal is the value, nothing is drawn, the outcome stays apart."""

import pytest
import torch

from conformance import generator, toy_data, toy_table, toy_text
from enas.errors import UserError
from enas.estimator import Table
from enas.space import EnasMicro, NasBench201

SPACE, TABLE = NasBench201(), toy_table()
ROWS = SPACE.random(6, generator())


def test_a_row_is_worth_its_signal_whatever_is_drawn() -> None:
    estimator = Table(SPACE, TABLE)
    estimator.step = 3
    draw = generator()
    state = draw.get_state()
    found = estimator.estimate(ROWS, draw)
    assert torch.equal(draw.get_state(), state)
    assert torch.equal(found.choices, ROWS)
    assert torch.equal(found.value, TABLE.signal(ROWS))
    assert torch.equal(found.metrics["accuracy"], found.value)
    assert torch.equal(found.error, torch.zeros(6, dtype=torch.float64))
    assert (found.images, found.step, found.budget) == (0, 3, 1.0)
    assert torch.equal(estimator.estimate(ROWS[2:3]).value, found.value[2:3])
    assert torch.equal(estimator.outcome(ROWS)[TABLE.outcome_label], TABLE.outcome(ROWS))
    assert estimator.label == "toy signal"


def test_another_space_and_data_that_are_no_table_are_refused() -> None:
    with pytest.raises(UserError, match="space=enas_micro: the table toy table knows rows of space=nasbench201 alone"):
        Table(EnasMicro(), TABLE)
    for data in (toy_data(), toy_text()):
        with pytest.raises(UserError, match="estimator=table: it needs a table of results, and the toy data is"):
            Table(SPACE, data)  # type: ignore[arg-type]
