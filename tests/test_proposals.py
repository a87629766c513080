"""Rows held against the limits, and their count."""

import pytest
import torch

from conformance import SCALE, generator
from enas.phases import Phases
from enas.plan import Limits
from enas.proposals import Proposals
from enas.space import NasBench201

SPACE = NasBench201()
PHASES = Phases(torch.device("cpu"))


def test_without_limits_every_row_passes() -> None:
    proposals = Proposals(SPACE, Limits(SCALE), PHASES)
    assert torch.equal(proposals.make(SPACE.random, 5, generator(1)), SPACE.random(5, generator(1)))
    assert proposals.rejected == 0


def test_rejected_rows_are_counted_until_the_next_start() -> None:
    limit = int(SPACE.cost(SPACE.random(100, generator()), SCALE).params.median())
    proposals = Proposals(SPACE, Limits(SCALE, params=limit), PHASES)
    assert proposals.rejected == 0
    rows = proposals.make(SPACE.random, 50, generator(1))
    assert (SPACE.cost(rows, SCALE).params <= limit).all()
    assert proposals.rejected == pytest.approx(0.5, abs=0.2)
    other = Proposals(SPACE, Limits(SCALE, params=limit), PHASES)
    other.load_state_dict(proposals.state_dict())
    assert other.rejected == proposals.rejected
    proposals.restart()
    assert proposals.rejected == 0
