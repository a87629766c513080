"""Rows within limits: drawn until there are enough, and never for ever."""

import pytest
import torch
from synchronisation import refuse_synchronisation
from torch import Tensor

from enas.errors import UserError
from enas.strategy import propose


class Draws:
    """Numbers counted upwards, as rows of one integer."""

    def __init__(self) -> None:
        self.calls = 0
        self.drawn = 0

    def __call__(self, count: int) -> Tensor:
        self.calls += 1
        rows = torch.arange(self.drawn, self.drawn + count)[:, None]
        self.drawn += count
        return rows


def test_without_limits_one_draw_is_enough() -> None:
    draw = Draws()
    rows, drawn, rejected = propose(draw, 5, lambda rows: torch.ones(len(rows), dtype=torch.bool))
    assert rows.flatten().tolist() == [0, 1, 2, 3, 4]
    assert (draw.calls, drawn, rejected) == (1, 5, 0)


def test_accepted_rows_come_in_the_order_they_were_drawn() -> None:
    draw = Draws()
    rows, drawn, rejected = propose(draw, 4, lambda rows: rows[:, 0] % 3 == 0)
    assert rows.flatten().tolist() == [0, 3, 6, 9]
    assert (draw.drawn, drawn, rejected) == (12, 12, 8)


def test_the_last_round_counts() -> None:
    draw = Draws()
    rows, drawn, rejected = propose(draw, 2, lambda rows: rows[:, 0] >= 4, rounds=3)
    assert rows.flatten().tolist() == [4, 5]
    assert (draw.calls, drawn, rejected) == (3, 6, 4)


def test_impossible_limits_end_in_one_sentence() -> None:
    draw = Draws()
    with pytest.raises(UserError, match=r"limit\.params and limit\.macs .* of 50 sampled rows only 3 passed") as caught:
        propose(draw, 5, lambda rows: rows[:, 0] < 3, rounds=10)
    assert draw.calls == 10
    assert "\n" not in str(caught.value)


def test_where_all_rows_pass_nobody_counts_them() -> None:
    draw = Draws()
    with refuse_synchronisation():
        rows, drawn, rejected = propose(draw, 5, None)
    assert rows.flatten().tolist() == [0, 1, 2, 3, 4]
    assert (draw.calls, drawn, rejected) == (1, 5, 0)
