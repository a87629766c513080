"""The network of NAS-Bench-101: equal cells in three stacks with max pools between, for one row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from enas.errors import UserError
from enas.space.childwise import ChildwiseNetwork
from enas.space.layers import Norms, dense_convolution_norm, linear, max_pool, pool
from enas.space.nasbench101_cell import CONVOLUTION_3, EDGES, FIRST, MAX_POOL_3, OUTPUT, VERTICES, entering
from enas.space.network import Noise
from enas.space.rows import he_normal
from enas.space.scale import Scale

STACKS = 3
FEWEST_FILTERS = 4
"""A cell of nine edges has at most four vertices that the output reads."""


def divide(edges: Tensor, channels: int) -> list[Tensor]:
    """Pruned matrices int64 [n] -> the channels of each of the seven vertices, int64 [n]; 0 for one that is not used.

    Those of the output are divided among the vertices that it reads, the input apart, and the first get one more where
    that does not come out even; any other vertex has as many as the widest that reads it. The input's are not given.
    """
    read = entering(edges, OUTPUT) >> 1
    readers = sum(((read >> place) & 1 for place in range(OUTPUT - 1)), torch.zeros_like(edges))
    share, rest = channels // readers.clamp_min(1), channels % readers.clamp_min(1)
    sizes = [torch.zeros_like(edges) for _ in range(VERTICES)]
    sizes[OUTPUT] = torch.where(edges != 0, channels, sizes[OUTPUT])
    before = torch.zeros_like(edges)
    for vertex in range(1, OUTPUT):
        present = (read >> (vertex - 1)) & 1
        sizes[vertex] = present * (share + (before < rest))
        before = before + present
    for vertex in range(OUTPUT - 2, 0, -1):
        for reader in range(vertex + 1, OUTPUT):
            wider = torch.maximum(sizes[vertex], ((edges >> (FIRST[reader] + vertex)) & 1) * sizes[reader])
            sizes[vertex] = torch.where((read >> (vertex - 1)) & 1 > 0, sizes[vertex], wider)
    return sizes


class _Convolution(nn.Module):
    """Convolution, batch norm, ReLU: kernel [k, k, C, C']."""

    def __init__(self, side: int, inputs: int, outputs: int, generator: torch.Generator):
        super().__init__()
        self.kernel = he_normal((side, side, inputs, outputs), side * side * inputs, generator)
        self.gain = nn.Parameter(torch.ones(outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def compute(self, x: Tensor, norms: Norms, name: str) -> Tensor:
        """[1, B, H, W, C] -> [1, B, H, W, C']."""
        return norms(name, dense_convolution_norm, x, self.kernel, self.gain, self.bias).relu()


class _Cell(nn.Module):
    """One cell; a vertex that reads the input has a 1x1 projection of its own.

    sources     vertex -> what it reads, for each vertex that is used
    operations  inner vertex -> place in OPERATIONS
    """

    def __init__(
        self,
        sources: dict[int, list[int]],
        operations: dict[int, int],
        inputs: int,
        sizes: Sequence[int],
        generator: torch.Generator,
    ):
        super().__init__()
        self._sources, self._operations, self._sizes = sources, operations, sizes
        self.projections, self.convolutions = nn.ModuleDict(), nn.ModuleDict()
        for vertex, read in sources.items():
            if 0 in read:
                self.projections[str(vertex)] = _Convolution(1, inputs, sizes[vertex], generator)
            if vertex < OUTPUT and operations[vertex] != MAX_POOL_3:
                side = 3 if operations[vertex] == CONVOLUTION_3 else 1
                self.convolutions[str(vertex)] = _Convolution(side, sizes[vertex], sizes[vertex], generator)

    def compute(self, x: Tensor, norms: Norms, name: str) -> Tensor:
        """[1, B, H, W, C] -> [1, B, H, W, C']."""
        values: dict[int, Tensor] = {}
        for vertex, read in self._sources.items():
            terms = []
            if 0 in read:
                projection = self.projections[str(vertex)]
                assert isinstance(projection, _Convolution)
                terms.append(projection.compute(x, norms, f"{name}/vertex{vertex}/projection"))
            inner = [values[source] for source in read if source > 0]
            if vertex == OUTPUT:
                terms += [torch.cat(inner, dim=-1)] if inner else []
            else:
                terms += [value[..., : self._sizes[vertex]] for value in inner]  # a source may have one channel more
            value = sum(terms[1:], terms[0])
            if vertex < OUTPUT and self._operations[vertex] == MAX_POOL_3:
                value = max_pool(value)
            elif vertex < OUTPUT:
                convolution = self.convolutions[str(vertex)]
                assert isinstance(convolution, _Convolution)
                value = convolution.compute(value, norms, f"{name}/vertex{vertex}")
            values[vertex] = value
        return values[OUTPUT]


class ModuleNetwork(ChildwiseNetwork):
    """Stem, three stacks of equal cells with max pools between, global pool, classifier.

    Raises UserError for so few filters that a vertex would have no channel.
    """

    drops_paths = False

    def __init__(self, scale: Scale, routes: Tensor, generator: torch.Generator):
        super().__init__(routes)
        if scale.filters < FEWEST_FILTERS:
            raise UserError(
                f"network.filters={scale.filters}: a cell of nasbench101 divides them among up to four vertices; "
                f"allowed is {FEWEST_FILTERS} or more"
            )
        self._layers = scale.layers
        own = routes[0].tolist()
        sources: dict[int, list[int]] = {}
        for source, vertex, present in own[: len(EDGES)]:
            if present:
                sources.setdefault(vertex, []).append(source)
        operations = {vertex: operation for vertex, operation, _ in own[len(EDGES) :]}
        edges = torch.tensor([sum(present << bit for bit, (_, _, present) in enumerate(own[: len(EDGES)]))])
        self.stem = _Convolution(3, scale.channels, scale.filters, generator)
        self.cells = nn.ModuleList()
        inputs = scale.filters
        for stack in range(STACKS):
            channels = scale.filters * 2**stack
            sizes = [int(size) for size in divide(edges, channels)]
            for _ in range(scale.layers):
                self.cells.append(_Cell(sources, operations, inputs, sizes, generator))
                inputs = channels
        self.head = he_normal((channels, scale.classes), channels, generator)
        self.head_bias = nn.Parameter(torch.zeros(scale.classes))

    def begin(self, inputs: Tensor, norms: Norms) -> Tensor:
        return self.stem.compute(inputs, norms, "stem")

    def compute(self, inputs: Tensor, routes: Sequence[Sequence[int]], norms: Norms, noise: Noise | None) -> Tensor:
        x = inputs
        for number, cell in enumerate(self.cells):
            if number and number % self._layers == 0:
                planes = x.flatten(0, 1).permute(0, 3, 1, 2)
                halved = functional.max_pool2d(planes, 2, 2, ceil_mode=True).permute(0, 2, 3, 1)
                x = halved.reshape(*x.shape[:2], *halved.shape[1:])
            assert isinstance(cell, _Cell)
            x = cell.compute(x, norms, f"cell/{number}")
        return linear(pool(x, self.head.dtype, noise), self.head) + self.head_bias
