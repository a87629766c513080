"""The cell space of DARTS (Liu, Simonyan and Yang, ICLR 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import combinations
from typing import Any, ClassVar

import torch
from torch import Tensor

from enas.errors import UserError
from enas.space.base import Decision, Resident
from enas.space.darts_network import DartsNetwork
from enas.space.pair_network import PairNetwork
from enas.space.pair_operations import DilatedSeparable, Identity, PairOperation, Pool, Separable, Zero
from enas.space.pair_space import OPERATION, SIDES, SOURCE, PairSpace, check_nodes, slot_name
from enas.space.pair_stacking import PairStack, stack_among
from enas.space.relaxable import Edge, RelaxableSpace
from enas.space.scale import Scale
from enas.space.stacking import Kind

OPERATIONS: tuple[PairOperation, ...] = (
    Zero("none"),
    Pool("max_pool_3x3", "max", 3, normed=True),
    Pool("average_pool_3x3", "average", 3, normed=True),
    Identity("identity", reduced=True),
    Separable("separable_3x3", 3),
    Separable("separable_5x5", 5),
    DilatedSeparable("dilated_3x3", 3),
    DilatedSeparable("dilated_5x5", 5),
)
NONE = 0
PUBLISHED_NAMES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""What the authors' genotypes call the operations."""


class Darts(PairSpace, RelaxableSpace):
    """A normal and a reduction cell; a node sums two operations, which read two different slots.

    A row holds the normal cell, then the reduction cell; each node is `sources, operation, operation`: which two slots
    it reads, one decision, then the operation on the lower and on the higher slot. A cell gives all its nodes,
    concatenated. `scale.layers` counts all cells (8 in the published search, 20 in the final network), the two
    reduction cells too; `scale.filters` are those of the first cell (16 and 36).

    Edges of the mixture are all slots that a node may read, each with all operations: 14 in a cell of four nodes.
    """

    name = "darts"
    partial = True
    operations: ClassVar[tuple[PairOperation, ...]] = OPERATIONS
    sided: ClassVar[bool] = False
    made: ClassVar[type[PairNetwork]] = DartsNetwork

    def __init__(self, nodes: int = 4):
        check_nodes(nodes)
        self.nodes = nodes
        self.outputs: Mapping[Kind, tuple[int, ...] | None] = dict.fromkeys(self.searched, tuple(range(2, nodes + 2)))
        self.decisions = tuple(
            decision for cell in self.cells for node in range(2, nodes + 2) for decision in self._node(cell, node)
        )
        self.sampling_order = tuple(range(len(self.decisions)))
        self.edges = tuple(
            Edge(f"{cell}/{slot_name(node)}", f"{cell}/{slot_name(source)}")
            for cell in self.cells
            for node in range(2, nodes + 2)
            for source in range(node)
        )
        self.candidates = tuple(operation.name for operation in OPERATIONS)

    def _node(self, cell: str, node: int) -> list[Decision]:
        owner, step = f"{cell}/node{node}", (self.cells.index(cell) * self.nodes + node) * 3
        sources = tuple("+".join(map(slot_name, pair)) for pair in combinations(range(node), 2))
        # A decision about a pair of nodes is none about a node: a controller cannot point, and chooses by a softmax.
        decisions = [Decision(f"{owner}/sources", "combine", sources, f"sources{node}", step, owner)]
        for place, side in enumerate(SIDES, 1):
            operations = tuple(operation.name for operation in OPERATIONS)
            name = f"{owner}/{side}/operation"
            decisions.append(Decision(name, "operation", operations, "operation", step + place, owner))
        return decisions

    @property
    def arguments(self) -> dict[str, Any]:
        return {"nodes": self.nodes}

    def sources_of(self, decision: Decision) -> tuple[tuple[str, ...], ...]:
        """A pair of sources has the left operation read the first, the right one the second."""
        if decision.kind == "operation":
            return super().sources_of(decision)
        cell = decision.owner.partition("/")[0]
        return tuple(tuple(f"{cell}/{slot}" for slot in pair.split("+")) for pair in decision.alternatives)

    def stack(self, scale: Scale) -> PairStack:
        return stack_among(scale, "cifar", auxiliary="at")

    @cached_property
    def _pairs(self) -> Resident:
        """int64 [nodes, most pairs, 2]: the two slots of each alternative."""
        table = torch.zeros(self.nodes, self.nodes * (self.nodes + 1) // 2, 2, dtype=torch.int64)
        for node in range(self.nodes):
            own = list(combinations(range(node + 2), 2))
            table[node, : len(own)] = torch.tensor(own)
        return Resident(table)

    @cached_property
    def _alternatives(self) -> Resident:
        """int64 [nodes, slots, slots]: the alternative of two slots, the lower one first."""
        table = torch.zeros(self.nodes, self.nodes + 2, self.nodes + 2, dtype=torch.int64)
        for node in range(self.nodes):
            for place, (low, high) in enumerate(combinations(range(node + 2), 2)):
                table[node, low, high] = place
        return Resident(table)

    def pairs(self, choices: Tensor) -> Tensor:
        cells = choices.reshape(-1, len(self.cells), self.nodes, 3)
        node = torch.arange(self.nodes, device=choices.device)
        low, high = self._pairs.on(choices.device)[node, cells[..., 0]].unbind(dim=-1)
        left, right = cells[..., 1:].unbind(dim=-1)
        return torch.stack([low, left, high, right, torch.zeros_like(low)], dim=-1)

    def choices_of(self, pairs: Tensor) -> Tensor:
        node = torch.arange(self.nodes, device=pairs.device)
        sources = self._alternatives.on(pairs.device)[node, pairs[..., 0], pairs[..., 2]]
        return torch.stack([sources, pairs[..., 1], pairs[..., 3]], dim=-1).flatten(1)

    def _simplified(self, source: Tensor, operation: Tensor) -> Tensor:
        """What `none` reads makes no difference: the lowest slot that the other operation does not read."""
        for side in (0, 1):
            other = source[..., 1 - side]
            free = torch.where(other == 0, 1, 0)
            chosen = torch.where(operation[..., side] == NONE, free, source[..., side])
            source = torch.stack([chosen, other] if side == 0 else [other, chosen], dim=-1)
        return source

    def network(
        self,
        scale: Scale,
        generator: torch.Generator,
        row: Sequence[int] | None = None,
        auxiliary: bool = False,
    ) -> DartsNetwork:
        network = super().network(scale, generator, row, auxiliary)
        assert isinstance(network, DartsNetwork)
        return network

    def to_mixing(self, row: Sequence[int]) -> Tensor:
        """Edges that `row` does not keep are `none`."""
        mixing = torch.zeros(len(self.edges), len(OPERATIONS))
        mixing[:, NONE] = 1.0
        pairs = self.pairs(torch.tensor([list(row)]))[0]
        each = len(self.edges) // len(self.cells)
        for cell, nodes in enumerate(pairs):
            for node, numbers in enumerate(nodes):
                first = cell * each + node * (node + 3) // 2
                for source, operation in zip(numbers[SOURCE].tolist(), numbers[OPERATION].tolist(), strict=True):
                    mixing[first + source] = torch.nn.functional.one_hot(torch.tensor(operation), len(OPERATIONS))
        return mixing

    def discretise(self, mixing: Tensor) -> list[int]:
        """Of each node the two edges whose strongest operation but `none` is strongest, with that operation (DARTS,
        section 2.4). Of equals the first is taken."""
        weights = mixing.detach().double().cpu().clone()
        weights[:, NONE] = -torch.inf
        strength, operation = weights.max(dim=1)
        row, first = [], 0
        for _ in self.cells:
            for node in range(self.nodes):
                order = torch.sort(strength[first : first + node + 2], descending=True, stable=True).indices
                low, high = sorted(order[:2].tolist())
                row += [int(self._alternatives.on(weights.device)[node, low, high])]
                row += [int(operation[first + low]), int(operation[first + high])]
                first += node + 2
        return row

    def parse(self, normal: Sequence[tuple[str, int]], reduction: Sequence[tuple[str, int]]) -> list[int]:
        """A row from the authors' genotype: for each cell (operation, slot) twice a node.

        Raises UserError where a cell has another length, an operation is unknown or a slot is not one that the node
        can read, once.
        """
        row: list[int] = []
        for cell, edges in zip(self.cells, (normal, reduction), strict=True):
            if len(edges) != 2 * self.nodes:
                raise UserError(f"the {cell} cell must have {2 * self.nodes} edges, it has {len(edges)}")
            for node in range(self.nodes):
                own = sorted((slot, name) for name, slot in edges[2 * node : 2 * node + 2])
                slots = tuple(slot for slot, _ in own)
                allowed = list(combinations(range(node + 2), 2))
                if slots not in allowed:
                    names = f"two different slots from 0 to {node + 1}"
                    raise UserError(f"node {node + 2} of the {cell} cell reads {slots}: allowed are {names}")
                for _, name in own:
                    if name not in PUBLISHED_NAMES:
                        raise UserError(f"operation {name!r} is unknown; allowed are {', '.join(PUBLISHED_NAMES)}")
                row += [allowed.index(slots), *(PUBLISHED_NAMES.index(name) for _, name in own)]
        return row
