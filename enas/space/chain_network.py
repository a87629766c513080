"""The network of a chain: convolutions with skip connections, for the supernet and for one child."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from enas.kernels import Statistics, parts
from enas.space.childwise import ChildwiseNetwork
from enas.space.layers import Norms, batch_norm, keep, linear, pool
from enas.space.network import Network, Noise
from enas.space.rows import he_normal
from enas.space.scale import Scale

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


Weights = tuple[Tensor, Tensor, Tensor]
"""Kernel [h, w, C, C'], gain and bias [C']."""


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


class _Convolution(nn.Module):
    """The convolution of one layer and its batch norm: kernel [h, w, C, C'].

    In a supernet it is as large as any child's; a child cuts out its own: the window in the middle, the channels of the
    sources it reads, the first of the filters.
    """

    def __init__(self, size: tuple[int, int], inputs: int, fan_in: int, outputs: int, generator: torch.Generator):
        super().__init__()
        self.kernel = he_normal((*size, inputs, outputs), size[0] * size[1] * fan_in, generator)
        self.gain = nn.Parameter(torch.ones(outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def whole(self) -> Weights:
        return self.kernel, self.gain, self.bias

    def cut(self, layer: Layer, blocks: Sequence[Block], filters: int) -> Weights:
        """The weights of a child with this layer, which reads `blocks`."""
        top, left = (self.kernel.shape[0] - layer.height) // 2, (self.kernel.shape[1] - layer.width) // 2
        window = self.kernel[top : top + layer.height, left : left + layer.width, :, :filters]
        own = torch.cat([window[:, :, block.first : block.first + block.channels] for block in blocks], dim=2)
        return own, self.gain[:filters], self.bias[:filters]


class ChainNetwork(ChildwiseNetwork):
    """Layers of convolution, batch norm and ReLU; global pool, classifier without bias."""

    def __init__(self, scale: Scale, routes: Tensor | None, generator: torch.Generator):
        super().__init__(routes)
        self._scale, self._widest = scale, count_filters(scale, len(FILTERS) - 1)
        self.layers = nn.ModuleList()
        if routes is None:
            for place in range(scale.layers):
                inputs, fan_in = scale.channels + place * self._widest, self._widest if place else scale.channels
                size = (KERNELS[-1], KERNELS[-1])
                self.layers.append(_Convolution(size, inputs, fan_in, self._widest, generator))
            features = scale.layers * self._widest
        else:
            own = read_layers(routes[0].tolist())
            for layer in own:
                inputs = sum(block.channels for block in self._blocks(layer, own))
                size, filters = (layer.height, layer.width), count_filters(scale, layer.filters)
                self.layers.append(_Convolution(size, inputs, inputs, filters, generator))
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

    def compute(self, inputs: Tensor, routes: Sequence[Sequence[int]], norms: Norms, noise: Noise | None) -> Tensor:
        layers, results = read_layers(routes), list[Tensor]()
        for place, layer in enumerate(layers):
            x = _concatenate([results[source] for source in layer.sources] or [inputs], self._kept(place, noise))
            weights = self._weights(place, layers)
            results.append(norms(f"layer{place}", _convolve, x, *weights, layer.stride).relu())
        x = _concatenate([results[place] for place in unread(layers)], None)
        return linear(pool(x, self.head.dtype, noise), self._head(layers))

    def _weights(self, place: int, layers: Sequence[Layer]) -> Weights:
        convolution = self.layers[place]
        assert isinstance(convolution, _Convolution)
        if self.routes is not None:
            return convolution.whole()
        filters = count_filters(self._scale, layers[place].filters)
        return convolution.cut(layers[place], self._blocks(layers[place], layers), filters)

    def _head(self, layers: Sequence[Layer]) -> Tensor:
        """The classifier [C, K] of a child."""
        if self.routes is not None:
            return self.head
        blocks = self._loose_blocks(layers)
        return torch.cat([self.head[block.first : block.first + block.channels] for block in blocks])

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
            for place in range(len(layers)):
                for own, cut in zip(self._weights(place, layers), supernet._weights(place, layers), strict=True):
                    own.copy_(cut)
            self.head.copy_(supernet._head(layers))


def _concatenate(sources: Sequence[Tensor], noise: Noise | None) -> Tensor:
    """Concatenate [1, B, H, W, C] in depth; a smaller one is padded with zeros below and to the right.

    `noise` drops connections, image by image, where there are several.
    """
    height, width = (max(source.shape[axis] for source in sources) for axis in (2, 3))
    padded = []
    for source in sources:
        if noise is not None and len(sources) > 1:
            shape = (1, source.shape[1], 1, 1, 1)
            source = source * keep(shape, 1 - noise.drop_path, noise.generator, source)
        missing = (height - source.shape[2], width - source.shape[3])
        padded.append(functional.pad(source, (0, 0, 0, missing[1], 0, missing[0])) if any(missing) else source)
    return torch.cat(padded, dim=-1)


def _convolve(
    x: Tensor, kernel: Tensor, gain: Tensor, bias: Tensor, stride: tuple[int, int], statistics: Tensor | None = None
) -> tuple[Tensor, Statistics]:
    """Convolution and batch norm of one child: [1, B, H, W, C] -> [1, B, ceil(H / stride), ceil(W / stride), C'].

    kernel [h, w, C, C'] of odd sides, statistics None or [1, 1, 2, C' or more]: other children may have more filters.
    """
    weight = kernel.permute(3, 2, 0, 1).contiguous()
    padding = (kernel.shape[0] // 2, kernel.shape[1] // 2)
    planes = functional.conv2d(parts.widen(x[0]).permute(0, 3, 1, 2), weight, stride=stride, padding=padding)
    z = planes.permute(0, 2, 3, 1).to(x.dtype).unsqueeze(0)
    return batch_norm(z, gain, bias, None if statistics is None else statistics[..., : kernel.shape[3]])
