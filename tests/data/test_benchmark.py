"""A benchmark's table: it answers for the rows it has, and says so of those it does not have."""

from dataclasses import replace

import pytest
import torch

from conformance import generator
from enas.data import Benchmark
from enas.data.nasbench201 import number
from enas.errors import UserError
from enas.space import EnasMicro, NasBench201, Scale

SPACE = NasBench201()
ROWS = SPACE.random(6, generator())
KEYS, ORDER = number(ROWS).sort()
TABLE = Benchmark(
    name="some rows",
    space="nasbench201",
    scale=Scale(5, 16, 32, 32, 3, 10),
    key=number,
    keys=KEYS,
    signals=torch.linspace(0.1, 0.6, 6, dtype=torch.float64)[ORDER],
    outcomes=torch.linspace(0.9, 0.4, 6, dtype=torch.float64)[ORDER],
    costs=None,
    signal_label="signal",
    outcome_label="outcome",
)


def test_each_row_gets_what_belongs_to_it() -> None:
    torch.testing.assert_close(TABLE.signal(ROWS), torch.linspace(0.1, 0.6, 6, dtype=torch.float64))
    torch.testing.assert_close(TABLE.outcome(ROWS[[4, 4]]), torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert TABLE.seconds(ROWS) is None
    costs = torch.arange(6, dtype=torch.float64)
    found = replace(TABLE, costs=costs[ORDER]).to("cpu").seconds(ROWS)
    assert found is not None
    assert torch.equal(found, costs)


def test_a_row_that_is_not_in_it_is_named() -> None:
    for row in ([0] * 6, [4] * 6):  # before the first and after the last of the keys
        with pytest.raises(UserError, match=rf"some rows has no entry for the row \[{row[0]}, .*\]$"):
            TABLE.signal(torch.cat([ROWS, torch.tensor([row])]))


def test_another_space_and_storage_are_refused() -> None:
    TABLE.check(SPACE)
    with pytest.raises(UserError, match="space=enas_micro: the table some rows knows rows of space=nasbench201"):
        TABLE.check(EnasMicro())
    assert TABLE.stored_as(torch.float32) is TABLE
    with pytest.raises(UserError, match="precision=bf16: a table has no images"):
        TABLE.stored_as(torch.bfloat16)


def test_it_answers_what_commands_ask_of_data() -> None:
    assert (TABLE.material, TABLE.unit, TABLE.documents()) == ("table", "evaluations", {})
    assert TABLE.extents == (32, 32, 3, 10)
    assert TABLE.to("cpu").device == torch.device("cpu")
