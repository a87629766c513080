"""The recurrent language model of one searched cell: for the supernet and for one child."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from enas.space.layers import keep
from enas.space.network import Network, Noise, Output
from enas.space.scale import Scale

ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")
"""In the order of the authors' corrected code; their places are the codes of a route."""
FUNCTIONS: tuple[Callable[[Tensor], Tensor], ...] = (torch.tanh, torch.relu, torch.sigmoid, lambda x: x)
EMBEDDING_RANGE = 0.1


def loose_ends(sources: Sequence[int]) -> list[int]:
    """The nodes 1 .. N that no node reads, of the sources of nodes 1 .. N."""
    return [node for node in range(1, len(sources) + 1) if node not in sources]


class _Masks(NamedTuple):
    """Variational dropout of one layer: factors that stay the same over time; None where nothing is dropped."""

    input: Tensor | None  # [M, B, H] on the word's features
    nodes: Tensor | None  # [M, N + 1, B, H] on what node i reads, before its product


class _Layer(nn.Module):
    """The weights of one layer of the cell: of node 0, and a row for every possible (node, source, activation).

    In a child there is a row for each node. Uniform within 1 / sqrt(H), as torch's own recurrent layers.
    """

    def __init__(self, units: int, rows: Sequence[int], generator: torch.Generator):
        super().__init__()
        self._rows = {row: place for place, row in enumerate(rows)}

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter((2 * torch.rand(shape, generator=generator) - 1) * units**-0.5)

        self.input = uniform(units, 2 * units)
        self.hidden = uniform(units, 2 * units)
        self.nodes = uniform(len(rows), units, 2 * units)

    def inherit(self, shared: _Layer) -> None:
        self.input.copy_(shared.input)
        self.hidden.copy_(shared.hidden)
        self.nodes.copy_(shared.nodes[[shared._rows[row] for row in self._rows]])

    def compute(
        self, x: Tensor, edges: Sequence[Sequence[int]], ends: Sequence[int], last: Tensor, masks: _Masks
    ) -> tuple[Tensor, Tensor]:
        """One child over time: x [B, T, H], its routes, the nodes whose mean is the output, last output [B, H].

        Returns the outputs [B, T, H] and the last of them. Masks are those of this child: [B, H] and [N + 1, B, H].
        """
        table = self.nodes.unbind()  # one gradient for the whole table, zero in all other rows
        steps = [(source, FUNCTIONS[code], table[self._rows[row]]) for source, code, row in edges]
        nodes_masks = None if masks.nodes is None else masks.nodes.unbind()
        if masks.input is not None:
            x = x * masks.input.unsqueeze(1)
        outputs = []
        for given in (x @ self.input).unbind(dim=1):  # what the words say, for all times at once
            read = last if nodes_masks is None else last * nodes_masks[0]
            nodes = [_highway(last, torch.tanh, given + read @ self.hidden)]
            for place, (source, function, weight) in enumerate(steps, 1):
                read = nodes[source] if nodes_masks is None else nodes[source] * nodes_masks[place]
                nodes.append(_highway(nodes[source], function, read @ weight))
            last = torch.stack([nodes[end] for end in ends]).mean(dim=0)
            outputs.append(last)
        return torch.stack(outputs, dim=1), last


def _highway(carried: Tensor, function: Callable[[Tensor], Tensor], product: Tensor) -> Tensor:
    """carried [B, H] + sigmoid(t) * (function(h) - carried), where product [B, 2H] is [h, t]."""
    h, t = product.chunk(2, dim=1)
    return torch.lerp(carried, function(h), torch.sigmoid(t))


class RecurrentNetwork(Network):
    """Embedding, layers of the cell over time, and the embedding once more as the classifier (tied), with a bias.

    Inputs are words int64 [M or 1, B, T], logits [M, B, T, V]; the state is the last output of each layer,
    [L, M, B, H], and zeros where none is given.
    """

    def __init__(self, scale: Scale, rows: int, routes: Tensor | None, output: str, generator: torch.Generator):
        super().__init__()
        self._units, self._output = scale.filters, output
        self.register_buffer("routes", routes)
        kept = list(range(rows)) if routes is None else [row for _, _, row in routes[0].tolist()]
        shape = (scale.classes, scale.filters)
        self.embedding = nn.Parameter((2 * torch.rand(shape, generator=generator) - 1) * EMBEDDING_RANGE)
        self.bias = nn.Parameter(torch.zeros(scale.classes))
        self.layers = nn.ModuleList(_Layer(scale.filters, kept, generator) for _ in range(scale.layers))

    def forward(
        self,
        inputs: Tensor,
        routes: Tensor,
        state: Tensor | None = None,
        *,
        statistics: Mapping[str, Tensor] | None = None,
        noise: Noise | None = None,
        collect: bool = False,
    ) -> Output:
        children, batch = len(routes), inputs.shape[1]
        if state is None:
            state = self.embedding.new_zeros(len(self.layers), children, batch, self._units)
        edges = routes.tolist()
        masks = [self._masks(children, len(edges[0]), batch, noise) for _ in self.layers]
        words = self._word_mask(noise)
        dropped = self._keep((children, batch, 1, self._units), noise.dropout if noise else 0.0, noise)
        logits, hidden, last = [], [], []
        for child, routed in enumerate(edges):  # one after the other: its bits must not depend on how many there are
            sources = [source for source, _, _ in routed]
            ends = loose_ends(sources) if self._output == "loose_ends" else range(1, len(routed) + 1)
            tokens, own = inputs[child if len(inputs) > 1 else 0], []
            x = functional.embedding(tokens, self.embedding)
            x = x if words is None else x * functional.embedding(tokens, words)
            for place, layer in enumerate(self.layers):
                assert isinstance(layer, _Layer)
                of_child = _Masks(*(None if mask is None else mask[child] for mask in masks[place]))
                x, end = layer.compute(x, routed, ends, state[place, child], of_child)
                own.append(end)
            hidden.append(x)
            last.append(torch.stack(own))
            x = x if dropped is None else x * dropped[child]
            logits.append(functional.linear(x, self.embedding, self.bias))
        return Output(torch.stack(logits), None, {}, torch.stack(last, dim=1), torch.stack(hidden))

    def _word_mask(self, noise: Noise | None) -> Tensor | None:
        """[V, H] or [V, 1]: whole words and features of words that are dropped wherever the word stands."""
        if noise is None:
            return None
        words = self._keep((len(self.embedding), 1), noise.word, noise)
        features = self._keep(tuple(self.embedding.shape), noise.embedding, noise)
        return features if words is None else words if features is None else words * features

    def _masks(self, children: int, nodes: int, batch: int, noise: Noise | None) -> _Masks:
        if noise is None:
            return _Masks(None, None)
        return _Masks(
            self._keep((children, batch, self._units), noise.input, noise),
            self._keep((children, nodes + 1, batch, self._units), noise.layer, noise),
        )

    def _keep(self, shape: tuple[int, ...], dropped: float, noise: Noise | None) -> Tensor | None:
        return None if noise is None or dropped == 0 else keep(shape, 1 - dropped, noise.generator, self.embedding)

    def inherit(self, supernet: Network) -> None:
        assert isinstance(supernet, RecurrentNetwork)
        if supernet.embedding.shape != self.embedding.shape or len(supernet.layers) != len(self.layers):
            raise ValueError("a child inherits from a supernet of its own space and scale")
        with torch.no_grad():
            self.embedding.copy_(supernet.embedding)
            self.bias.copy_(supernet.bias)
            for own, shared in zip(self.layers, supernet.layers, strict=True):
                assert isinstance(own, _Layer)
                assert isinstance(shared, _Layer)
                own.inherit(shared)
