"""Chains of convolutions with skip connections: NAS-RL (Zoph and Le 2016, arXiv:1611.01578, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from enas.draw import Drawing, Part
from enas.errors import UserError
from enas.space.base import Cost, Decision, Resident, SearchSpace
from enas.space.chain_network import (
    FILTERS,
    KERNELS,
    STRIDES,
    ChainNetwork,
    Layer,
    count_filters,
    read_layers,
    unread,
)
from enas.space.network import Network
from enas.space.scale import Scale

MOST_LAYERS = 40
"""The longest chain of the paper has 39 layers."""


class Chain(SearchSpace):
    """`layers` convolutions, each with a filter height, a filter width, a number of filters and skip connections.

    A layer concatenates in depth what the earlier layers it names give; one that names none reads the image, and the
    classifier reads all layers that nobody reads. The row holds height, width, filters, [strides,] and a bit for each
    earlier layer, layer by layer.

    layers   the paper starts with 6, the default; the number belongs to the row, so `scale.layers` has to be the same
    strides  whether rows choose strides too; tensor shapes then depend on the row, so that weights cannot be shared

    `scale.filters` is the smallest number of filters (24 as published).
    """

    name = "chain"
    static = False

    def __init__(self, layers: int | None = None, strides: bool = False):
        layers = 6 if layers is None else layers
        if not isinstance(layers, int) or isinstance(layers, bool) or not 1 <= layers <= MOST_LAYERS:
            raise UserError(f"space.layers={layers}: allowed are 1 to {MOST_LAYERS} layers")
        if not isinstance(strides, bool):
            raise UserError(f"space.strides={strides}: allowed are true and false")
        self.layers, self.strides = layers, strides
        self.own_layers, self.shareable = layers, not strides
        sizes: list[tuple[str, tuple[int, ...]]] = [("height", KERNELS), ("width", KERNELS)]
        sizes += [("stride_height", STRIDES), ("stride_width", STRIDES)] if strides else []
        sizes += [("filters", FILTERS)]
        self._sizes_of_a_layer = len(sizes)
        decisions: list[Decision] = []
        for layer in range(layers):
            owner = f"layer{layer}"
            for name, numbers in sizes:
                words = tuple(map(str, numbers))
                decisions.append(Decision(f"{owner}/{name}", "number", words, name, len(decisions), owner))
            step = len(decisions)
            for source in range(layer):
                words = ("absent", f"layer{source}")
                decisions.append(Decision(f"{owner}/skip/layer{source}", "skip", words, "skip", step, owner))
        self.decisions = tuple(decisions)
        self.sampling_order = tuple(range(len(decisions)))

    @property
    def arguments(self) -> dict[str, Any]:
        return {"layers": self.layers, "strides": self.strides}

    def _split(self, choices: Tensor) -> list[Tensor]:
        """The decisions of each layer: [n, 3 or 5 sizes and a bit for each earlier layer]."""
        return list(torch.split(choices, [self._sizes_of_a_layer + layer for layer in range(self.layers)], dim=1))

    @cached_property
    def _places(self) -> Resident:
        return Resident(torch.arange(self.layers))

    def route(self, choices: Tensor) -> Tensor:
        """[M, D] -> [M, E, 3]: for each layer, (height, width, place in FILTERS), (stride down, stride across, 0) and,
        for each earlier layer, (that layer, whether it is read, its block of weights; the image has block 0)."""
        places = self._places.on(choices.device)
        triples: list[Tensor] = []
        for layer, own in enumerate(self._split(choices)):
            sizes, skips = own[:, : self._sizes_of_a_layer], own[:, self._sizes_of_a_layer :]
            one = torch.ones_like(sizes[:, 0])
            down, across = (sizes[:, 2] + 1, sizes[:, 3] + 1) if self.strides else (one, one)
            triples.append(torch.stack([2 * sizes[:, 0] + 1, 2 * sizes[:, 1] + 1, sizes[:, -1]], dim=1)[:, None])
            triples.append(torch.stack([down, across, 0 * one], dim=1)[:, None])
            sources = places[:layer].expand_as(skips)
            triples.append(torch.stack([sources, skips, sources + 1], dim=2))
        return torch.cat(triples, dim=1).to(torch.int32)

    def layers_of(self, row: Sequence[int]) -> list[Layer]:
        """The row, layer by layer."""
        return read_layers(self.route(torch.tensor([list(row)]))[0].tolist())

    def describe(self, row: Sequence[int]) -> dict[str, Any]:
        layers = self.layers_of(row)
        entries = []
        for place, layer in enumerate(layers):
            entry: dict[str, Any] = {"name": f"layer{place}", "height": layer.height, "width": layer.width}
            if self.strides:
                entry["strides"] = list(layer.stride)
            entry["filters"] = FILTERS[layer.filters]
            entry["inputs"] = _names(layer)
            entries.append(entry)
        return {"layers": entries, "output": [f"layer{place}" for place in unread(layers)]}

    def text(self, row: Sequence[int]) -> str:
        layers = self.layers_of(row)
        lines = [
            f"layer{place} = {_operation(layer).replace('_', ' ')} filters({', '.join(_names(layer))})"
            for place, layer in enumerate(layers)
        ]
        output = ", ".join(f"layer{place}" for place in unread(layers))
        return "\n".join([*lines, f"output = concat({output})"])

    def drawings(self, row: Sequence[int]) -> dict[str, Drawing]:
        layers = self.layers_of(row)
        nodes = {
            f"layer{place}": [Part("convolution", source, _operation(layer)) for source in _names(layer)]
            for place, layer in enumerate(layers)
        }
        strides = ", / their strides" if self.strides else ""
        note = (
            f"Height × width of filters{strides}, their number at the published scale; several inputs are concatenated."
        )
        output = [f"layer{place}" for place in unread(layers)]
        return {"chain": Drawing("chain", note, {"image": "what is classified"}, nodes, output, "concat")}

    def cost(self, choices: Tensor, scale: Scale) -> Cost:
        self.check_layers(scale)
        numbers = torch.tensor([count_filters(scale, place) for place in range(len(FILTERS))], device=choices.device)
        routes = self.route(choices).long()
        params = macs = torch.zeros_like(choices[:, 0])
        size = (torch.full_like(params, scale.height), torch.full_like(params, scale.width))
        sizes: list[tuple[Tensor, Tensor]] = []
        filters: list[Tensor] = []
        read = torch.zeros(len(choices), self.layers, dtype=torch.bool, device=choices.device)
        at = 0
        for layer in range(self.layers):
            height, width, place = routes[:, at].unbind(dim=1)
            stride = routes[:, at + 1, :2].unbind(dim=1)
            bits = routes[:, at + 2 : at + 2 + layer, 1]
            at += 2 + layer
            read[:, :layer] |= bits.bool()
            alone = (bits.sum(dim=1) == 0).long()  # reads the image
            inputs = alone * scale.channels
            own = [alone * axis for axis in size]
            for source in range(layer):
                inputs = inputs + bits[:, source] * filters[source]
                own = [torch.maximum(one, bits[:, source] * sizes[source][axis]) for axis, one in enumerate(own)]
            outputs = numbers[place]
            sizes.append(((own[0] + stride[0] - 1) // stride[0], (own[1] + stride[1] - 1) // stride[1]))
            filters.append(outputs)
            weights = height * width * outputs * inputs
            params = params + weights + 2 * outputs
            macs = macs + weights * sizes[-1][0] * sizes[-1][1]
        features = (~read * torch.stack(filters, dim=1)).sum(dim=1)
        return Cost(params + features * scale.classes, macs + features * scale.classes)

    def network(
        self,
        scale: Scale,
        generator: torch.Generator,
        row: Sequence[int] | None = None,
        auxiliary: bool = False,
    ) -> Network:
        self.check_layers(scale)
        self.refuse_auxiliary(auxiliary)
        return ChainNetwork(scale, self.routes_of(row), generator)


def _names(layer: Layer) -> list[str]:
    return [f"layer{source}" for source in layer.sources] or ["image"]


def _operation(layer: Layer) -> str:
    stride = "" if layer.stride == (1, 1) else f"/{layer.stride[0]}x{layer.stride[1]}"
    return f"{layer.height}x{layer.width}{stride}_conv_{FILTERS[layer.filters]}"
