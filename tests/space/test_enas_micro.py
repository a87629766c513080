"""The ENAS cell space: routes, canonical rows, graphs, the authors' strings."""

import random
from collections.abc import Iterator
from itertools import permutations, product

import pytest
import torch

from conformance import SCALE, generator, images
from enas.errors import UserError
from enas.space import EnasMicro, build_space
from enas.supernet import Supernet
from tolerances import SAME, assert_same

NORMAL = "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1"
REDUCTION = "1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"

Node = tuple[tuple[int, int], tuple[int, int]]  # ((source, operation), (source, operation))


def nodes_of(cell: list[int]) -> list[Node]:
    return [((cell[at], cell[at + 1]), (cell[at + 2], cell[at + 3])) for at in range(0, len(cell), 4)]


def relabelled(cell: list[int], order: tuple[int, ...], swaps: tuple[bool, ...]) -> list[int] | None:
    """The cell with its nodes built in another order and sides swapped; None where a node would read a later one."""
    nodes = nodes_of(cell)
    place = {0: 0, 1: 1} | {node + 2: position + 2 for position, node in enumerate(order)}
    row: list[int] = []
    for position, node in enumerate(order):
        sides = nodes[node][::-1] if swaps[position] else nodes[node]
        for source, operation in sides:
            if place[source] >= position + 2:
                return None
            row += [place[source], operation]
    return row


def relabellings(cell: list[int]) -> Iterator[list[int]]:
    count = len(cell) // 4
    for order in permutations(range(count)):
        for swaps in product((False, True), repeat=count):
            row = relabelled(cell, order, swaps)
            if row is not None:
                yield row


@pytest.mark.parametrize("nodes", [1, 3, 5])
def test_canonical_rows_ignore_the_order_of_nodes_and_sides(nodes: int) -> None:
    space = EnasMicro(nodes)
    shuffled = random.Random(nodes)
    for row in space.random(8, generator(nodes)).tolist():
        half = 4 * nodes
        normal, reduction = list(relabellings(row[:half])), list(relabellings(row[half:]))
        assert len(normal) >= 2**nodes
        others = [shuffled.choice(normal) + shuffled.choice(reduction) for _ in range(100)]
        canonical = space.canonical(torch.tensor([row, *others]))
        assert len(canonical.unique(dim=0)) == 1
        # It is one of the relabellings, so that it means the same.
        assert canonical[0, :half].tolist() in normal
        assert canonical[0, half:].tolist() in reduction


def test_canonical_rows_are_equal_only_for_relabellings() -> None:
    space = EnasMicro(2)
    cells = [list(cell) for cell in product(range(2), range(5), range(2), range(5), range(3), range(5), range(3), [4])]
    other = [0, 0, 0, 0, 0, 0, 0, 0]
    canonical = space.canonical(torch.tensor([cell + other for cell in cells])).tolist()
    classes = {tuple(min(relabellings(cell))) for cell in cells}
    assert len({tuple(row) for row in canonical}) == len(classes)


def test_equal_canonical_rows_are_equal_functions_of_their_own_weights() -> None:
    """A row and its relabelling, with the weights of the first moved to where the second looks for them."""
    space = EnasMicro(3)
    reduction = [0, 4, 1, 4, 1, 0, 0, 2, 2, 1, 3, 4]
    row = [0, 0, 1, 1, 0, 3, 2, 1, 1, 2, 0, 4]
    order, swaps = (2, 0, 1), (True, False, True)
    moved = relabelled(row, order, swaps)
    assert moved is not None
    assert moved != row
    rows = torch.tensor([row + reduction, moved + reduction])
    assert torch.equal(*space.canonical(rows))
    old, new = space.route(rows)[:, : space.edges, 2].reshape(2, 3, 2).tolist()  # weight row by node and side
    first, second = (Supernet(space, SCALE, generator(1)).double() for _ in range(2))
    with torch.no_grad():
        for own, other in zip(first.network.cells, second.network.cells, strict=True):
            if own.placement.kind == "reduction":
                continue
            for place, node in enumerate(order):
                other.project.weight[place + 2] = own.project.weight[node + 2]
                for side in (0, 1):
                    old_row, new_row = old[node][side], new[place][side ^ swaps[place]]
                    for table in ("separable3", "separable5"):
                        for name, parameter in own.get_submodule(table).named_parameters():
                            other.get_submodule(table).get_parameter(name)[new_row] = parameter[old_row]
    inputs = images().double()
    assert_same(second(inputs, rows[1:]), first(inputs, rows[:1]))


@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_every_edge_has_its_own_weight_row(nodes: int) -> None:
    space = EnasMicro(nodes)
    for kernel in (0, 1):
        seen: dict[tuple[int, int, int], int] = {}
        for row in space.random(400, generator()).tolist():
            row[1::2] = [kernel] * len(row[1::2])
            routes = space.route(torch.tensor([row]))[0]
            for cell in routes.split(space.edges):
                for edge, (source, operation, weight_row) in enumerate(cell.tolist()):
                    assert operation == kernel
                    assert seen.setdefault((edge // 2, edge % 2, source), weight_row) == weight_row
        assert len(seen) == sum(2 * (node + 2) for node in range(nodes))
        assert sorted(seen.values()) == list(range(len(seen)))


def test_strided_identities_have_their_own_weight_row() -> None:
    space = EnasMicro(4)
    seen = set()
    for node, side, source in product(range(4), range(2), range(2)):
        row = [0] * 32
        row[16 + 4 * node + 2 * side] = source
        row[16 + 4 * node + 2 * side + 1] = 4
        edge = space.route(torch.tensor([row]))[0, 8 + 2 * node + side].tolist()
        assert edge[:2] == [source, 4]
        seen.add(edge[2])
    assert seen == set(range(16))


def test_routes_spell_the_row_out() -> None:
    space = EnasMicro()
    rows = space.random(50, generator())
    routes = space.route(rows)
    assert routes.shape == (50, 20, 3)
    assert torch.equal(routes[..., 0].long(), rows[:, 0::2])
    assert torch.equal(routes[..., 1].long(), rows[:, 1::2])


def test_routes_index_the_tables_of_the_supernet() -> None:
    for output in ("project", "concat"):
        space = EnasMicro(3, output)  # type: ignore[arg-type]
        cell = Supernet(space, SCALE, generator()).network.cells[0]
        assert cell.placement.kind == "reduction"
        routes = space.route(space.random(500, generator()))
        for code, table in ((0, cell.separable3.gain), (1, cell.separable5.gain), (4, cell.identity.gain)):
            chosen = routes[routes[..., 1] == code]
            assert int(chosen[:, 2].min()) == 0
            assert int(chosen[:, 2].max()) == len(table) - 1


def test_decisions_of_the_published_size() -> None:
    space = EnasMicro()
    assert len(space.decisions) == 40
    assert [len(decision.alternatives) for decision in space.decisions][:12] == [2, 5, 2, 5, 3, 5, 3, 5, 4, 5, 4, 5]
    first = [space.decisions[place].name for place in space.sampling_order[:4]]
    assert first == [
        "normal/node2/left/source",
        "normal/node2/right/source",
        "normal/node2/left/operation",
        "normal/node2/right/operation",
    ]


def test_the_published_cells_are_read_and_written() -> None:
    space = EnasMicro(output="concat")
    row = space.parse(NORMAL, REDUCTION)
    assert row == [int(word) for word in f"{NORMAL} {REDUCTION}".split()]
    assert space.strings(row) == (NORMAL, REDUCTION)
    graph = space.describe(row)
    assert graph["normal"]["nodes"][0] == {
        "name": "node2",
        "left": {"source": "input0", "operation": "average_pool_3x3"},
        "right": {"source": "input0", "operation": "separable_3x3"},
    }
    assert graph["reduction"]["nodes"][2] == {
        "name": "node4",
        "left": {"source": "input1", "operation": "separable_5x5"},
        "right": {"source": "node3", "operation": "separable_5x5"},
    }
    assert graph["normal"]["output"] == ["node2", "node3", "node4", "node5", "node6"]
    assert graph["reduction"]["output"] == ["node2", "node4", "node5", "node6"]
    assert graph["combine"] == "concat"


def test_text_has_a_line_a_node_and_the_output() -> None:
    space = EnasMicro(2)
    assert space.text([0, 0, 1, 1, 2, 2, 0, 3, 1, 4, 1, 4, 0, 1, 1, 0]).splitlines() == [
        "normal cell:",
        "  node2 = separable_3x3(input0) + separable_5x5(input1)",
        "  node3 = average_pool_3x3(node2) + max_pool_3x3(input0)",
        "  output = project(node3)",
        "reduction cell:",
        "  node2 = identity(input1) + identity(input1)",
        "  node3 = separable_5x5(input0) + separable_3x3(input1)",
        "  output = project(node2, node3)",
    ]


@pytest.mark.parametrize(
    ("normal", "reduction", "said"),
    [
        (NORMAL[:-2], REDUCTION, "normal cell must have 20 integers, it has 19"),
        (NORMAL, REDUCTION + " 0", "reduction cell must have 20 integers, it has 21"),
        ("", REDUCTION, "it has 0"),
        (NORMAL.replace("4", "5"), REDUCTION, "choice 5 of decision normal/node3/left/operation"),
        ("2" + NORMAL[1:], REDUCTION, "choice 2 of decision normal/node2/left/source"),
        (NORMAL, REDUCTION.replace("1", "-1", 1), "choice -1 of decision reduction/node2/left/source"),
        (NORMAL.replace("4", "four", 1), REDUCTION, "normal cell .* must hold integers"),
        (NORMAL.replace(" ", ",", 1), REDUCTION, "must hold integers"),
    ],
)
def test_bad_strings_are_refused(normal: str, reduction: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        EnasMicro().parse(normal, reduction)


@pytest.mark.parametrize("value", [0, 8, -1, 2.0, "2", True, None])
def test_a_bad_number_of_nodes_is_refused(value: object) -> None:
    with pytest.raises(UserError, match="nodes"):
        build_space("enas_micro", {"nodes": value})


@pytest.mark.parametrize("value", ["sum", "", None, 1, ["project"]])
def test_a_bad_output_is_refused(value: object) -> None:
    with pytest.raises(UserError, match="allowed are project and concat"):
        build_space("enas_micro", {"output": value})


def test_unknown_spaces_and_arguments_are_refused() -> None:
    with pytest.raises(UserError, match=r"'enas_mikro' is unknown, allowed are .*enas_micro"):
        build_space("enas_mikro", {})
    with pytest.raises(UserError, match="no argument 'depth'; it has nodes, output"):
        build_space("enas_micro", {"depth": 3})


def test_loose_ends_are_what_no_node_reads() -> None:
    space = EnasMicro(5)
    rows = space.random(100, generator())
    loose = space.loose_ends(rows)
    assert loose.shape == (100, 2, 7)
    for row, cells in zip(rows.tolist(), loose.tolist(), strict=True):
        graph = space.describe(row)
        for cell, ends in zip(("normal", "reduction"), cells, strict=True):
            names = [f"input{slot}" if slot < 2 else f"node{slot}" for slot, end in enumerate(ends) if end]
            assert graph[cell]["output"] == names
            assert f"node{6}" in names


@pytest.mark.parametrize("output", ["project", "concat"])
def test_changing_any_decision_changes_the_output(output: str) -> None:
    """In the supernet, where every edge has weights of its own, no decision is without effect."""
    space = EnasMicro(3, output)  # type: ignore[arg-type]
    supernet = Supernet(space, SCALE, generator(1)).double()
    inputs = images(batch=2, seed=1).double()
    for row in space.random(3, generator(7)):
        others = []
        for place, decision in enumerate(space.decisions):
            for choice in range(len(decision.alternatives)):
                if choice != row[place]:
                    other = row.clone()
                    other[place] = choice
                    others.append(other)
        rows = torch.stack([row, *others])
        with torch.no_grad():
            logits = supernet(inputs, rows)
        changed = (logits[1:] - logits[0]).abs().flatten(1).amax(dim=1) > 1e3 * SAME[torch.float64].atol
        same_canonical = (space.canonical(rows[1:]) == space.canonical(row[None])).all(dim=1)
        assert (changed | same_canonical).all()
        assert changed.float().mean() > 0.9
