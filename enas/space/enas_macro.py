"""The ENAS macro space: a whole network (Pham et al. 2018, "designing convolutional networks"; authors' macro search).

One convention for skips, here, in the controller, the network, the file and the drawing: a skip decision names what it
connects to. In a row, bit 0 of a layer is the stem and bit j is the output of layer j - 1 (authors' general_child.py);
the layer right before is a layer's input in any case and has no bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, get_args

import torch
from torch import Tensor

from enas.draw import Drawing, Part
from enas.errors import UserError
from enas.space.base import Cost, Decision, Resident, SearchSpace
from enas.space.enas_macro_network import MacroNetwork
from enas.space.enas_macro_plan import DENSE, OPERATIONS, SEPARABLE, Skips, place_layers, pooling_points
from enas.space.network import Network
from enas.space.scale import Scale

MOST_LAYERS = 48


class EnasMacro(SearchSpace):
    """A whole network of `layers` layers: each has one of six operations and may skip to what stands before it.

    A row holds layer after layer, `operation, bit 0, bit 1, ...`, as the authors store it: 78 integers for 12 layers,
    300 for 24. The number of layers belongs to the row, so `scale.layers` has to be the same.

    layers    12 as in the published search, 24 as in the published final network
    skips     how a layer joins its result with what it skips to: "concat" concatenates and applies a 1x1 convolution
              (the paper, and the authors' final network), "sum" adds (the authors' search)
    doubling  whether filters double at the two pooling points (authors' final network) or stay (their search)
    """

    name = "enas_macro"
    static = False

    def __init__(self, layers: int | None = None, skips: Skips = "concat", doubling: bool = True):
        layers = 12 if layers is None else layers
        if not isinstance(layers, int) or isinstance(layers, bool) or not 1 <= layers <= MOST_LAYERS:
            raise UserError(f"space.layers={layers}: allowed are 1 to {MOST_LAYERS} layers")
        if skips not in get_args(Skips):
            raise UserError(f"space.skips={skips}: allowed are {' and '.join(get_args(Skips))}")
        if not isinstance(doubling, bool):
            raise UserError(f"space.doubling={doubling}: allowed are true and false")
        self.layers, self.skips, self.doubling = layers, skips, doubling
        self.own_layers = layers
        decisions = []
        for layer in range(layers):
            owner = slot_name(layer + 1)
            decisions.append(Decision(f"{owner}/operation", "operation", OPERATIONS, "operation", 2 * layer, owner))
            for slot in range(layer):
                name, alternatives = f"{owner}/skip/{slot_name(slot)}", ("absent", slot_name(slot))
                decisions.append(Decision(name, "skip", alternatives, "skip", 2 * layer + 1, owner))
        self.decisions = tuple(decisions)
        self.sampling_order = tuple(range(len(decisions)))

    @property
    def arguments(self) -> dict[str, Any]:
        return {"layers": self.layers, "skips": self.skips, "doubling": self.doubling}

    @cached_property
    def _places(self) -> Resident:
        """int64 [2, D]: the slot that each edge reads, and whether it is a layer's operation."""
        places = [(slot, int(slot == layer)) for layer in range(self.layers) for slot in (layer, *range(layer))]
        return Resident(torch.tensor(places).t().contiguous())

    def route(self, choices: Tensor) -> Tensor:
        """[M, D] -> [M, D, 3], in the order of the row.

        An operation: (the layer's input slot, place in OPERATIONS, the same: its row of weights).
        A skip: (slot, 1 if it is taken, the slot again: its block of weights).
        Slot 0 is the stem, slot j the output of layer j - 1.
        """
        source, operates = (own.expand_as(choices) for own in self._places.on(choices.device))
        return torch.stack([source, choices, torch.where(operates == 1, choices, source)], dim=2).to(torch.int32)

    def split(self, row: Sequence[int]) -> list[tuple[str, list[str]]]:
        """Operation and skips of each layer, by name."""
        layers, first = [], 0
        for layer in range(self.layers):
            bits = row[first + 1 : first + 1 + layer]
            layers.append((OPERATIONS[row[first]], [slot_name(slot) for slot, bit in enumerate(bits) if bit]))
            first += 1 + layer
        return layers

    def describe(self, row: Sequence[int]) -> dict[str, Any]:
        layers = [
            {"name": slot_name(place + 1), "operation": operation, "input": slot_name(place), "skips": skips}
            for place, (operation, skips) in enumerate(self.split(row))
        ]
        return {"layers": layers, "combine": self.skips, "halved_after": self._halved_after()}

    def _halved_after(self) -> list[str]:
        return [slot_name(point + 1) for point in pooling_points(self.layers)]

    def text(self, row: Sequence[int]) -> str:
        lines = []
        for place, (operation, skips) in enumerate(self.split(row)):
            result = f"{operation}({slot_name(place)})"
            joined = f"{self.skips}({', '.join([result, *skips])})" if skips else result
            halved = "; then all is halved" if place in pooling_points(self.layers) else ""
            lines.append(f"{slot_name(place + 1)} = {joined}{halved}")
        return "\n".join(lines)

    def parse(self, text: str) -> list[int]:
        """A row from the authors' string, as --child_fixed_arc has it: integers between blanks, layer after layer.

        Raises UserError where it is too short or too long, or a choice is out of range.
        """
        try:
            row = [int(word) for word in text.split()]
        except ValueError:
            raise UserError(f"the architecture {text!r} must hold integers separated by blanks") from None
        self.check(row)
        return row

    def string(self, row: Sequence[int]) -> str:
        """The authors' string of a row."""
        return " ".join(map(str, row))

    def drawings(self, row: Sequence[int]) -> dict[str, Drawing]:
        layers = self.split(row)
        nodes = {
            slot_name(place + 1): [Part("operation", slot_name(place), operation)]
            for place, (operation, _) in enumerate(layers)
        }
        joins = {slot_name(place + 1): skips for place, (_, skips) in enumerate(layers)}
        verb = {"concat": "is concatenated with", "sum": "is added to"}[self.skips]
        note = f"A layer reads the one before it; its result {verb} what dots mark."
        halved = self._halved_after()
        if halved:
            note += f" Everything is halved after {' and '.join(halved)}."
        return {
            "network": Drawing(
                "network", note, {"stem": "3×3 conv"}, nodes, [slot_name(self.layers)], "pool, classify", joins, halved
            )
        }

    def cost(self, choices: Tensor, scale: Scale) -> Cost:
        self.check_layers(scale)
        placements, points = place_layers(scale, self.doubling), pooling_points(self.layers)
        first = [layer * (layer + 1) // 2 for layer in range(self.layers)]  # where each layer begins in a row
        params = choices.new_zeros(choices.shape[0])
        macs = params.clone()

        def add(count: Tensor | int, weights: int, norms: int, pixels: int) -> None:
            nonlocal params, macs
            params, macs = params + count * (weights + 2 * norms), macs + count * weights * pixels

        add(1, 9 * scale.channels * scale.filters, scale.filters, placements[0].pixels)
        for layer, placement in enumerate(placements):
            wide, pixels = placement.filters, placement.pixels
            operation = choices[:, first[layer]]
            add(1, wide**2, wide, pixels)
            for code, side in DENSE.items():
                add((operation == code).long(), side**2 * wide**2, wide, pixels)
            for code, side in SEPARABLE.items():
                add((operation == code).long(), side**2 * wide + wide**2, wide, pixels)
            if layer > 0:
                add(1, 0, wide, pixels)
                if self.skips == "concat":
                    add(1 + choices[:, first[layer] + 1 : first[layer] + 1 + layer].sum(dim=1), wide**2, 0, pixels)
        for point in points:
            for slot in range(point + 2):
                later = [first[layer] + 1 + slot for layer in range(max(point + 1, slot + 1), self.layers)]
                read = choices[:, later].any(dim=1).long() if slot <= point else 1  # the last is the next layer's input
                inputs, behind = placements[point].filters, placements[point + 1]
                add(read, inputs * behind.filters, behind.filters, behind.pixels)
        classifier = placements[-1].filters * scale.classes
        return Cost(params + classifier, macs + classifier)

    def network(
        self,
        scale: Scale,
        generator: torch.Generator,
        row: Sequence[int] | None = None,
        auxiliary: bool = False,
    ) -> Network:
        self.check_layers(scale)
        self.refuse_auxiliary(auxiliary)
        return MacroNetwork(scale, self.skips, self.doubling, self.routes_of(row), generator)


def slot_name(slot: int) -> str:
    """Slot 0 is the stem, slot j the output of layer j - 1."""
    return "stem" if slot == 0 else f"layer{slot - 1}"
