"""The space of NAS-Bench-101: what counts in a cell, isomorphic cells, published sizes, and the network written out."""

from itertools import permutations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from conformance import SCALE, generator, images
from enas.errors import UserError
from enas.space import NasBench101, Scale
from enas.space.nasbench101_cell import EDGES, OUTPUT, is_legal, prune
from enas.space.nasbench101_network import divide
from enas.supernet import Child
from tolerances import assert_same

SPACE = NasBench101()
PUBLISHED = Scale(3, 128, 32, 32, 3, 10)
Matrix = list[list[int]]
C3, C1, MP = "conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3"

INCEPTION: Matrix = [
    [0, 1, 1, 1, 0, 1, 0],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 1, 0, 0],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 0],
]
"""The cell of the official notebook."""
UNEVEN: Matrix = [
    [0, 1, 0, 0, 1, 0, 1],
    [0, 0, 1, 0, 0, 0, 1],
    [0, 0, 0, 1, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 1, 0],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 0],
]
"""Three vertices share the channels, and the output adds the input."""
LARGEST: Matrix = [
    [0, 1, 1, 0, 1, 0, 1],
    [0, 0, 0, 0, 1, 0, 0],
    [0, 0, 0, 1, 0, 0, 0],
    [0, 0, 0, 0, 1, 0, 0],
    [0, 0, 0, 0, 0, 1, 0],
    [0, 0, 0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0, 0, 0],
]


def row_of(matrix: Matrix, operations: list[str]) -> list[int]:
    """The row of a matrix of at most seven vertices: the last becomes the seventh, the others keep their place."""
    size = len(matrix)
    place = [*range(size - 1), OUTPUT]
    present = {(place[x], place[y]) for x in range(size) for y in range(size) if matrix[x][y]}
    codes = [[C3, C1, MP].index(name) for name in operations]
    return [*(int(edge in present) for edge in EDGES), *codes, *[0] * (5 - len(codes))]


def cells(count: int = 50, seed: int = 0) -> Tensor:
    return SPACE.random(count, generator(seed))


@pytest.mark.parametrize(
    ("matrix", "operations", "params"),
    [
        (INCEPTION, [C1, C3, C3, C3, MP], 2694282),
        (UNEVEN, [C1, MP, MP, MP, C1], 1697419),
        (LARGEST, [C3] * 5, 49979274),
        ([[0, 1], [0, 0]], [], 882570),
        ([[0, 1, 1], [0, 0, 1], [0, 0, 0]], [C1], 2793866),
        ([[0, 1, 0], [0, 0, 1], [0, 0, 0]], [MP], 882570),
    ],
)
def test_cells_have_as_many_parameters_as_the_benchmark_says(
    matrix: Matrix, operations: list[str], params: int
) -> None:
    assert int(SPACE.cost(torch.tensor([row_of(matrix, operations)]), PUBLISHED).params) == params


def test_a_row_is_legal_where_at_most_nine_edges_count_and_there_is_a_way() -> None:
    edges = torch.randint(0, 2**21, (400,), generator=generator())
    for number, legal in zip(edges.tolist(), is_legal(edges).tolist(), strict=True):
        present = [edge for bit, edge in enumerate(EDGES) if number >> bit & 1]
        reached, useful = {0}, {OUTPUT}
        for _ in range(6):
            reached |= {vertex for source, vertex in present if source in reached}
            useful |= {source for source, vertex in present if vertex in useful}
        counted = {(x, y) for x, y in present if {x, y} <= reached & useful}
        counted = counted if OUTPUT in reached else set()
        assert legal == (1 <= len(counted) <= 9)
        found = int(prune(torch.tensor([number]))[0])
        assert {edge for bit, edge in enumerate(EDGES) if found >> bit & 1} == counted


def test_isomorphic_cells_and_what_does_not_count_have_one_canonical_row() -> None:
    for row in cells(10).tolist():
        matrix, names = SPACE.module(row)
        size = len(matrix)
        alike = []
        for order in permutations(range(1, size - 1)):
            places = [0, *order, size - 1]
            moved = [[matrix[places[x]][places[y]] for y in range(size)] for x in range(size)]
            if all(moved[x][y] == 0 for x in range(size) for y in range(x + 1)):
                alike.append(row_of(moved, [names[place] for place in order]))
        canonical = SPACE.canonical(torch.tensor([row, *alike]))
        assert len(canonical.unique(dim=0)) == 1
        found, labels = SPACE.module(canonical[0].tolist())
        assert sorted(labels) == sorted(names)
        assert sum(map(sum, found)) == sum(map(sum, matrix))


def test_cells_that_are_not_isomorphic_have_canonical_rows_of_their_own() -> None:
    """Six cells of three vertices and 84 of four, as the benchmark has them."""
    operations = torch.cartesian_prod(*[torch.arange(3)] * 2)
    inner = [bit for bit, (source, vertex) in enumerate(EDGES) if {source, vertex} <= {0, 1, 2, OUTPUT}]
    numbers = [sum(1 << bit for place, bit in enumerate(inner) if code >> place & 1) for code in range(2 ** len(inner))]
    edges = torch.tensor([number for number in numbers if bool(is_legal(torch.tensor(number)))])
    five = torch.cat([operations, torch.zeros(9, 3, dtype=torch.int64)], dim=1)
    rows = SPACE.rows(edges.repeat_interleave(9), five.repeat(len(edges), 1))
    found = SPACE.canonical(rows).unique(dim=0)
    sizes = [len(SPACE.module(row)[0]) for row in found.tolist()]
    assert [sizes.count(size) for size in (2, 3, 4)] == [1, 6, 84]


def test_repair_connects_and_takes_away_no_more_than_it_must() -> None:
    nothing = torch.zeros(1, 26, dtype=torch.int64)
    matrix, _ = SPACE.module(SPACE.repair(nothing)[0].tolist())
    assert matrix == [[0, 1], [0, 0]]
    loose = torch.tensor([row_of([[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], [C1, MP])])
    assert SPACE.module(SPACE.repair(loose)[0].tolist())[1] == ["input", C1, MP, "output"]
    full = torch.cat([torch.ones(1, 21, dtype=torch.int64), torch.zeros(1, 5, dtype=torch.int64)], dim=1)
    repaired = SPACE.repair(full)
    assert int(repaired.sum()) == 9
    assert bool(SPACE.legal(repaired).all())


def test_channels_are_divided_as_the_benchmark_divides_them() -> None:
    matrix = torch.tensor([row_of(UNEVEN, [C1] * 5)])
    sizes = [int(size) for size in divide(prune(SPACE.matrices(matrix)), 128)]
    assert sizes == [0, 43, 43, 43, 42, 42, 128]


def test_random_rows_are_uniform_among_legal_ones() -> None:
    """A bit is as often set among them as among rows that were drawn and tested one by one."""
    raw = torch.randint(0, 2**21, (20000,), generator=generator(1))
    expected = (raw[is_legal(raw)][:, None] >> torch.arange(21) & 1).double().mean(dim=0)
    found = cells(15000)[:, :21].double().mean(dim=0)
    assert (found - expected).abs().max() < 0.02


def plain(child: Child, x: Tensor) -> Tensor:
    """The network of UNEVEN with operations C1, MP, MP, C3, C1 at four filters, in plain torch."""
    weights = dict(child.network.named_parameters())

    def convolve(x: Tensor, name: str) -> Tensor:
        kernel, gain, bias = (weights[f"{name}.{part}"] for part in ("kernel", "gain", "bias"))
        z = functional.conv2d(x, kernel.permute(3, 2, 0, 1), padding=kernel.shape[0] // 2)
        return functional.batch_norm(z, None, None, gain, bias, training=True).relu()

    def pool(x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 3, 1, 1)

    x = convolve(x.permute(0, 3, 1, 2), "stem")
    for stack in range(3):
        x = functional.max_pool2d(x, 2) if stack else x
        cell = f"cells.{stack}"
        one = convolve(convolve(x, f"{cell}.projections.1"), f"{cell}.convolutions.1")
        two = pool(one)
        narrow = (4 * 2**stack) // 3 + (1 if (4 * 2**stack) % 3 > 1 else 0)
        three = pool(two[:, :narrow])
        four = convolve(convolve(x, f"{cell}.projections.4"), f"{cell}.convolutions.4")
        five = convolve(four, f"{cell}.convolutions.5")
        x = torch.cat([one, three, five], dim=1) + convolve(x, f"{cell}.projections.6")
    return x.mean(dim=(2, 3)) @ weights["head"] + weights["head_bias"]


def test_the_network_is_the_published_one() -> None:
    row = row_of(UNEVEN, [C1, MP, MP, C3, C1])
    child = Child(SPACE, row, SCALE, generator()).double()
    assert sum(weight.numel() for weight in child.parameters()) == int(SPACE.cost(torch.tensor([row]), SCALE).params)
    x = images()[0].double()
    assert_same(child(x), plain(child, x))


def test_what_does_not_count_is_not_built() -> None:
    row = row_of([[0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], [C3, C3])
    child = Child(SPACE, row, SCALE, generator())
    assert sum(weight.numel() for weight in child.parameters()) == int(SPACE.cost(torch.tensor([row]), SCALE).params)
    assert not any("convolutions" in name for name, _ in child.named_parameters())


def test_too_few_filters_a_supernet_and_drop_path_are_refused() -> None:
    row = cells(1)[0].tolist()
    with pytest.raises(UserError, match=r"network.filters=3: .* allowed is 4 or more"):
        SPACE.network(Scale(1, 3, 8, 8, 1, 2), generator(), row)
    with pytest.raises(ValueError, match="no supernet"):
        SPACE.network(SCALE, generator())
    assert not SPACE.network(SCALE, generator(), row).drops_paths


def test_a_cell_is_described_as_the_official_api_takes_it() -> None:
    row = row_of(INCEPTION, [C1, C3, C3, C3, MP])
    described = SPACE.describe(row)
    assert described["counted"] == {"matrix": INCEPTION, "operations": ["input", C1, C3, C3, C3, MP, "output"]}
    assert described["vertices"][3] == {"name": "vertex4", "operation": C3, "inputs": ["vertex3"]}
    loose = SPACE.text(row_of([[0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], [C3, C1])).splitlines()
    assert loose[1] == "vertex2 = conv1x1-bn-relu(vertex1), does not count"
    assert loose[5] == "output = input"
    assert SPACE.text(row).splitlines()[3:] == [
        "vertex4 = conv3x3-bn-relu(vertex3)",
        "vertex5 = maxpool3x3(input)",
        "output = concat(vertex1, vertex2, vertex4, vertex5)",
    ]
