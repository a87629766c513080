"""A second definition of a cell, in plain loops over pixels: nothing here is shared with the reference."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from enas.kernels.interface import CellWeights

Array = npt.NDArray[np.float64]

EPSILON = 1e-5


class Loops(NamedTuple):
    """One child's cell."""

    weights: CellWeights
    stride: int
    given: Array | None = None  # [N, 2, C]

    def __call__(self, input0: Array, input1: Array, edges: Sequence[Sequence[int]], scale: Array) -> Array:
        """Inputs [B, H, W, C], scale [E, B] -> [B, H', W', C']."""
        slots = [input0, input1]
        for node in range(len(edges) // 2):
            total = 0.0
            for edge in (2 * node, 2 * node + 1):
                source, code, row = edges[edge]
                out = self.operation(slots[source], code, row, edge, self.stride if source < 2 else 1)
                total = total + out * scale[edge][:, None, None, None]
            slots.append(np.asarray(total))
        read = {source for source, _, _ in edges}
        ends = []
        for slot, value in enumerate(slots):
            if slot in read:
                ends.append(None)
            elif slot < 2 and self.stride == 2:
                w = self.weights.loose
                ends.append(self.norm(halved(value, w.weight[slot]), w.gain[slot], w.bias[slot], 2 * len(edges) + slot))
            else:
                ends.append(value)
        shape = slots[-1].shape
        if self.weights.project is None:
            return np.concatenate([np.zeros(shape) if end is None else end for end in ends], axis=-1)
        z = np.zeros(shape)
        for end, block in zip(ends, self.weights.project.weight.numpy(), strict=True):
            if end is not None:
                z = z + np.maximum(end, 0) @ block
        return self.norm(z, self.weights.project.gain[0], self.weights.project.bias[0], 2 * len(edges) + 2)

    def operation(self, x: Array, code: int, row: int, edge: int, stride: int) -> Array:
        if code in (0, 1):
            w = self.weights[code]
            for half in (0, 1):
                z = depthwise(np.maximum(x, 0), w.depthwise[row, half].numpy(), stride if half == 0 else 1)
                x = self.norm(z @ w.pointwise[row, half].numpy(), w.gain[row, half], w.bias[row, half], 2 * edge + half)
            return x
        if code == 2:
            return pooled(x, stride, lambda pixels: sum(pixels) / len(pixels))
        if code == 3:
            return pooled(x, stride, lambda pixels: np.maximum.reduce(pixels))
        if code == 5:
            return outputs(x, stride)
        assert code == 4
        if stride == 1:
            return x
        w = self.weights.identity
        return self.norm(halved(x, w.weight[row]), w.gain[row], w.bias[row], 2 * edge)

    def norm(self, x: Array, gain: Tensor, bias: Tensor, place: int) -> Array:
        return norm(x, gain, bias, None if self.given is None else self.given[place])


def norm(x: Array, gain: Tensor, bias: Tensor, given: Array | None = None) -> Array:
    """Batch norm by the statistics of [B, H, W, C], or by `given` [2, C]."""
    if given is None:
        pixels = x.reshape(-1, x.shape[-1])
        mean = pixels.sum(axis=0) / len(pixels)
        variance = ((pixels - mean) ** 2).sum(axis=0) / len(pixels)
    else:
        mean, variance = given
    return np.asarray((x - mean) / np.sqrt(variance + EPSILON) * gain.numpy() + bias.numpy())


def outputs(x: Array, stride: int) -> Array:
    """Zeros of the output's size."""
    batch, height, width, channels = x.shape
    return np.zeros((batch, (height + stride - 1) // stride, (width + stride - 1) // stride, channels))


def inside(x: Array, row: int, column: int) -> bool:
    return 0 <= row < x.shape[1] and 0 <= column < x.shape[2]


def depthwise(x: Array, kernel: Array, stride: int) -> Array:
    out, middle = outputs(x, stride), len(kernel) // 2
    for i, j, a, b in product(*(range(n) for n in (*out.shape[1:3], len(kernel), len(kernel)))):
        row, column = stride * i + a - middle, stride * j + b - middle
        if inside(x, row, column):
            out[:, i, j] += x[:, row, column] * kernel[a, b]
    return out


def pooled(x: Array, stride: int, function: Callable[[list[Array]], Array]) -> Array:
    out = outputs(x, stride)
    for i, j in product(range(out.shape[1]), range(out.shape[2])):
        near = product(range(stride * i - 1, stride * i + 2), range(stride * j - 1, stride * j + 2))
        out[:, i, j] = function([x[:, row, column] for row, column in near if inside(x, row, column)])
    return out


def halved(x: Array, weight: Tensor) -> Array:
    """Factorised reduction: the first half of the output sees even pixels, the second half odd ones."""
    out = np.zeros((*outputs(x, 2).shape[:3], weight.shape[1]))
    first = (weight.shape[1] + 1) // 2
    for i, j in product(range(out.shape[1]), range(out.shape[2])):
        out[:, i, j, :first] = x[:, 2 * i, 2 * j] @ weight[:, :first].numpy()
        if inside(x, 2 * i + 1, 2 * j + 1):
            out[:, i, j, first:] = x[:, 2 * i + 1, 2 * j + 1] @ weight[:, first:].numpy()
    return out


def loops(
    input0: Tensor,
    input1: Tensor,
    routes: Tensor,
    weights: CellWeights,
    scale: Tensor | None = None,
    statistics: Tensor | None = None,
    stride: int = 1,
) -> Tensor:
    """The cell of M children in loops."""
    children = []
    for child, edges in enumerate(routes.tolist()):
        one = Loops(weights, stride, None if statistics is None else statistics[child].numpy())
        factors = np.ones((len(edges), input0.shape[1]))
        if scale is not None:
            factors = factors * scale[child].reshape(len(edges), -1).numpy()
        inputs = (x[child if len(x) > 1 else 0].numpy() for x in (input0, input1))
        children.append(torch.from_numpy(one(*inputs, edges, factors)))
    return torch.stack(children)
