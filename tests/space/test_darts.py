"""DARTS: the published genotypes and their counts, rows and their sources, the network's details."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from conformance import SCALE, generator, images
from enas import kernels
from enas.errors import UserError
from enas.space import Darts, Noise, Scale
from enas.supernet import Child
from tolerances import assert_same

SPACE = Darts()
Edges = list[tuple[str, int]]
V1: tuple[Edges, Edges] = (
    [
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 0), ("sep_conv_3x3", 1),
        ("skip_connect", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 2),
    ],
    [
        ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 0),
        ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("avg_pool_3x3", 0),
    ],
)  # fmt: skip
V2: tuple[Edges, Edges] = (
    [
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2),
    ],
    [
        ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1),
        ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1),
    ],
)  # fmt: skip
"""DARTS_V1 (first order) and DARTS_V2 (second order) of the authors' genotypes.py."""
PUBLISHED = Scale(layers=20, filters=36, height=32, width=32, channels=3, classes=10)


@pytest.mark.parametrize(("genotype", "params"), [(V1, 3_169_414), (V2, 3_349_342)], ids=["V1", "V2"])
def test_the_published_cells_have_the_published_parameters(genotype: tuple[Edges, Edges], params: int) -> None:
    row = SPACE.parse(*genotype)
    assert int(SPACE.cost(torch.tensor([row]), PUBLISHED).params) == params
    network = SPACE.network(PUBLISHED, generator(), row)
    assert sum(parameter.numel() for parameter in network.parameters()) == params


@pytest.mark.parametrize("size", [(9, 8), (32, 32)])
def test_cost_is_what_the_child_has_and_does(size: tuple[int, int]) -> None:
    kernels.select("reference", torch.device("cpu"))
    scale = replace(SCALE, layers=3, height=size[0], width=size[1])
    rows = SPACE.random(4, generator(1))
    params, macs = SPACE.cost(rows, scale)
    for place, row in enumerate(rows.tolist()):
        child = Child(SPACE, row, scale, generator()).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            child(torch.zeros(1, *size, scale.channels))
        assert int(params[place]) == sum(parameter.numel() for parameter in child.parameters())
        assert int(macs[place]) == counter.get_total_flops() // 2


def test_a_node_reads_two_different_slots() -> None:
    pairs = SPACE.pairs(SPACE.random(500, generator()))
    low, high = pairs[..., 0], pairs[..., 2]
    assert (low < high).all()
    assert (high < torch.arange(2, 6)).all()
    for node in range(4):
        seen = {(int(a), int(b)) for a, b in zip(low[:, 0, node], high[:, 0, node], strict=True)}
        assert len(seen) == (node + 1) * (node + 2) // 2


def test_a_genotype_of_the_authors_is_read() -> None:
    text = SPACE.text(SPACE.parse(*V2))
    assert text.splitlines()[4] == "  node5 = identity(input0) + dilated_3x3(node2)"
    swapped = ([(V2[0][i ^ 1]) for i in range(8)], V2[1])
    assert SPACE.parse(*swapped) == SPACE.parse(*V2)


@pytest.mark.parametrize(
    ("normal", "message"),
    [
        (V2[0][:-1], "the normal cell must have 8 edges, it has 7"),
        ([("conv", 0), *V2[0][1:]], "operation 'conv' is unknown; allowed are none, max_pool_3x3"),
        ([("none", 1), *V2[0][1:]], r"node 2 of the normal cell reads \(1, 1\): allowed are two different slots"),
        ([("none", 2), *V2[0][1:]], "two different slots from 0 to 1"),
        ([("none", -1), *V2[0][1:]], "two different slots from 0 to 1"),
    ],
)
def test_other_genotypes_are_refused(normal: Edges, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SPACE.parse(normal, V2[1])


def test_what_none_reads_makes_no_difference() -> None:
    space = Darts(2)
    # Node 3 has none on one of its edges, which then may be any; and on both.
    for edges in (
        [[("none", 0), ("max_pool_3x3", 2)], [("none", 1), ("max_pool_3x3", 2)]],
        [[("none", 0), ("none", 1)], [("none", 0), ("none", 2)], [("none", 2), ("none", 1)]],
    ):
        first: Edges = [("sep_conv_3x3", 0), ("skip_connect", 1)]
        rows = [space.parse(first + own, first + own) for own in edges]
        assert len(space.canonical(torch.tensor(rows)).unique(dim=0)) == 1


def test_rows_that_are_one_function_have_one_canonical_row() -> None:
    space = Darts(2)
    one: Edges = [("sep_conv_3x3", 0), ("skip_connect", 1), ("max_pool_3x3", 0), ("sep_conv_5x5", 1)]
    other = one[2:] + one[:2]
    rows = torch.tensor([space.parse(one, other), space.parse(other, one), space.parse(one, one)])
    canonical = space.canonical(rows)
    assert len(canonical.unique(dim=0)) == 1
    reading = space.parse([*one[:2], ("max_pool_3x3", 0), ("sep_conv_5x5", 2)], one)
    assert not torch.equal(space.canonical(torch.tensor([reading]))[0], canonical[0])


def test_a_pool_is_normalised_by_the_batch() -> None:
    pools: Edges = [("max_pool_3x3", 0), ("avg_pool_3x3", 1)] * 4
    child = Child(SPACE, SPACE.parse(pools, pools), SCALE, generator())
    names = [name for name, parameter in child.named_parameters() if ".tables." in name and parameter.numel()]
    assert names == []
    used = child.network(images(batch=4), child._routes(), collect=True).statistics["cell/0"]
    assert used.shape == (1, 5 * 4 + 2, 2, 2 * SCALE.filters)
    assert (used[0, 0:16:2, 1] != 1).any(dim=1).all()
    assert_same(used[0, 1:16:2, 1], torch.ones(8, 2 * SCALE.filters))


def test_the_auxiliary_head_is_the_published_one() -> None:
    network = SPACE.network(replace(PUBLISHED, filters=4, layers=6), generator(), SPACE.parse(*V2), auxiliary=True)
    assert network.auxiliary is not None
    assert network.auxiliary.narrow.weight.shape == (1, 4 * 16, 128)
    assert network.auxiliary.wide.weight.shape == (1, 2 * 2 * 128, 768)  # 8 x 8, pooled by 5 with stride 3


def test_the_strongest_operations_but_none_are_read_off() -> None:
    space = Darts(2)
    mixing = torch.full((len(space.edges), len(space.candidates)), 0.1)
    mixing[:, 0] = 0.9  # none
    mixing[2, 4] = 0.2  # node 3, of slots 0, 1 and 2
    mixing[3, 7] = 0.4
    mixing[4, 1] = 0.3
    row = space.discretise(mixing)
    assert row[3:6] == [2, 7, 1]  # the pair of slots 1 and 2
    assert row[:3] == [0, 1, 1]  # of equals the first


def test_no_path_is_dropped_where_all_are_identities() -> None:
    skips: Edges = [("skip_connect", 0), ("skip_connect", 1)] * 4
    network = SPACE.network(SCALE, generator(1), SPACE.parse(skips, skips))
    assert network.routes is not None
    plain = network(images(batch=8), network.routes).logits
    noisy = network(images(batch=8), network.routes, noise=Noise(generator(), drop_path=0.9)).logits
    assert torch.equal(plain, noisy)


def test_a_cell_has_one_to_seven_nodes() -> None:
    for nodes in (0, 8, True):
        with pytest.raises(UserError, match=rf"space\.nodes={nodes}: allowed are 1 to 7"):
            Darts(nodes)
