"""NASNet, AmoebaNet and PNASNet: published cells and their counts, the network, canonical rows, bad arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from conformance import SCALE, generator, images
from enas import kernels
from enas.errors import UserError
from enas.space import Amoeba, NasNet, Noise, Pnas, Scale
from enas.space.pair_network import PairNetwork
from enas.space.pair_space import PairSpace
from enas.supernet import Child, Supernet
from tolerances import assert_same

Block = tuple[int, str, int, str]
S3, S5, S7 = "separable_3x3", "separable_5x5", "separable_7x7"
AVERAGE, MAXIMUM, IDENTITY = "average_pool_3x3", "max_pool_3x3", "identity"

# In the code's numbering: 0 is the output of the cell before, 1 that of the one before it.
NASNET_A: tuple[Sequence[Block], ...] = (
    [(0, S5, 1, S3), (1, S5, 1, S3), (0, AVERAGE, 1, IDENTITY), (1, AVERAGE, 1, AVERAGE), (0, S3, 0, IDENTITY)],
    [(0, S5, 1, S7), (0, MAXIMUM, 1, S7), (0, AVERAGE, 1, S5), (3, IDENTITY, 2, AVERAGE), (2, S3, 0, MAXIMUM)],
)
NASNET_A_OUTPUT = "input0 node2 node3 node4 node5 node6 / node3 node4 node5 node6"
PNASNET_5: tuple[Sequence[Block], ...] = (
    [(1, S5, 1, MAXIMUM), (0, S7, 0, MAXIMUM), (0, S5, 0, S3), (4, S3, 0, MAXIMUM), (1, S3, 0, IDENTITY)],
)


def row_of(space: PairSpace, cells: Sequence[Sequence[Block]]) -> list[int]:
    names = [operation.name for operation in space.operations]
    row = []
    for cell in cells:
        for left, first, right, second in cell:
            sources = [1 - source if source < 2 else source for source in (left, right)]
            row += [sources[0], names.index(first), sources[1], names.index(second)] + [0] * space.joins
    space.check(row)
    return row


def published(layers: int, filters: int, side: int, classes: int = 1000) -> Scale:
    return Scale(layers, filters, side, side, channels=3, classes=classes)


@pytest.mark.parametrize(
    ("stacking", "scale", "params", "macs"),
    [
        ("mobile", published(12, 44, 224), 5.3e6, 564e6),  # 4@1056
        ("large", published(18, 168, 331), 88.9e6, 23.8e9),  # 6@4032
        ("cifar", published(18, 32, 32, classes=10), 3.3e6, None),  # 6@768
    ],
)
def test_nasnet_a_has_the_published_counts(stacking: str, scale: Scale, params: float, macs: float | None) -> None:
    space = NasNet(output=NASNET_A_OUTPUT, stacking=stacking)  # type: ignore[arg-type]
    cost = space.cost(torch.tensor([row_of(space, NASNET_A)]), scale)
    assert int(cost.params) == pytest.approx(params, rel=0.01)
    if macs is not None:
        assert int(cost.macs) == pytest.approx(macs, rel=0.012)  # the first cell's: docs/algorithms.md


@pytest.mark.parametrize(
    ("stacking", "scale", "params", "macs"),
    [
        ("mobile", published(9, 54, 224), 5.1e6, 588e6),
        ("large", published(12, 216, 331), 86.1e6, 25.0e9),
        ("cifar", published(9, 48, 32, classes=10), 3.2e6, None),
    ],
)
def test_pnasnet_5_has_the_published_counts(stacking: str, scale: Scale, params: float, macs: float | None) -> None:
    space = Pnas(output="nodes", stacking=stacking)  # type: ignore[arg-type]
    cost = space.cost(torch.tensor([row_of(space, PNASNET_5)]), scale)
    assert int(cost.params) == pytest.approx(params, rel=0.01)
    if macs is not None:
        assert int(cost.macs) == pytest.approx(macs, rel=0.01)


def test_the_last_cells_have_the_widths_that_name_the_networks() -> None:
    for stacking, layers, filters, width in (("mobile", 12, 44, 1056), ("large", 18, 168, 4032)):
        space = NasNet(output=NASNET_A_OUTPUT, stacking=stacking)  # type: ignore[arg-type]
        last = space.stack(published(layers, filters, 331)).cells[-1]
        outputs = space.outputs["normal"]
        assert outputs is not None
        assert last.filters * len(outputs) == width


def test_the_mobile_network_has_the_parameters_that_it_costs() -> None:
    space = NasNet(output=NASNET_A_OUTPUT, stacking="mobile")
    row, scale = row_of(space, NASNET_A), published(12, 44, 224)
    network = space.network(scale, generator(), row)
    params = sum(parameter.numel() for parameter in network.parameters())
    assert params == int(space.cost(torch.tensor([row]), scale).params) == 5_287_076


@pytest.mark.parametrize(
    "space",
    [
        NasNet(3),
        NasNet(2, "input0 node3 / input1 node2", "large"),
        NasNet(2, "nodes", "mobile"),
        Amoeba(3),
        Pnas(3),
        Pnas(2, "nodes", "large"),
        Pnas(3, growing=True),
    ],
    ids=lambda space: f"{space.name}-{space.stacking}{'-growing' * space.conditional}",
)
def test_cost_is_what_the_child_has_and_does(space: PairSpace) -> None:
    kernels.select("reference", torch.device("cpu"))
    scale = replace(SCALE, layers=3, filters=5, height=19, width=14)
    rows = space.random(4, generator(1))
    params, macs = space.cost(rows, scale)
    for place, row in enumerate(rows.tolist()):
        child = Child(space, row, scale, generator()).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            child(torch.zeros(1, scale.height, scale.width, scale.channels))
        assert int(params[place]) == sum(parameter.numel() for parameter in child.parameters())
        assert int(macs[place]) == counter.get_total_flops() // 2


@pytest.mark.parametrize("space", [NasNet(2, stacking="large"), Pnas(2, stacking="mobile")], ids=["nasnet", "pnas"])
def test_a_path_equals_the_child_with_the_stem_of_imagenet(space: PairSpace) -> None:
    scale = replace(SCALE, layers=3, height=33, width=30)
    supernet, rows = Supernet(space, scale, generator(1)).double(), space.random(3, generator(2))
    inputs = images(batch=2, scale=scale).double()
    for row, logits in zip(rows.tolist(), supernet(inputs, rows), strict=True):
        assert_same(supernet.extract(row)(inputs[0]), logits)


@pytest.mark.parametrize("space", [NasNet(3), Pnas(3), Pnas(3, growing=True)], ids=["nasnet", "pnas", "pnas-growing"])
def test_a_child_alone_and_among_others_has_the_same_bits(space: PairSpace) -> None:
    supernet = Supernet(space, SCALE, generator(1))
    rows, inputs = space.random(4, generator(2)), images(4, batch=3)
    together = supernet(inputs, rows)
    for row, own, logits in zip(rows, inputs, together, strict=True):
        assert torch.equal(supernet(own[None], row[None])[0], logits)


def test_statistics_of_a_child_are_used() -> None:
    space = NasNet(4)
    supernet, rows = Supernet(space, SCALE, generator(1)), space.random(2, generator(3))
    given = supernet.statistics([images(batch=8)], rows)
    assert given["cell/0"].shape == (2, 5 * 4 + 2, 2, 2 * SCALE.filters)
    whole = images(batch=8, seed=5)
    one_by_one = torch.cat([supernet(whole[:, [place]], rows, statistics=given) for place in range(8)], dim=1)
    assert_same(one_by_one, supernet(whole, rows, statistics=given))


@pytest.mark.parametrize("size", [(9, 8), (5, 7), (2, 1)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    space = NasNet(3)
    scale = replace(SCALE, layers=3, height=size[0], width=size[1])
    logits = Supernet(space, scale, generator(1))(images(batch=4, scale=scale), space.random(3, generator()))
    assert logits.shape == (3, 4, SCALE.classes)
    assert torch.isfinite(logits).all()


def test_images_may_be_stored_in_bfloat16() -> None:
    space = NasNet(3)
    supernet, rows, inputs = Supernet(space, SCALE, generator(1)), space.random(3, generator(2)), images(batch=8)
    noise = Noise(generator(), drop_path=0.2)
    logits = supernet(inputs.bfloat16(), rows, noise=noise)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


def test_every_weight_of_a_child_gets_a_gradient() -> None:
    space = NasNet(4)
    for row in space.random(4, generator(2)).tolist():
        child = Child(space, row, SCALE, generator(1), auxiliary=True)
        output = child.learn(images(batch=4)[0], Noise(generator()))
        assert output.auxiliary is not None
        (output.logits.sum() + output.auxiliary.square().sum()).backward()
        assert all(parameter.grad is not None for parameter in child.parameters() if parameter.numel())


@pytest.mark.parametrize(("operation", "dropped"), [(S3, True), (MAXIMUM, True), (IDENTITY, False)])
def test_drop_path_drops_operations_but_no_identity(operation: str, dropped: bool) -> None:
    space = Amoeba(2)
    block = (0, operation, 1, operation)
    row = row_of(space, [[block, block]] * 2)
    network = space.network(SCALE, generator(1), row)
    assert network.routes is not None
    inputs = images(batch=16)
    plain = network(inputs, network.routes).logits
    for progress, changed in ((1.0, dropped), (0.0, False)):
        noise = Noise(generator(5), drop_path=0.5, progress=progress)
        noisy = network(inputs, network.routes, noise=noise).logits
        assert torch.equal(plain, noisy) != changed


def test_paths_are_dropped_by_depth_and_progress() -> None:
    network = Amoeba(2).network(SCALE, generator(1))
    for position in range(3):
        masks = network._masks(4, 5000, position, Noise(generator(1), drop_path=0.6, progress=0.5))
        assert masks is not None
        kept = 1 - 0.6 * 0.5 * (position + 1) / 3
        assert_same(masks.unique(), torch.tensor([0.0, 1 / kept]))
        assert float((masks > 0).double().mean()) == pytest.approx(kept, abs=0.02)
    assert network._masks(4, 5000, 0, Noise(generator(1))) is None


def test_a_concatenation_is_brought_to_the_cell_s_filters() -> None:
    space = NasNet(1)
    block = [(0, S3, 1, MAXIMUM)]
    added, joined = row_of(space, [block, block]), row_of(space, [block, block])
    joined[4] = 1  # of the normal cell
    assert "concat(separable_3x3(input1), max_pool_3x3(input0))" in space.text(joined)
    assert space.drawings(joined)["normal"].concatenated == {"node2"}
    assert space.drawings(joined)["reduction"].concatenated == set()
    costs = space.cost(torch.tensor([added, joined]), SCALE).params
    width = 4 * SCALE.filters
    assert int(costs[1] - costs[0]) == 2 * width * width + 2 * width


def test_the_auxiliary_head_is_the_published_one() -> None:
    space = NasNet(output=NASNET_A_OUTPUT)
    network = space.network(published(6, 4, 32, classes=10), generator(), row_of(space, NASNET_A), auxiliary=True)
    assert isinstance(network, PairNetwork)
    assert network.auxiliary is not None
    assert network.auxiliary.narrow.weight.shape == (1, 6 * 8, 128)
    assert network.auxiliary.wide.weight.shape == (1, 4 * 4 * 128, 768)  # 16 x 16, pooled by 5 with stride 3


def permuted(space: PairSpace, row: Sequence[int], order: Sequence[int]) -> list[int] | None:
    """`row` with the nodes of every cell in another order and its sides swapped; None where one would read ahead."""
    pairs = space.pairs(torch.tensor([list(row)]))[0].tolist()
    for cell in pairs:
        label = {0: 0, 1: 1, **{old + 2: new + 2 for new, old in enumerate(order)}}
        moved = [cell[old] for old in order]
        for place, (left, first, right, second, join) in enumerate(moved):
            moved[place] = [label[right], second, label[left], first, join]
            if max(label[left], label[right]) >= place + 2:
                return None
        cell[:] = moved
    result: list[int] = space.choices_of(torch.tensor([pairs]))[0].tolist()
    return result


@pytest.mark.parametrize(
    ("space", "orders"),
    [
        (NasNet(3), [(0, 2, 1), (1, 0, 2), (2, 0, 1)]),
        (Pnas(3), [(0, 2, 1), (1, 0, 2)]),
        (Amoeba(3, "node3 node4 / node3 node4"), [(0, 2, 1)]),
    ],
    ids=["nasnet", "pnas", "amoeba"],
)
def test_rows_that_are_one_function_have_one_canonical_row(space: PairSpace, orders: list[Sequence[int]]) -> None:
    found = 0
    for row in space.random(200, generator(1)).tolist():
        for order in orders:
            other = permuted(space, row, order)
            if other is not None:
                found += 1
                both = space.canonical(torch.tensor([row, other]))
                assert torch.equal(both[0], both[1])
    assert found > 20


def test_nodes_that_leave_a_cell_are_not_swapped_with_others() -> None:
    space = Pnas(2, output="node3")
    rows = [row_of(space, [[(0, S3, 0, S3), (0, S5, 0, S5)]]), row_of(space, [[(0, S5, 0, S5), (0, S3, 0, S3)]])]
    canonical = space.canonical(torch.tensor(rows))
    assert not torch.equal(canonical[0], canonical[1])


def test_cells_of_one_block_are_the_published_136() -> None:
    space = Pnas(growing=True)
    rows = torch.zeros(256, len(space.decisions), dtype=torch.int64)
    rows[:, :4] = torch.cartesian_prod(*(torch.arange(size) for size in (2, 8, 2, 8)))
    assert space.legal(rows).all()
    assert (space.active(rows).sum(dim=1) == 5).all()  # and whether there is a second
    assert len(space.canonical(rows).unique(dim=0)) == 136


def test_a_grown_cell_is_the_cell_that_does_not_grow() -> None:
    growing, whole = Pnas(3, growing=True), Pnas(3)
    row = whole.random(1, generator(1))[0].tolist()
    grown = [*row[:4], 1, *row[4:8], 1, *row[8:]]
    assert growing.describe(grown) == whole.describe(row)
    assert growing.cost(torch.tensor([grown]), SCALE) == whole.cost(torch.tensor([row]), SCALE)
    assert torch.equal(growing.route(torch.tensor([grown])), whole.route(torch.tensor([row])))
    canonical = whole.canonical(torch.tensor([row]))[0].tolist()
    assert growing.canonical(torch.tensor([grown]))[0].tolist() == [
        *canonical[:4], 1, *canonical[4:8], 1, *canonical[8:],
    ]  # fmt: skip


def test_a_small_cell_is_that_of_a_space_of_fewer_nodes() -> None:
    growing, small = Pnas(3, growing=True), Pnas(2)
    rows = small.random(6, generator(1))
    padded = torch.cat([rows[:, :4], torch.ones(6, 1).long(), rows[:, 4:], torch.zeros(6, 5).long()], dim=1)
    assert growing.legal(padded).all()
    for one, other in zip(growing.cost(padded, SCALE), small.cost(rows, SCALE), strict=True):
        assert torch.equal(one, other)
    for row, short in zip(padded.tolist(), rows.tolist(), strict=True):
        assert growing.describe(row) == small.describe(short)
        assert growing.text(row) == small.text(short)
    assert torch.equal(growing.canonical(padded)[:, 5:9], small.canonical(rows)[:, 4:])
    inputs, row, short = images(), padded[0].tolist(), rows[0].tolist()
    logits = [
        Child(space, own, SCALE, generator(3), auxiliary=True).eval()(inputs[0])
        for space, own in ((growing, row), (small, short))
    ]
    assert_same(*logits)


def test_later_nodes_are_absent_where_one_is() -> None:
    space = Pnas(4, growing=True)
    row = [0, 1, 1, 2, 0, 1, 3, 1, 4, 1, 2, 5, 2, 6, 1, 0, 0, 0, 0]
    assert space.repair(torch.tensor([row]))[0].tolist() == row[:4] + [0] * 15
    shares = space.random(2000, generator())[:, 4::5].double().mean(dim=0)
    assert shares.tolist() == pytest.approx([0.5, 0.25, 0.125], abs=0.05)
    assert space.arguments["growing"]
    assert "growing" not in Pnas(4).arguments  # so that their architectures keep their identities
    with pytest.raises(UserError, match=r"space\.output=nodes: with space\.growing=true allowed is unused"):
        Pnas(2, output="nodes", growing=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nodes": 0}, r"space\.nodes=0: allowed are 1 to 7"),
        ({"stacking": "imagenet"}, r"space\.stacking=imagenet: allowed are cifar, mobile, large"),
        ({"output": "all"}, r"space\.output=all: allowed are unused, nodes"),
        ({"output": "node2"}, r"for each of 2 cell\(s\)"),
        ({"output": "node2 / node9"}, r"some of input0 input1 node2 node3"),
        ({"output": "node2 node2 / node2"}, r"space\.output"),
        ({"output": "node2 / "}, r"space\.output"),
    ],
)
def test_bad_arguments_are_refused(arguments: Mapping[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        NasNet(**{"nodes": 2, **arguments})  # type: ignore[arg-type]
