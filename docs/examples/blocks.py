"""A space of one's own in one file; docs/your-own-space.md goes through it.

enas-search space_file=docs/examples/blocks.py data=digits
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from enas import kernels
from enas.draw import Drawing, Part
from enas.errors import UserError
from enas.kernels import Pointwise
from enas.space import Cost, Decision, Network, Noise, Scale, SearchSpace
from enas.space.childwise import ChildwiseNetwork, WeightRows
from enas.space.layers import Norms, linear, max_pool, pool, separable_norm

OPERATIONS = ("convolution_1x1", "convolution_3x3", "separable_3x3", "max_pool_3x3")
CONVOLUTION_1, CONVOLUTION_3, SEPARABLE_3, MAX_POOL_3 = range(4)


class Blocks(SearchSpace):
    """Blocks that each choose an operation and what it reads: the stem or an earlier block. Their mean goes on.

    `scale.layers` is how often all blocks are repeated, at half the size each time; all have `scale.filters` channels.
    """

    name = "blocks"
    static = False

    def __init__(self, blocks: int = 4):
        if not 1 <= blocks <= 8:
            raise UserError(f"space.blocks={blocks}: allowed are 1 to 8")
        self.blocks = blocks
        decisions: list[Decision] = []
        for block in range(blocks):
            owner = f"block{block}"
            sources = ("stem", *(f"block{earlier}" for earlier in range(block)))
            decisions.append(Decision(f"{owner}/source", "source", sources, "block", len(decisions), owner))
            decisions.append(
                Decision(f"{owner}/operation", "operation", OPERATIONS, "operation", len(decisions), owner)
            )
        self.decisions = tuple(decisions)
        self.sampling_order = tuple(range(len(decisions)))

    @property
    def arguments(self) -> dict[str, Any]:
        return {"blocks": self.blocks}

    def _named(self, row: Sequence[int]) -> list[tuple[str, str, str]]:
        """Each block with its source and its operation."""
        words = [decision.alternatives[choice] for decision, choice in zip(self.decisions, row, strict=True)]
        return [(f"block{block}", words[2 * block], words[2 * block + 1]) for block in range(self.blocks)]

    def describe(self, row: Sequence[int]) -> dict[str, Any]:
        return {block: {"source": source, "operation": operation} for block, source, operation in self._named(row)}

    def text(self, row: Sequence[int]) -> str:
        return "\n".join(f"{block} = {operation}({source})" for block, source, operation in self._named(row))

    def drawings(self, row: Sequence[int]) -> dict[str, Drawing]:
        nodes = {block: [Part("operation", source, operation)] for block, source, operation in self._named(row)}
        note = "Every block reads the stem or an earlier block."
        return {"blocks": Drawing("blocks", note, {"stem": "3×3 conv"}, nodes, list(nodes), "mean")}

    def route(self, choices: Tensor) -> Tensor:
        """[M, D] -> int32 [M, blocks, 3]: (0 for the stem or 1 + block, operation, the block's own row of weights)."""
        source, operation = choices.view(-1, self.blocks, 2).unbind(dim=2)
        row = torch.arange(self.blocks, device=choices.device).expand_as(source)
        return torch.stack([source, operation, row], dim=2).to(torch.int32)

    def cost(self, choices: Tensor, scale: Scale) -> Cost:
        channels, operation = scale.filters, choices[:, 1::2]
        weights = torch.tensor([channels**2, 9 * channels**2, 9 * channels + channels**2, 0], device=choices.device)
        norms = 2 * channels * (operation != MAX_POOL_3).sum(dim=1)
        a_layer, stem = weights[operation].sum(dim=1), 9 * scale.channels * channels
        params = scale.layers * (a_layer + norms) + stem + 2 * channels + channels * scale.classes
        macs = torch.full_like(params, stem * scale.height * scale.width + channels * scale.classes)
        for halvings in range(scale.layers):
            macs += a_layer * (-(-scale.height // 2**halvings)) * (-(-scale.width // 2**halvings))
        return Cost(params, macs)

    def network(
        self, scale: Scale, generator: torch.Generator, row: Sequence[int] | None = None, auxiliary: bool = False
    ) -> Network:
        self.refuse_auxiliary(auxiliary)
        return BlocksNetwork(scale, self.blocks, self.routes_of(row), generator)


class BlocksNetwork(ChildwiseNetwork):
    """Stem, blocks, classifier: the supernet where `routes` is None, else the child that they describe."""

    def __init__(self, scale: Scale, blocks: int, routes: Tensor | None, generator: torch.Generator):
        super().__init__(routes)
        channels = scale.filters
        shapes: dict[int, dict[str, tuple[tuple[int, ...], int]]] = {
            CONVOLUTION_1: {"weight": ((channels, channels), channels)},
            CONVOLUTION_3: {"kernel": ((3, 3, channels, channels), 9 * channels)},
            SEPARABLE_3: {"depthwise": ((3, 3, channels), 9), "pointwise": ((channels, channels), channels)},
        }
        rows = {code: list(range(blocks)) for code in shapes}
        if routes is not None:  # a child keeps the rows that it uses
            rows = {code: [row for _, own, row in routes[0].tolist() if own == code] for code in shapes}
        self.stem = WeightRows(
            [0], {"kernel": ((3, 3, scale.channels, channels), 9 * scale.channels)}, channels, generator
        )
        self.layers = scale.layers
        self.tables = nn.ModuleDict(
            {
                f"{layer}/{OPERATIONS[code]}": WeightRows(rows[code], shapes[code], channels, generator)
                for layer in range(scale.layers)
                for code in shapes
            }
        )
        self.head = WeightRows([0], {"weight": ((channels, scale.classes), channels)}, 0, generator)

    def begin(self, inputs: Tensor, norms: Norms) -> Tensor:
        return norms("stem", kernels.convolution_norm, inputs, *self.stem.row(0))

    def compute(self, inputs: Tensor, routes: Sequence[Sequence[int]], norms: Norms, noise: Noise | None) -> Tensor:
        x, [weight] = inputs, self.head.row(0)
        for layer in range(self.layers):
            if layer > 0:
                planes = functional.avg_pool2d(x[0].permute(0, 3, 1, 2), 2, ceil_mode=True, count_include_pad=False)
                x = planes.permute(0, 2, 3, 1)[None]
            values = [x]
            for source, code, row in routes:
                values.append(self.operate(layer, values[source], code, row, norms))
            x = torch.stack(values[1:]).mean(dim=0)
        return linear(pool(x, weight.dtype, noise), weight)

    def operate(self, layer: int, x: Tensor, code: int, row: int, norms: Norms) -> Tensor:
        """One block: [1, B, H, W, C] -> the same shape."""
        if code == MAX_POOL_3:
            return max_pool(x)
        table = self.tables[f"{layer}/{OPERATIONS[code]}"]
        assert isinstance(table, WeightRows)
        name, weights = f"{layer}/block{row}", table.row(row)
        if code == CONVOLUTION_1:
            return norms(name, kernels.pointwise_norm, x, Pointwise(*(tensor[None] for tensor in weights)))
        if code == CONVOLUTION_3:
            return norms(name, kernels.convolution_norm, x.relu(), *weights)
        return norms(name, separable_norm, x, *weights)
