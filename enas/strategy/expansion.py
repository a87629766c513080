"""What rows become when one block of their decisions changes: the levels of a progressive search."""

from __future__ import annotations

import math
from itertools import groupby

import torch
from torch import Tensor

from enas.space import SearchSpace

ABSENT = "absent"


class Expansion:
    """The blocks of a space, and rows in which one of them is anything it can be.

    A block are the decisions of one owner, in the order of sampling: of two cells with equal nodes first those of one,
    then those of the other, since the alternatives of both together would be too many to rank. A space grows where a
    decision other than a skip offers `absent` first: a row of its first blocks is one in which the others are absent.

    limit  rows that one expansion gives at most, or one for each row that is expanded
    """

    def __init__(self, space: SearchSpace, limit: int):
        self.space, self.limit = space, limit
        order = groupby(space.sampling_order, key=lambda place: space.decisions[place].owner)
        self.blocks = [torch.tensor(list(places)) for _, places in order]
        absent = [decision.kind != "skip" and decision.alternatives[0] == ABSENT for decision in space.decisions]
        self.grows = any(absent)
        self._least = torch.tensor(absent).long()

    def first(self, generator: torch.Generator) -> Tensor:
        """The rows int64 [k, D] that have the first block alone; none where the space does not grow."""
        row = torch.zeros(int(self.grows), len(self.space.decisions), dtype=torch.int64)
        return self.of(row, 0, generator)

    def takes_part(self, rows: Tensor, block: int) -> Tensor:
        """Rows [n, D] -> bool [n]: whether `block` has a decision that is active."""
        return self.space.active(rows)[:, self.blocks[block]].any(dim=1)

    def of(self, rows: Tensor, block: int, generator: torch.Generator) -> Tensor:
        """Rows [n, D] in which `block` takes part -> [k, D]: it is anything but absent, all else that is active stays.

        Where that would be more than `limit` rows, `generator` draws as many, evenly from each row.
        """
        if not len(rows):
            return rows
        places = self.blocks[block]
        sizes, each = self.space.sizes(rows.device)[places] - self._least[places], max(1, self.limit // len(rows))
        count = math.prod(sizes.tolist())
        if count <= each:
            own = torch.cartesian_prod(*(torch.arange(size) for size in sizes.tolist())).reshape(count, -1)
            own = own.repeat(len(rows), 1)
        else:
            count = each
            own = (torch.rand(len(rows) * each, len(places), generator=generator, dtype=torch.float64) * sizes).long()
        expanded = rows.repeat_interleave(count, dim=0)
        expanded[:, places] = own + self._least[places]
        expanded = self.space.settle(expanded)
        return expanded[self.space.legal(expanded)] if self.space.constrained else expanded

    def cut(self, rows: Tensor, blocks: int) -> Tensor:
        """Rows [n, D] without all but the first `blocks`, where the space grows; else as they are."""
        if not self.grows or blocks >= len(self.blocks):
            return rows
        left = torch.cat(self.blocks[blocks:]).to(rows.device)
        return self.space.repair(rows.index_fill(1, left, 0))
