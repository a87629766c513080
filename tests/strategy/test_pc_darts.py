"""PC-DARTS: edges of a node share a weight of one, and alpha waits."""

from itertools import groupby
from typing import Any

import pytest
import torch

from conformance import generator
from enas.errors import UserError
from enas.space import Darts, NasBench201
from enas.strategy import PcDarts


@pytest.mark.parametrize("space", [Darts(), NasBench201()], ids=["darts", "nasbench201"])
def test_the_edges_of_a_node_share_one(space: Any) -> None:
    strategy = PcDarts(space, initial=1.0)
    edges = strategy.mixing(generator(), 0.5).sum(dim=1)
    first = 0
    for _, group in groupby(space.edges, key=lambda edge: edge.node):
        count = len(list(group))
        assert edges[first : first + count].sum().item() == pytest.approx(1.0)
        beta = strategy.learned["beta"][first : first + count]
        torch.testing.assert_close(edges[first : first + count], beta.softmax(dim=0))
        first += count
    assert first == len(space.edges)


def test_a_mixing_is_both_softmaxes() -> None:
    strategy = PcDarts(NasBench201(), initial=1.0)
    beta = strategy.learned["beta"]
    expected = strategy.alpha[4].softmax(dim=0) * beta[3:6].softmax(dim=0)[1]  # node 3 from node 1
    torch.testing.assert_close(strategy.mixing(generator(), 0.5)[4], expected)


def test_edges_are_derived_by_both() -> None:
    """Equal operations: of the three edges of a node the two of the largest beta are kept."""
    space = Darts(2)
    strategy = PcDarts(space, initial=0.0)
    for kept, dropped in (((0, 1), 4), ((0, 2), 3), ((1, 2), 2)):
        strategy.learned["beta"].data.zero_()[dropped] = -1.0
        row = strategy.derive(1, generator())[0].tolist()
        sources = next(d for d in space.decisions if d.name == "normal/node3/sources").alternatives
        names = [("input0", "input1", "node2")[slot] for slot in kept]
        assert sources[row[3]] == "+".join(names)


def test_alpha_waits_for_its_share_of_the_training() -> None:
    strategy = PcDarts(NasBench201())
    assert [strategy.learns(progress) for progress in (0.0, 0.29, 0.3, 1.0)] == [False, False, True, True]


@pytest.mark.parametrize("settings", [{"channels": 0}, {"frozen": 1.0}, {"frozen": -0.1}])
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    ((key, value),) = settings.items()
    with pytest.raises(UserError, match=rf"strategy\.{key}={value}: allowed is"):
        PcDarts(NasBench201(), **settings)
