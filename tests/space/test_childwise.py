"""Networks computed child by child: statistics of children that differ, and rows that a child keeps."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from conformance import generator
from enas.space import Network, Noise
from enas.space.childwise import ChildwiseNetwork, WeightRows
from enas.space.layers import Norms, batch_norm
from tolerances import assert_same


class Toy(ChildwiseNetwork):
    """A child is one number of channels, which are normed; odd children norm them twice."""

    def __init__(self, routes: Tensor | None = None):
        super().__init__(routes)
        rows = [0, 1, 2] if routes is None else [int(routes[0, 0, 2])]
        self.weights = WeightRows(rows, {"weight": ((3,), 3)}, 0, generator(len(rows)))
        self.other = torch.nn.Linear(1, 1)

    def compute(self, inputs: Tensor, routes: Sequence[Sequence[int]], norms: Norms, noise: Noise | None) -> Tensor:
        [[channels, twice, row]] = routes
        x = inputs[..., :channels]
        for place in range(1 + twice):
            x = norms(f"norm{place}", cut_norm, x * self.weights.row(row)[0][:channels])
        return x.sum(dim=(2, 3, 4))[..., None]


def cut_norm(x: Tensor, statistics: Tensor | None = None) -> tuple[Tensor, object]:
    channels = x.shape[-1]
    own = None if statistics is None else statistics[..., :channels]
    return batch_norm(x, torch.ones(channels).to(x), torch.ones(channels).to(x), own)


ROUTES = torch.tensor([[[3, 0, 0]], [[1, 1, 2]], [[2, 0, 1]]], dtype=torch.int32)


def test_statistics_of_children_that_differ_are_filled_up_and_given_back() -> None:
    network, x = Toy().double(), torch.randn(3, 5, 4, 4, 3, generator=generator(1)).double()
    used = network(x, ROUTES, collect=True).statistics
    assert {name: tuple(each.shape) for name, each in used.items()} == {"norm0": (3, 1, 2, 3), "norm1": (3, 1, 2, 1)}
    assert used["norm0"][1, 0, :, 1:].tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert used["norm1"][0, 0].tolist() == [[0.0], [1.0]]
    assert_same(network(x, ROUTES, statistics=used).logits, network(x, ROUTES).logits)
    alone = network(x[:1, :2], ROUTES[:1], statistics={name: each[:1] for name, each in used.items()}).logits
    assert_same(alone[0], network(x, ROUTES).logits[0, :2])


def test_a_child_keeps_its_rows_and_everything_else() -> None:
    supernet, child = Toy(), Toy(ROUTES[1:2])
    child.inherit(supernet)
    assert torch.equal(child.weights.row(2)[0], supernet.weights.row(2)[0])
    assert torch.equal(child.other.weight, supernet.other.weight)
    x = torch.randn(1, 5, 4, 4, 3, generator=generator(1))
    assert torch.equal(child(x, ROUTES[1:2]).logits, supernet(x, ROUTES[1:2]).logits)


def test_rows_without_a_batch_norm_have_none() -> None:
    assert [len(WeightRows([4], {"weight": ((2, 3), 2)}, norm, generator()).row(4)) for norm in (0, 3)] == [1, 3]
    with pytest.raises(ValueError, match="is not in list"):
        WeightRows([4], {}, 3, generator()).row(0)


def test_it_has_no_state() -> None:
    network: Network = Toy()
    with pytest.raises(ValueError, match="no state"):
        network(torch.zeros(1, 1, 1, 1, 3), ROUTES, torch.zeros(1))
