"""Detecting collapse: shares among active decisions, against those of uniform rows."""

import pytest
import torch

from conformance import SPACES, generator
from enas.collapse import CollapseDetector
from enas.space import Chain, Darts, EnasMicro, EnasRnn, NasBench201

NONE, SKIP, CONVOLUTION, POOL = 0, 1, 3, 4


@pytest.mark.parametrize("name", SPACES)
def test_uniform_rows_never_collapse(name: str) -> None:
    space = SPACES[name]
    seen = CollapseDetector(space).look(space.random(60, generator(1)))
    assert seen.warning is None
    assert 0 <= seen.skip_share <= 1
    assert 0 <= seen.none_share <= 1


def test_shares_are_those_of_the_chosen_operations() -> None:
    rows = torch.tensor([[SKIP, SKIP, NONE, CONVOLUTION, POOL, CONVOLUTION], [SKIP] + [CONVOLUTION] * 5])
    seen = CollapseDetector(NasBench201()).look(rows)
    assert seen.skip_share == pytest.approx(3 / 12)
    assert seen.none_share == pytest.approx(1 / 12)
    assert seen.warning is None


def test_skips_that_dominate_are_warned_of_in_one_sentence() -> None:
    """By chance they are 0.2 of the operations: more than 0.6 are too many."""
    detector = CollapseDetector(NasBench201())
    assert detector.look(torch.tensor([[SKIP] * 3 + [CONVOLUTION] * 3])).warning is None
    seen = detector.look(torch.tensor([[SKIP] * 5 + [CONVOLUTION]]))
    assert seen.warning is not None
    assert seen.warning.startswith("the search collapses: skip connections make 83 % of the operations it chooses, of ")
    assert "\n" not in seen.warning


def test_none_that_dominates_is_warned_of_too_and_both_together() -> None:
    detector = CollapseDetector(NasBench201())
    none = detector.look(torch.tensor([[NONE] * 5 + [CONVOLUTION]])).warning
    both = detector.look(torch.tensor([[NONE] * 3 + [SKIP] * 3])).warning
    assert none is not None
    assert "the operation none make" in none
    assert both is not None
    assert "skip connections and none together make 100 %" in both


def test_the_identity_of_a_cell_is_a_skip() -> None:
    for space in (Darts(), EnasMicro()):
        places = [place for place, decision in enumerate(space.decisions) if decision.kind == "operation"]
        row = space.random(1, generator())
        row[0, places] = space.decisions[places[0]].alternatives.index("identity")
        seen = CollapseDetector(space).look(row)
        assert seen.skip_share == 1.0
        assert seen.warning is not None


def test_inactive_decisions_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of three layers is absent, so that nothing is decided about the third."""
    monkeypatch.setattr("enas.collapse.SKIPS", {"absent"})
    space = SPACES["growing"]
    row = torch.zeros(1, len(space.decisions), dtype=torch.int64)
    operations = [place for place, decision in enumerate(space.decisions) if decision.kind == "operation"]
    row[0, operations[0]] = 1
    assert CollapseDetector(space).look(row).skip_share == 0.5


@pytest.mark.parametrize("space", [Chain(4), EnasRnn(3)], ids=["chain", "enas_rnn"])
def test_a_space_without_skips_among_its_operations_never_collapses(space: Chain | EnasRnn) -> None:
    rows = torch.full((3, len(space.decisions)), 0)
    assert CollapseDetector(space).look(space.repair(rows)) == (0.0, 0.0, None)
