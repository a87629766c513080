"""The network of a chain: convolutions with skip connections, for the supernet and for one child."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from enas.kernels import parts
from enas.space.base import Network, Noise, Output, Scale
from enas.space.layers import keep, pool, unused
from enas.space.rows import he_normal

KERNELS = (1, 3, 5, 7)
"""Heights and widths of a filter."""
FILTERS = (24, 36, 48, 64)
"""Numbers of filters at the published scale."""
STRIDES = (1, 2, 3)


class Layer(NamedTuple):
    """One layer of a row: `filters` is a place in FILTERS, `sources` are earlier layers; without any, the image."""

    height: int
    width: int
    filters: int
    stride: tuple[int, int]
    sources: tuple[int, ...]


class Block(NamedTuple):
    """Channels `first` to `first + channels` of a shared tensor, which belong to one source."""

    first: int
    channels: int


def read_layers(routes: Sequence[Sequence[int]]) -> list[Layer]:
    """The layers that one row's routes [E][3] describe."""
    layers: list[Layer] = []
    at = 0
    while at < len(routes):
        height, width, filters = routes[at]
        down, across, _ = routes[at + 1]
        skips = routes[at + 2 : at + 2 + len(layers)]
        sources = tuple(source for source, present, _ in skips if present)
        layers.append(Layer(height, width, filters, (down, across), sources))
        at += 2 + len(skips)
    return layers


def count_filters(scale: Scale, place: int) -> int:
    """How many filters the alternative at `place` has: the first has `scale.filters`, the others in proportion."""
    return scale.filters * FILTERS[place] // FILTERS[0]


def unread(layers: Sequence[Layer]) -> list[int]:
    """The layers that no layer reads."""
    read = {source for layer in layers for source in layer.sources}
    return [place for place in range(len(layers)) if place not in read]


class _Convolutions(nn.Module):
    """The convolutions of one layer: kernels [h, w, C, C'], each with a batch norm.

    In a supernet they are as large as any child's; a child cuts out its own: the window in the middle, the channels of
    the sources it reads, the first of the filters.
    """

    def __init__(
        self, size: tuple[int, int], inputs: int, fan_in: int, outputs: int, repeats: int, generator: torch.Generator
    ):
        super().__init__()
        area = size[0] * size[1]
        first = he_normal((*size, inputs, outputs), area * fan_in, generator)
        rest = [he_normal((*size, outputs, outputs), area * outputs, generator) for _ in range(repeats - 1)]
        self.kernels = nn.ParameterList([first, *rest])
        self.gains = nn.ParameterList(torch.ones(outputs) for _ in range(repeats))
        self.biases = nn.ParameterList(torch.zeros(outputs) for _ in range(repeats))

    def cut(self, layer: Layer, blocks: Sequence[Block], filters: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The kernel, gain and bias of each convolution of a child with this layer, which reads `blocks`."""
        found = []
        for kernel, gain, bias in zip(self.kernels, self.gains, self.biases, strict=True):
            top, left = (kernel.shape[0] - layer.height) // 2, (kernel.shape[1] - layer.width) // 2
            window = kernel[top : top + layer.height, left : left + layer.width, :, :filters]
            own = torch.cat([window[:, :, block.first : block.first + block.channels] for block in blocks], dim=2)
            found.append((own, gain[:filters], bias[:filters]))
            blocks = [Block(0, filters)]
        return found

    def whole(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        return list(zip(self.kernels, self.gains, self.biases, strict=True))


class ChainNetwork(Network):
    """Layers of convolution, batch norm and ReLU, `scale.layers` times each; global pool, classifier without bias."""

    def __init__(self, scale: Scale, layers: int, routes: Tensor | None, generator: torch.Generator):
        super().__init__()
        self._scale, self._widest = scale, count_filters(scale, len(FILTERS) - 1)
        self.register_buffer("routes", routes)
        self.layers = nn.ModuleList()
        if routes is None:
            for place in range(layers):
                inputs, fan_in = scale.channels + place * self._widest, self._widest if place else scale.channels
                size = (KERNELS[-1], KERNELS[-1])
                self.layers.append(_Convolutions(size, inputs, fan_in, self._widest, scale.layers, generator))
            features = layers * self._widest
        else:
            own = read_layers(routes[0].tolist())
            for layer in own:
                inputs = sum(block.channels for block in self._blocks(layer, own))
                size, filters = (layer.height, layer.width), count_filters(scale, layer.filters)
                self.layers.append(_Convolutions(size, inputs, inputs, filters, scale.layers, generator))
            features = sum(block.channels for block in self._loose_blocks(own))
        self.head = he_normal((features, scale.classes), features, generator)

    def _blocks(self, layer: Layer, layers: Sequence[Layer]) -> list[Block]:
        """Where the sources of `layer` stand in the shared kernel: the image first, then every earlier layer."""
        if not layer.sources:
            return [Block(0, self._scale.channels)]
        return [
            Block(self._scale.channels + source * self._widest, count_filters(self._scale, layers[source].filters))
            for source in layer.sources
        ]

    def _loose_blocks(self, layers: Sequence[Layer]) -> list[Block]:
        """Where the layers that nobody reads stand in the shared classifier."""
        return [
            Block(place * self._widest, count_filters(self._scale, layers[place].filters)) for place in unread(layers)
        ]

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
        if state is not None:
            raise ValueError("a chain of convolutions has no state")
        logits: list[Tensor] = []
        collected: dict[str, list[Tensor]] = {}
        for child, edges in enumerate(routes.tolist()):
            given = None if statistics is None else {name: each[child, 0] for name, each in statistics.items()}
            used: dict[str, Tensor] | None = {} if collect else None
            image = inputs[child if len(inputs) > 1 else 0]
            logits.append(self._compute(image, read_layers(edges), given, used, noise))
            for name, moment in (used or {}).items():
                collected.setdefault(name, []).append(moment)
        joined = {name: torch.stack(moments).unsqueeze(1) for name, moments in collected.items()}
        return Output(torch.stack(logits), None, joined)

    def _compute(
        self,
        image: Tensor,
        layers: Sequence[Layer],
        given: Mapping[str, Tensor] | None,
        used: dict[str, Tensor] | None,
        noise: Noise | None,
    ) -> Tensor:
        """One child: image [B, H, W, C] -> logits [B, K]; its statistics [2, C] are put into `used`."""
        results: list[Tensor] = []
        for place, layer in enumerate(layers):
            x = _concatenate([results[source] for source in layer.sources] or [image], self._kept(place, noise))
            stride = layer.stride
            for repeat, (kernel, gain, bias) in enumerate(self._weights(place, layer, layers)):
                name, filters = f"layer{place}/{repeat}", kernel.shape[-1]
                z = parts.stored(_convolve(parts.widen(x), kernel, stride), x.dtype)
                own = None if given is None else given[name][:, :filters]
                normed, moment = parts.normalise(z, gain, bias, own)
                if used is not None:
                    used[name] = torch.cat([moment.tensor(), unused(gain.new_empty(self._widest - filters))], dim=1)
                x = normed.relu().to(x.dtype)
                stride = (1, 1)
            results.append(x)
        x = _concatenate([results[place] for place in unread(layers)], None)
        head: Tensor = self.head
        if self.routes is None:
            head = torch.cat([head[block.first : block.first + block.channels] for block in self._loose_blocks(layers)])
        return pool(x.unsqueeze(0), head.dtype, noise)[0] @ head

    def _weights(self, place: int, layer: Layer, layers: Sequence[Layer]) -> list[tuple[Tensor, Tensor, Tensor]]:
        convolutions = self.layers[place]
        assert isinstance(convolutions, _Convolutions)
        if self.routes is not None:
            return convolutions.whole()
        return convolutions.cut(layer, self._blocks(layer, layers), count_filters(self._scale, layer.filters))

    def _kept(self, place: int, noise: Noise | None) -> Noise | None:
        """The noise of drop-path on the connections into a layer, less of it the earlier the layer."""
        if noise is None or noise.drop_path == 0:
            return None
        return noise._replace(drop_path=noise.drop_path * (place + 1) / len(self.layers) * noise.progress)

    def inherit(self, supernet: Network) -> None:
        assert isinstance(supernet, ChainNetwork)
        assert self.routes is not None
        layers = read_layers(self.routes[0].tolist())
        with torch.no_grad():
            for place, layer in enumerate(layers):
                shared = supernet._weights(place, layer, layers)
                for own, cut in zip(self._weights(place, layer, layers), shared, strict=True):
                    for mine, theirs in zip(own, cut, strict=True):
                        mine.copy_(theirs)
            blocks = self._loose_blocks(layers)
            self.head.copy_(torch.cat([supernet.head[block.first : block.first + block.channels] for block in blocks]))


def _concatenate(sources: Sequence[Tensor], noise: Noise | None) -> Tensor:
    """Concatenate [B, H, W, C] in depth; a smaller one is padded with zeros below and to the right.

    `noise` drops connections, image by image, where there are several.
    """
    height, width = (max(source.shape[axis] for source in sources) for axis in (1, 2))
    padded = []
    for source in sources:
        if noise is not None and len(sources) > 1:
            shape = (source.shape[0], 1, 1, 1)
            source = source * keep(shape, 1 - noise.drop_path, noise.generator, source)
        missing = (height - source.shape[1], width - source.shape[2])
        padded.append(functional.pad(source, (0, 0, 0, missing[1], 0, missing[0])) if any(missing) else source)
    return torch.cat(padded, dim=-1) if len(padded) > 1 else padded[0]


def _convolve(x: Tensor, kernel: Tensor, stride: tuple[int, int]) -> Tensor:
    """[B, H, W, C], kernel [h, w, C, C'] of odd sides -> [B, ceil(H / stride), ceil(W / stride), C']."""
    weight = kernel.permute(3, 2, 0, 1).contiguous()
    padding = (kernel.shape[0] // 2, kernel.shape[1] // 2)
    planes = functional.conv2d(x.permute(0, 3, 1, 2), weight, stride=stride, padding=padding)
    return planes.permute(0, 2, 3, 1)
