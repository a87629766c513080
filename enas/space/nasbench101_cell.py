"""Cells of NAS-Bench-101 as numbers: which edges count, the nearest legal cell, one number for all isomorphic cells.

A matrix of edges is an int64 of 21 bits: bit x + y (y - 1) / 2 is the edge x -> y, x < y; vertex 0 is the input, 6 the
output, as the benchmark's authors number them.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations

import torch
from torch import Tensor

VERTICES, MOST_EDGES = 7, 9
INNER = VERTICES - 2
OUTPUT = VERTICES - 1
EDGES = tuple((source, vertex) for vertex in range(1, VERTICES) for source in range(vertex))
"""(source, vertex) of each bit."""
FIRST = tuple(vertex * (vertex - 1) // 2 for vertex in range(VERTICES))
"""The bit of the first edge into each vertex."""
OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
"""The official names."""
CONVOLUTION_3, CONVOLUTION_1, MAX_POOL_3 = range(3)
CHUNK = 4096
"""Rows that are renumbered at once: each takes 120 numbers."""


def entering(edges: Tensor, vertex: int) -> Tensor:
    """Matrices int64 [...] -> int64 [...]: bit x is the edge x -> `vertex`."""
    found: Tensor = (edges >> FIRST[vertex]) & (2**vertex - 1)
    return found


def used_vertices(edges: Tensor) -> Tensor:
    """Matrices int64 [...] -> int64 [...]: bit v says that vertex v is on a way from the input to the output.

    All bits are 0 where there is no such way.
    """
    reached = torch.ones_like(edges)
    for vertex in range(1, VERTICES):
        reached = reached | (((entering(edges, vertex) & reached) != 0).long() << vertex)
    useful = leading(edges)
    return torch.where(reached >> OUTPUT > 0, reached & useful, 0)


def leading(edges: Tensor) -> Tensor:
    """Matrices int64 [...] -> int64 [...]: bit v says that there is a way from vertex v to the output."""
    useful = torch.full_like(edges, 1 << OUTPUT)
    for vertex in range(OUTPUT, 0, -1):
        useful = useful | entering(edges, vertex) * ((useful >> vertex) & 1)
    return useful


def prune(edges: Tensor, used: Tensor | None = None) -> Tensor:
    """Matrices int64 [...] -> the edges between used vertices; none where input and output are not connected."""
    used = used_vertices(edges) if used is None else used
    pruned = torch.zeros_like(edges)
    for vertex in range(1, VERTICES):
        kept = entering(edges, vertex) & used
        pruned = pruned | (kept * ((used >> vertex) & 1) << FIRST[vertex])
    return pruned


def count(edges: Tensor) -> Tensor:
    """Matrices int64 [...] -> how many edges they have, int64 [...]."""
    return ((edges.unsqueeze(-1) >> torch.arange(len(EDGES), device=edges.device)) & 1).sum(dim=-1)


def is_legal(edges: Tensor) -> Tensor:
    """Matrices int64 [...] -> bool [...]: input and output are connected, and at most nine edges count."""
    edges_that_count = count(prune(edges))
    return (edges_that_count > 0) & (edges_that_count <= MOST_EDGES)


def make_legal(edges: Tensor) -> Tensor:
    """Matrices int64 [n] -> legal ones, int64 [n]; legal ones stay as they are.

    Where there is no way, the first vertex that leads to the output is given the input. Then edges are removed one by
    one, each time the one that takes the fewest others with it, of equals the last, until nine or fewer count.
    """
    illegal = ~is_legal(edges)
    if not bool(illegal.any()):
        return edges
    legal = edges.clone()
    legal[illegal] = _remove(_connect(edges[illegal]))
    return legal


def _connect(edges: Tensor) -> Tensor:
    useful = leading(edges)
    first = torch.full_like(edges, OUTPUT)
    for vertex in range(OUTPUT - 1, 0, -1):
        first = torch.where((useful >> vertex) & 1 > 0, vertex, first)
    bit = torch.tensor(FIRST, device=edges.device)[first]
    return torch.where(prune(edges) == 0, edges | (torch.ones_like(edges) << bit), edges)


def _remove(edges: Tensor) -> Tensor:
    single = torch.ones(1, dtype=torch.int64, device=edges.device) << torch.arange(len(EDGES), device=edges.device)
    edges = edges.clone()
    while bool((excess := count(prune(edges)) > MOST_EDGES).any()):
        fewer = edges[excess, None] & ~single
        # Those that do not count are no candidates: they take nothing with them and help nothing.
        counts = prune(edges[excess])[:, None] & single != 0
        left = torch.where(counts, count(prune(fewer)), -1)
        last_of_best = len(EDGES) - 1 - left.flip(1).argmax(dim=1)
        edges[excess] = fewer.gather(1, last_of_best[:, None])[:, 0]
    return edges


def number(edges: Tensor, operations: Tensor) -> Tensor:
    """Cells as int64 [n] and [n, 5] -> int64 [n]: matrix * 243 + operations, the smallest of all isomorphic cells.

    Only what counts is in it: edges between used vertices; the operation of a vertex that is not used becomes 0.
    """
    used = used_vertices(edges)
    operations = torch.where((used[:, None] >> torch.arange(1, OUTPUT, device=edges.device)) & 1 > 0, operations, 0)
    parts = zip(torch.split(prune(edges, used), CHUNK), torch.split(operations, CHUNK), strict=True)
    return torch.cat([_smallest(*part) for part in parts])


def renumber(edges: Tensor, operations: Tensor) -> tuple[Tensor, Tensor]:
    """Cells as int64 [n] and [n, 5] -> of all isomorphic cells the one that `number` speaks of."""
    code = number(edges, operations)
    digits = 3 ** torch.arange(INNER, device=edges.device)
    return code // 3**INNER, (code % 3**INNER)[:, None] // digits % 3


def _smallest(edges: Tensor, operations: Tensor) -> Tensor:
    """Matrices [n] and operations [n, 5] -> the smallest number over all orders of the inner vertices."""
    moved_edges, moved_operations = (table.to(edges.device) for table in _orders())
    parts = [moved_edges[place].index_select(0, (edges >> 7 * place) & 127) for place in range(3)]
    labels = (operations * 3 ** torch.arange(INNER, device=edges.device)).sum(dim=1)
    codes: Tensor = (parts[0] | parts[1] | parts[2]) * 3**INNER + moved_operations.index_select(0, labels)
    smallest: Tensor = codes.amin(dim=1)
    return smallest.long()


@cache
def _orders() -> tuple[Tensor, Tensor]:
    """What each of the 120 orders of the inner vertices makes of seven bits of a matrix, and of five operations.

    int32 [3, 128, 120] and [243, 120]. An edge that would lead backwards sets bit 21, which makes the number a large
    one: the order the cell stands in leads no edge backwards, so that the smallest number never has it.
    """
    orders = [(0, *order, OUTPUT) for order in permutations(range(1, OUTPUT))]
    edges = torch.zeros(len(EDGES), len(orders), dtype=torch.int64)
    for column, order in enumerate(orders):
        for bit, (source, vertex) in enumerate(EDGES):
            backwards = order[source] > order[vertex]
            edges[bit, column] = 1 << (len(EDGES) if backwards else FIRST[order[vertex]] + order[source])
    present = (torch.arange(128)[:, None] >> torch.arange(7)) & 1
    sevens = torch.zeros(3, 128, len(orders), dtype=torch.int64)
    for bit in range(len(EDGES)):
        sevens[bit // 7] |= present[:, bit % 7, None] * edges[bit]
    places = torch.tensor([order[1:OUTPUT] for order in orders]) - 1
    digits = torch.arange(3**INNER)[:, None] // 3 ** torch.arange(INNER) % 3
    return sevens.int(), (digits[:, None, :] * 3**places).sum(dim=2).int()
