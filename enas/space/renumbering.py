"""One row for all that differ in the order of a cell's nodes and of their two sides alone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import permutations

import torch
from torch import Tensor


def smallest_order(
    nodes: Tensor,
    operations: int,
    together: Collection[int] | None = None,
    simplified: Callable[[Tensor, Tensor], Tensor] = lambda source, _: source,
) -> Tensor:
    """The smallest row, read left to right, among all orders of the nodes and of their sides.

    nodes       int64 [N, n, 4 or more]: source, operation, source, operation of each node, and what else belongs to it
    operations  the number of operation codes
    together    nodes that change places among themselves only, and so do the others; None: every node with every other
    simplified  sources [N, n, 2] and operations [N, n, 2] -> sources, of which those that make no difference are set to
                the least that they may be

    A node may read slots 0 and 1 and every node before it; orders in which one reads ahead do not count.
    """
    count, device = nodes.shape[1], nodes.device
    best = None
    for order in permutations(range(count)):
        if together is not None and any((old in together) != (new in together) for new, old in enumerate(order)):
            continue
        label = torch.empty(count + 2, dtype=torch.int64, device=device)
        label[:2] = torch.arange(2, device=device)
        label[torch.tensor(order, device=device) + 2] = torch.arange(2, count + 2, device=device)
        moved = nodes[:, list(order)]
        source, operation = moved[..., 0:4:2], moved[..., 1:4:2]
        source = simplified(label[source], operation)
        ahead = (source >= torch.arange(2, count + 2, device=device)[:, None]).flatten(1).any(dim=1)
        side = (source * operations + operation).sort(dim=2).values
        sides = torch.stack([side // operations, side % operations], dim=3).flatten(2)
        row = torch.cat([sides, moved[..., 4:]], dim=2).flatten(1)
        row = torch.where(ahead[:, None], torch.iinfo(torch.int64).max, row)
        best = row if best is None else _smaller(best, row)
    assert best is not None
    return best.reshape(nodes.shape)


def _smaller(one: Tensor, other: Tensor) -> Tensor:
    """The lexicographically smaller of two rows, for each pair of rows [N, L]."""
    differs = one != other
    first = differs.to(torch.int8).argmax(dim=1, keepdim=True)
    return torch.where(one.gather(1, first) <= other.gather(1, first), one, other)
