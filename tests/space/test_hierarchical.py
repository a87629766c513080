"""Motifs of motifs: what does nothing, rows that are the same function, the network written out, costs."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from conformance import SCALE, generator, images
from enas import kernels
from enas.errors import UserError
from enas.space import Hierarchical, Noise, Scale
from enas.space.hierarchical_network import PRIMITIVES, MotifNetwork
from enas.supernet import Child, Supernet
from tolerances import assert_same

SPACE = Hierarchical(motifs=3, motif_nodes=3, nodes=4)
FLAT = Hierarchical(motifs=0, nodes=5)
SMALL = Scale(layers=2, filters=3, height=9, width=7, channels=1, classes=3)
both = pytest.mark.parametrize("space", [SPACE, FLAT], ids=["motifs", "flat"])


def row_of(motifs: list[list[str]], cell: list[str], space: Hierarchical = SPACE) -> list[int]:
    """A row by the names of its operations, graph by graph in the order of the row."""
    names = [name for graph in [*motifs, cell] for name in graph]
    return [each.alternatives.index(name) for each, name in zip(space.decisions, names, strict=True)]


POOL, IDENTITY, NONE = "max_pool_3x3", "identity", "none"
EMPTY = [NONE] * 3


def test_the_published_sizes() -> None:
    space = Hierarchical()
    assert len(space.decisions) == 6 * 6 + 10
    assert space.decisions[0].alternatives == PRIMITIVES
    assert len(PRIMITIVES) == 6 + 1
    assert space.decisions[-1].alternatives == ("none", *(f"motif{number}" for number in range(1, 7)))
    assert len(Hierarchical(motifs=0, nodes=11).decisions) == 55
    assert [decision.name for decision in space.decisions[:3]] == [
        "motif1/node1/node0", "motif1/node2/node0", "motif1/node2/node1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"motifs": -1}, r"space\.motifs=-1: allowed are 0 to 20"),
        ({"motif_nodes": 7}, r"space\.motif_nodes=7: allowed are 2 to 6"),
        ({"nodes": 1}, r"space\.nodes=1: allowed are 2 to 12"),
        ({"nodes": True}, r"space\.nodes=True"),
    ],
)
def test_arguments_that_are_not_allowed(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Hierarchical(**arguments)


@pytest.mark.parametrize(
    ("row", "canonical"),
    [
        # Node 1 of the first motif is a dead end, node 1 of the second is never reached; the third is the first.
        (
            row_of([[POOL, IDENTITY, NONE], [NONE, POOL, IDENTITY], [NONE, IDENTITY, NONE]],
                   ["motif3", "motif2", "motif1", NONE, NONE, "motif1"]),
            row_of([[NONE, IDENTITY, NONE], [NONE, POOL, NONE], EMPTY],
                   ["motif1", "motif2", "motif1", NONE, NONE, "motif1"]),
        ),
        # A motif that connects nothing is none; a motif that no cell uses goes; numbers follow the first use.
        (
            row_of([[POOL, NONE, NONE], [NONE, POOL, NONE], [IDENTITY, NONE, IDENTITY]],
                   ["motif3", "motif1", "motif3", "motif1", NONE, "motif3"]),
            row_of([[IDENTITY, NONE, IDENTITY], EMPTY, EMPTY],
                   ["motif1", NONE, "motif1", NONE, NONE, "motif1"]),
        ),
        # Nothing reaches the output.
        (row_of([[NONE, POOL, NONE], EMPTY, EMPTY], ["motif1", "motif1", NONE, NONE, NONE, NONE]), [0] * 15),
    ],
)  # fmt: skip
def test_what_does_nothing_is_dropped_and_equal_motifs_are_one(row: list[int], canonical: list[int]) -> None:
    assert SPACE.canonical(torch.tensor([row]))[0].tolist() == canonical


@both
def test_a_row_and_its_canonical_one_are_the_same_function_of_the_same_cost(space: Hierarchical) -> None:
    supernet = Supernet(space, SCALE, generator(1)).double()
    with torch.no_grad():
        for parameter in supernet.parameters():  # biases that are seen
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator(2), dtype=torch.float64)
    rows = space.random(30, generator(3))
    canonical = space.canonical(rows)
    assert (rows != canonical).any(dim=1).sum() > 3
    inputs = images(batch=2).double()
    assert_same(supernet(inputs, rows), supernet(inputs, canonical))
    for one, other in zip(space.cost(rows, SCALE), space.cost(canonical, SCALE), strict=True):
        assert torch.equal(one, other)


def test_different_canonical_rows_are_different_functions() -> None:
    supernet = Supernet(SPACE, SCALE, generator(1)).double()
    row = SPACE.random(1, generator(3))
    neighbours = SPACE.canonical(SPACE.mutate(row.expand(60, -1), generator(4))).unique(dim=0)
    logits = supernet(images(batch=2).double(), neighbours).flatten(1)
    assert len(neighbours) > 10
    assert len(logits.unique(dim=0)) == len(neighbours)


def by_hand(child: Child, row: list[int], x: Tensor) -> Tensor:
    """The logits of a child with one cell a stage, written out with torch's own operations: x [B, H, W, C]."""
    space, network = child.space, child.network
    assert isinstance(space, Hierarchical)
    assert isinstance(network, MotifNetwork)
    graphs = space.describe(space.canonical(torch.tensor([row]))[0].tolist())

    def norm(y: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        return functional.batch_norm(y, None, None, gain, bias, training=True)

    def depthwise(y: Tensor, taps: Tensor, stride: int = 1) -> Tensor:
        return functional.conv2d(y.relu(), taps.permute(2, 0, 1)[:, None], stride=stride, padding=1, groups=y.shape[1])

    def product(y: Tensor, weight: Tensor) -> Tensor:
        return torch.einsum("bchw,cd->bdhw", y, weight)

    def graph(name: str, y: Tensor, cell: Any, rows: dict[str, Any]) -> Tensor | None:
        nodes: dict[str, Tensor | None] = {"node0": y}
        for node in graphs[name]:
            nodes[node["name"]] = None
            for edge in node["edges"]:
                source, result = nodes[edge["source"]], None
                if source is not None and edge["operation"] != "none":
                    result = compute(edge["operation"], source, cell, rows)
                if result is not None:
                    own = nodes[node["name"]]
                    nodes[node["name"]] = result if own is None else own + result
        return nodes[graphs[name][-1]["name"]]

    def compute(operation: str, y: Tensor, cell: Any, rows: dict[str, Any]) -> Tensor:
        def take(table: str) -> list[Tensor]:
            place = next(rows[table])
            return [parameter[place] for parameter in getattr(cell, table).parameters()]

        if operation.startswith("motif"):
            inside = graph(operation, y, cell, rows)
            assert inside is not None
            weight, gain, bias = take("projection")
            return norm(product(inside.relu(), weight), gain, bias)
        if operation == "convolution_1x1":
            weight, gain, bias = take("convolution1")
            return norm(product(y.relu(), weight), gain, bias)
        if operation == "depthwise_3x3":
            taps, gain, bias = take("depthwise3")
            return norm(depthwise(y, taps), gain, bias)
        if operation == "separable_3x3":
            taps, weight, gain, bias = take("separable3")
            return norm(product(depthwise(y, taps), weight), gain, bias)
        if operation == "max_pool_3x3":
            return functional.max_pool2d(y, 3, 1, 1)
        if operation == "average_pool_3x3":
            return functional.avg_pool2d(y, 3, 1, 1, count_include_pad=False)
        assert operation == "identity"
        return y

    y = functional.conv2d(x.permute(0, 3, 1, 2), network.stem.permute(3, 2, 0, 1), padding=1)
    y = norm(y, network.stem_gain, network.stem_bias)
    for number, cell in enumerate(network.cells):
        if number > 0:
            own = network.descents[number - 1]
            y = norm(product(depthwise(y, own.depthwise, 2), own.pointwise), own.gain, own.bias)
        # A child's rows stand in the order of its edges, so that they are taken one after the other.
        tables = ("convolution1", "depthwise3", "separable3", "projection")
        found = graph("cell", y, cell, {table: iter(range(99)) for table in tables})
        y = torch.zeros_like(y) if found is None else found
    return y.relu().mean(dim=(2, 3)) @ network.head


@both
def test_a_child_computes_what_its_graph_says(space: Hierarchical) -> None:
    for row in space.random(8, generator()).tolist():
        child = Child(space, row, SCALE, generator(1)).double()
        for parameter in child.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator(2), dtype=torch.float64)
        x = images(batch=3).double()[0]
        assert_same(child(x), by_hand(child, row, x))


@both
@pytest.mark.parametrize("scale", [SCALE, SMALL])
def test_the_cost_is_that_of_the_network(space: Hierarchical, scale: Scale) -> None:
    kernels.select("reference", torch.device("cpu"))  # whose operations torch counts
    rows = space.random(5, generator())
    cost = space.cost(rows, scale)
    for index, row in enumerate(rows.tolist()):
        child = Child(space, row, scale, generator()).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            child(torch.zeros(1, scale.height, scale.width, scale.channels))
        params = sum(parameter.numel() for parameter in child.parameters())
        assert (int(cost.params[index]), int(cost.macs[index])) == (params, counter.get_total_flops() // 2)


def test_a_cell_that_connects_nothing_is_a_network_nevertheless() -> None:
    row = torch.zeros(1, len(SPACE.decisions), dtype=torch.int64)
    supernet = Supernet(SPACE, SCALE, generator(1))
    logits = supernet(images(), row)
    assert torch.isfinite(logits).all()
    assert torch.equal(supernet.extract(row[0].tolist())(images()[0]), logits[0])


def test_a_child_alone_and_among_others_has_the_same_bits() -> None:
    supernet = Supernet(SPACE, SCALE, generator(1))
    rows, inputs = SPACE.random(4, generator(2)), images(batch=3)
    together = supernet(inputs, rows)
    for row, logits in zip(rows, together, strict=True):
        assert torch.equal(supernet(inputs, row[None])[0], logits)


def test_statistics_of_a_child_are_used_and_unused_edges_have_none() -> None:
    supernet = Supernet(SPACE, SCALE, generator(1)).double()
    row = torch.tensor(
        [row_of([["convolution_1x1", NONE, POOL], EMPTY, EMPTY], [NONE, NONE, NONE, "motif1", NONE, NONE])]
    )
    given = supernet.statistics([images(batch=8).double()], row)
    named = {name for name in given if name.startswith("cell/0/")}
    assert named == {"cell/0/12", "cell/0/13"}  # the 1x1 behind the motif, its convolution
    assert given["cell/0/12"].shape == (1, 1, 2, SCALE.filters)
    whole = images(batch=6, seed=5).double()
    one_by_one = torch.cat([supernet(whole[:, place, None], row, statistics=given) for place in range(6)], dim=1)
    assert_same(one_by_one, supernet(whole, row, statistics=given))


@pytest.mark.parametrize("size", [(9, 8), (2, 1)])
def test_odd_sizes_and_several_cells_a_stage(size: tuple[int, int]) -> None:
    scale = Scale(2, 4, *size, 3, 4)
    supernet, rows = Supernet(SPACE, scale, generator(1)), SPACE.random(2, generator())
    logits = supernet(images(scale=scale), rows)
    assert torch.isfinite(logits).all()
    assert_same(supernet.extract(rows[1].tolist())(images(scale=scale)[0]), logits[1])


def test_drop_path_drops_edges_of_the_cell_but_no_identity() -> None:
    for name, dropped in ((POOL, True), (IDENTITY, False)):
        network = FLAT.network(SCALE, generator(1), row_of([], [name] * 10, FLAT))
        assert network.routes is not None
        noise = Noise(generator(5), drop_path=0.5)
        plain, noisy = (network(images(), network.routes, noise=each).logits for each in (None, noise))
        assert torch.equal(plain, noisy) != dropped


def test_an_unused_motif_is_kept_and_named() -> None:
    row = row_of([[POOL, NONE, NONE], [NONE, POOL, NONE], EMPTY], [NONE, NONE, NONE, "motif2", NONE, NONE])
    assert "motif1 (not used):" in SPACE.text(row)
    assert "motif2:" in SPACE.text(row)
    assert SPACE.drawings(row)["motif3"].title == "motif 3 (not used)"
    assert SPACE.describe(row)["motif1"][0] == {
        "name": "node1",
        "edges": [{"source": "node0", "operation": "max_pool_3x3"}],
    }


def test_what_it_has_not() -> None:
    with pytest.raises(UserError, match=r"no auxiliary head, set train\.auxiliary=0"):
        SPACE.network(SCALE, generator(), [0] * len(SPACE.decisions), auxiliary=True)
    with pytest.raises(ValueError, match="no state"):
        Supernet(SPACE, SCALE, generator())(images(), SPACE.random(1, generator()), torch.zeros(1))
