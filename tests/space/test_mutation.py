"""How often a mutation picks each decision, where it is published as a choice in steps."""

from collections.abc import Mapping

import pytest
import torch

from conformance import generator
from enas.space import Amoeba, Darts, Hierarchical, NasNet, Pnas, SearchSpace
from enas.space.mutation import stepwise
from tolerances import assert_same, probability


def test_every_step_is_uniform_among_what_is_left() -> None:
    steps = [("a", "x"), ("a", "y"), None, ("b", "x", "1"), ("b", "x", "2"), ("b", "x", "3"), ("c", "z")]
    expected = [1 / 6, 1 / 6, 0, 1 / 9, 1 / 9, 1 / 9, 1 / 3]
    assert_same(stepwise(steps), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        # Cell, then what a node reads or does, then the node, then its side.
        (Amoeba(3), {f"normal/node{node}/{side}/{kind}": 1 / 24 for node in (2, 3, 4) for side, kind in [
            ("left", "source"), ("left", "operation"), ("right", "source"), ("right", "operation")]}),
        (Pnas(2), {"cell/node2/left/source": 1 / 8, "cell/node3/right/operation": 1 / 8}),
        (NasNet(2), {"reduction/node2/left/source": 1 / 16, "reduction/node3/left/operation": 1 / 24,
                     "reduction/node3/join": 1 / 24}),
        # The first node reads both inputs in any case.
        (Darts(4), {"normal/node2/sources": 0.0, "normal/node3/sources": 1 / 12,
                    "normal/node5/left/operation": 1 / 32}),
        (Darts(1), {"normal/node2/sources": 0.0, "normal/node2/left/operation": 1 / 4}),
        # Level, then motif, then node, then the node it reads.
        (Hierarchical(), {"cell/node1/node0": 1 / 8, "cell/node4/node2": 1 / 32, "motif3/node1/node0": 1 / 36,
                          "motif6/node3/node1": 1 / 108}),
        (Hierarchical(motifs=0, nodes=11), {"cell/node1/node0": 1 / 10, "cell/node10/node2": 1 / 100}),
    ],
    ids=["amoeba", "pnas", "nasnet", "darts", "darts-1", "hierarchical", "hierarchical-flat"],
)  # fmt: skip
def test_published_mutations(space: SearchSpace, expected: Mapping[str, float]) -> None:
    picked = space.picked()
    assert_same(picked.sum(), torch.ones((), dtype=torch.float64))
    for name, share in expected.items():
        place = next(place for place, decision in enumerate(space.decisions) if decision.name == name)
        assert_same(picked[place], torch.tensor(share, dtype=torch.float64))


@pytest.mark.parametrize("space", [NasNet(2), Darts(2), Hierarchical()], ids=["nasnet", "darts", "hierarchical"])
def test_decisions_mutate_as_often_as_they_are_picked(space: SearchSpace) -> None:
    draws = 10_000
    row = space.random(1, generator()).expand(draws, -1)
    changed = (space.mutate(row, generator(1)) != row).double().mean(dim=0)
    assert float((changed - space.picked()).abs().max()) < probability(draws)
    assert (changed > 0).equal(space.picked() > 0)
