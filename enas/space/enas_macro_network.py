"""The network of the ENAS macro space: layers with skip connections, for the supernet and for one child."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from enas import kernels
from enas.kernels import Pointwise, Statistics
from enas.kernels.parts import widen
from enas.space.childwise import ChildwiseNetwork
from enas.space.enas_macro_plan import (
    AVERAGE_POOL,
    DENSE,
    OPERATIONS,
    SEPARABLE,
    Layer,
    Skips,
    kept_slots,
    place_layers,
    pooling_points,
    read_layers,
)
from enas.space.layers import (
    Norms,
    average_pool,
    batch_norm,
    dense_convolution_norm,
    drop_features,
    linear,
    max_pool,
    reduction_norm,
    unused,
)
from enas.space.network import Network, Noise
from enas.space.rows import PointwiseTable, he_normal
from enas.space.scale import Scale

ENTRY, OPERATION, JOIN = range(3)
"""The batch norms of a layer."""


class _Convolution(nn.Module):
    """One convolution of a layer, dense or separable, and its batch norm."""

    def __init__(self, code: int, channels: int, generator: torch.Generator):
        super().__init__()
        if code in DENSE:
            side = DENSE[code]
            self.kernel = he_normal((side, side, channels, channels), side**2 * channels, generator)
        else:
            side = SEPARABLE[code]
            self.depthwise = he_normal((side, side, channels), side**2, generator)
            self.pointwise = he_normal((channels, channels), channels, generator)
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self._dense = code in DENSE

    def compute(self, x: Tensor, given: Tensor | None) -> tuple[Tensor, Statistics]:
        """ReLU, convolution, batch norm: [1, B, H, W, C] -> [1, B, H, W, C]."""
        if self._dense:
            return dense_convolution_norm(x.relu(), self.kernel, self.gain, self.bias, given)
        z, _ = kernels.sepconv_half(x, None, self.depthwise, self.pointwise)
        return batch_norm(z, self.gain, self.bias, given)


class _Layer(nn.Module):
    """A 1x1 convolution and an operation, and what joins their result with the skips.

    codes   the operations it has weights for: all in a supernet, the chosen one in a child
    blocks  the blocks of the 1x1 convolution behind a concatenation: one for each slot it may skip to, and the last,
            which has the layer's own number, for its own result
    """

    def __init__(
        self,
        number: int,
        channels: int,
        skips: Skips,
        codes: Sequence[int],
        blocks: Sequence[int],
        generator: torch.Generator,
    ):
        super().__init__()
        self._number, self._skips, self._codes, self._blocks = number, skips, list(codes), list(blocks)
        self.entry = PointwiseTable(len(codes), channels, channels, generator)
        self.operations = nn.ModuleDict(
            {OPERATIONS[code]: _Convolution(code, channels, generator) for code in codes if code < AVERAGE_POOL}
        )
        if number > 0 and skips == "concat":
            self.join = PointwiseTable(len(blocks), channels, channels, generator, norms=1)
        elif number > 0:
            self.join_gain = nn.Parameter(torch.ones(channels))
            self.join_bias = nn.Parameter(torch.zeros(channels))

    def inherit(self, shared: _Layer) -> None:
        self.entry.inherit(shared.entry, self._codes)
        if self._number > 0 and self._skips == "concat":
            self.join.inherit(shared.join, self._blocks)
        for name, parameter in self.named_parameters():
            if not name.startswith(("entry.", "join.")):
                parameter.copy_(shared.get_parameter(name))

    def compute(
        self, slots: Mapping[int, Tensor], chosen: Layer, statistics: Tensor | None = None
    ) -> tuple[Tensor, Statistics]:
        """slots [1, B, H, W, C] each, statistics None or [1, 3, 2, C] -> [1, B, H, W, C] and those used."""

        def given(norm: int) -> Tensor | None:
            return None if statistics is None else statistics[:, norm : norm + 1]

        row = self._codes.index(chosen.code)
        weights = Pointwise(*(tensor[row, None] for tensor in self.entry.weights()))
        own: dict[int, Statistics] = {}
        x, own[ENTRY] = kernels.pointwise_norm(slots[self._number], weights, given(ENTRY))
        if chosen.code < AVERAGE_POOL:
            convolution = self.operations[OPERATIONS[chosen.code]]
            assert isinstance(convolution, _Convolution)
            x, own[OPERATION] = convolution.compute(x, given(OPERATION))
        else:
            x = average_pool(x.relu()) if chosen.code == AVERAGE_POOL else max_pool(x.relu())
        if self._number > 0:
            x, own[JOIN] = self._join([slots[slot] for slot in chosen.skips], x, chosen.skips, given(JOIN))
        return x, _collect(own, 3, self.entry.gain)

    def _join(
        self, read: list[Tensor], x: Tensor, skips: Sequence[int], given: Tensor | None
    ) -> tuple[Tensor, Statistics]:
        if self._skips == "sum":
            total = torch.stack([widen(one) for one in (*read, x)]).sum(dim=0).to(x.dtype)
            return batch_norm(total, self.join_gain, self.join_bias, given)
        rows = [self._blocks.index(block) for block in (*skips, self._number)]
        weight, gain, bias = self.join.weights()
        weights = Pointwise(weight[rows].flatten(0, 1).unsqueeze(0), gain, bias)
        return kernels.pointwise_norm(torch.cat([*read, x], dim=-1), weights, given)


class _Pool(nn.Module):
    """The factorised reductions behind one layer: one for each slot in a supernet, for those read later in a child."""

    def __init__(self, slots: Sequence[int], count: int, inputs: int, outputs: int, generator: torch.Generator):
        super().__init__()
        self._slots, self._count = list(slots), count
        self.reductions = PointwiseTable(len(slots), inputs, outputs, generator)

    def inherit(self, shared: _Pool) -> None:
        self.reductions.inherit(shared.reductions, self._slots)

    def compute(
        self, slots: Mapping[int, Tensor], kept: Sequence[int], statistics: Tensor | None = None
    ) -> tuple[dict[int, Tensor], Statistics]:
        """The slots `kept`, halved; statistics None or [1, slots so far, 2, C']."""
        own, reduced = {}, {}
        for slot in kept:
            weight, gain, bias = (tensor[self._slots.index(slot)] for tensor in self.reductions.weights())
            given = None if statistics is None else statistics[:, slot : slot + 1]
            reduced[slot], own[slot] = reduction_norm(slots[slot], weight, gain, bias, given)
        return reduced, _collect(own, self._count, self.reductions.gain)


def _collect(used: Mapping[int, Statistics], count: int, like: Tensor) -> Statistics:
    """Those of one child's `count` batch norms, [1, count, 2, C]; `like` is [..., C]."""

    def made() -> Tensor:
        blank = unused(like)
        return torch.stack([used[norm].tensor()[0, 0] if norm in used else blank for norm in range(count)]).unsqueeze(0)

    return Statistics(made)


class MacroNetwork(ChildwiseNetwork):
    """Stem, layers with skip connections, two poolings of all that is still read, global pool, classifier.

    Slot 0 is the stem, slot j the output of layer j - 1.
    """

    drops_paths = False

    def __init__(self, scale: Scale, skips: Skips, doubling: bool, routes: Tensor | None, generator: torch.Generator):
        super().__init__(routes)
        placements = place_layers(scale, doubling)
        chosen = None if routes is None else read_layers(routes[0].tolist())
        self.stem = he_normal((3, 3, scale.channels, scale.filters), 9 * scale.channels, generator)
        self.stem_gain = nn.Parameter(torch.ones(scale.filters))
        self.stem_bias = nn.Parameter(torch.zeros(scale.filters))
        self.layers, self.pools = nn.ModuleList(), nn.ModuleList()
        for number, placement in enumerate(placements):
            codes, blocks = range(len(OPERATIONS)), range(number + 1)
            if chosen is not None:
                codes, blocks = (chosen[number].code,), (*chosen[number].skips, number)  # type: ignore[assignment]
            self.layers.append(_Layer(number, placement.filters, skips, codes, blocks, generator))
        self._points = pooling_points(scale.layers)
        for point in self._points:
            slots = range(point + 2) if chosen is None else kept_slots(chosen, point)
            channels = placements[point].filters, placements[point + 1].filters
            self.pools.append(_Pool(slots, point + 2, *channels, generator))
        self.head = he_normal((placements[-1].filters, scale.classes), placements[-1].filters, generator)

    def begin(self, inputs: Tensor, norms: Norms) -> Tensor:
        """The stem."""
        return norms("stem", kernels.convolution_norm, inputs, self.stem, self.stem_gain, self.stem_bias)

    def compute(self, inputs: Tensor, routes: Sequence[Sequence[int]], norms: Norms, noise: Noise | None) -> Tensor:
        slots, layers = {0: inputs}, read_layers(routes)
        for number, chosen in enumerate(layers):
            layer = self.layers[number]
            assert isinstance(layer, _Layer)
            slots[number + 1] = norms(f"layer/{number}", layer.compute, slots, chosen)
            if number in self._points:
                place = self._points.index(number)
                pool = self.pools[place]
                assert isinstance(pool, _Pool)
                slots = norms(f"pool/{place}", pool.compute, slots, kept_slots(layers, number))
        features = slots[len(layers)].mean(dim=(2, 3), dtype=self.head.dtype)
        return linear(drop_features(features, noise), self.head)

    def inherit(self, supernet: Network) -> None:
        assert isinstance(supernet, MacroNetwork)
        with torch.no_grad():
            for own, shared in zip((*self.layers, *self.pools), (*supernet.layers, *supernet.pools), strict=True):
                own.inherit(shared)
            for name, parameter in self.named_parameters():
                if not name.startswith(("layers.", "pools.")):
                    parameter.copy_(supernet.get_parameter(name))
