"""The peer computes what we compute: a comparison of speed compares one function."""

import pytest
import torch
from torch.nn import functional

from conformance import MICRO_SPACES, generator
from enas.bench.peer import PeerDescent, PeerNetwork
from enas.descent import Descent
from enas.space import EnasMicro, Scale, SearchSpace
from enas.space.cells import CellNetwork
from enas.supernet import Supernet
from tolerances import assert_same

SIZES = {"even": (8, 12), "odd": (7, 9)}


def both(space: SearchSpace, size: tuple[int, int]) -> tuple[Supernet, PeerNetwork]:
    """A supernet with gains and biases that are not one and zero, and the peer with the same weights."""
    assert isinstance(space, EnasMicro)
    scale = Scale(layers=2, filters=3, height=size[0], width=size[1], channels=3, classes=4)
    supernet = Supernet(space, scale, generator()).double()
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator(1), dtype=parameter.dtype)
    return supernet, copied(supernet, space)


def copied(supernet: Supernet, space: EnasMicro) -> PeerNetwork:
    peer = PeerNetwork(space, supernet.scale).double()
    assert isinstance(supernet.network, CellNetwork)
    peer.copy_weights(supernet.network)
    return peer


def batch(size: tuple[int, int]) -> torch.Tensor:
    return torch.randn(1, 5, *size, 3, generator=generator(2), dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", MICRO_SPACES)
def test_logits_of_children_are_the_same(name: str, size: str) -> None:
    space = MICRO_SPACES[name]
    supernet, peer = both(space, SIZES[size])
    inputs = batch(SIZES[size])
    planes = inputs[0].permute(0, 3, 1, 2)
    for row in space.random(4, generator(3)):
        expected = supernet(inputs, row.unsqueeze(0))[0]
        assert_same(peer(planes.contiguous(), row.tolist()), expected)
        assert_same(peer.to(memory_format=torch.channels_last)(planes, row.tolist()), expected)


@pytest.mark.parametrize("output", ["project", "concat"])
def test_a_step_moves_all_weights_alike(output: str) -> None:
    """Those that the child does not use too: their gradient is zero, and momentum and decay act on them."""
    space = EnasMicro(2, output)  # type: ignore[arg-type]
    supernet, peer = both(space, (8, 8))
    before = copied(supernet, space)
    inputs, labels = batch((8, 8)), torch.arange(5) % 4
    ours = Descent(supernet.named_parameters(), momentum=0.9, weight_decay=0.1, clip=0.5)
    theirs = PeerDescent(peer, momentum=0.9, weight_decay=0.1, clip=0.5)
    for row in space.random(3, generator(3)):
        ours.step(functional.cross_entropy(supernet(inputs, row.unsqueeze(0))[0], labels), 0.05)
        logits = peer(inputs[0].permute(0, 3, 1, 2), row.tolist())
        theirs.step(functional.cross_entropy(logits, labels), 0.05)
    after = dict(copied(supernet, space).named_parameters())
    for name, parameter in peer.named_parameters():
        assert_same(parameter, after[name])
        assert not torch.equal(parameter, before.get_parameter(name))
