"""The mixed cell: its definition against the cell under weights of 0 and 1, and the native one against the definition."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from conformance import generator
from enas.kernels import (
    AVERAGE_POOL_3,
    DILATED_3,
    DILATED_5,
    IDENTITY,
    MAX_POOL_3,
    SEPARABLE_3,
    SEPARABLE_5,
    ZERO,
    CellWeights,
    Convolution,
    MixedWeights,
    Pointwise,
    Separable,
    mixed,
    native,
    parts,
    reference,
)
from tolerances import GRADIENT, assert_same

native.load()

DARTS = (ZERO, MAX_POOL_3, AVERAGE_POOL_3, IDENTITY, SEPARABLE_3, SEPARABLE_5, DILATED_3, DILATED_5)
"""The authors' candidates, in their order (genotypes.py)."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def random_weights(nodes: int, channels: int, operations: Sequence[int], stride: int) -> MixedWeights:
    """Weights none of which is 0 or 1."""
    edges = nodes * (nodes + 3) // 2
    convolutions = []
    for place, operation in enumerate(operations):
        if operation in mixed.HALVES:
            halves, kernel = mixed.HALVES[operation], 5 if operation in (SEPARABLE_5, DILATED_5) else 3
            convolutions.append(
                Convolution(
                    normal(edges, halves, kernel, kernel, channels, seed=10 + place),
                    normal(edges, halves, channels, channels, seed=20 + place),
                )
            )
    norms = mixed.count_norms(operations, stride)
    reductions = 2 * nodes if stride == 2 and IDENTITY in operations else 0
    return MixedWeights(
        tuple(convolutions),
        normal(reductions, channels, channels, seed=30),
        normal(edges, norms, channels, seed=31),
        normal(edges, norms, channels, seed=32),
    )


class Call:
    """Arguments of a mixed cell, and what both who compute it give."""

    def __init__(
        self,
        nodes: int = 2,
        children: tuple[int, int] = (1, 1),
        batch: int = 2,
        size: tuple[int, int] = (4, 5),
        channels: int = 3,
        operations: Sequence[int] = DARTS,
        stride: int = 1,
        given: bool = False,
        dtype: torch.dtype = torch.float64,
    ):
        wide = torch.float32 if dtype == torch.bfloat16 else dtype
        edges = nodes * (nodes + 3) // 2
        self.operations, self.stride = operations, stride
        shapes = [(count, batch, *size, channels) for count in children]
        self.inputs = [normal(*shape, seed=seed).to(dtype).requires_grad_() for seed, shape in enumerate(shapes)]
        self.mixing = normal(edges, len(operations), seed=3).softmax(dim=1).to(wide).requires_grad_()
        self.tensors = [
            tensor.to(wide).requires_grad_() for tensor in random_weights(nodes, channels, operations, stride).tensors()
        ]
        self.statistics = None
        if given:
            count = children[1] if children[0] == 1 else children[0]
            moments = normal(count, edges * mixed.count_norms(operations, stride), 2, channels, seed=4).to(wide)
            moments[:, :, 1] = moments[:, :, 1].abs() + 0.5
            self.statistics = moments

    @property
    def leaves(self) -> list[Tensor]:
        return [*self.inputs, self.mixing, *self.tensors]

    @property
    def weights(self) -> MixedWeights:
        *tables, identity, gain, bias = self.tensors
        pairs = zip(tables[::2], tables[1::2], strict=True)
        return MixedWeights(tuple(Convolution(*pair) for pair in pairs), identity, gain, bias)

    def __call__(self, compute: object) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The output, the statistics used, and a gradient for every leaf."""
        assert compute in (mixed, native)
        arguments = (*self.inputs, self.mixing, self.operations, self.weights, self.statistics, self.stride)
        out, used = compute.mixed_cell(*arguments)  # type: ignore[attr-defined]
        grad = normal(*out.shape, seed=9).to(out.dtype)
        return out, used.tensor(), list(torch.autograd.grad(out, self.leaves, grad, materialize_grads=True))

    def compare(self) -> None:
        found, expected = self(native), self(mixed)
        assert found[0].dtype == expected[0].dtype
        for one, other in zip((*found[:2], *found[2]), (*expected[:2], *expected[2]), strict=True):
            assert_same(one, other)


@pytest.mark.parametrize("stride", [1, 2])
def test_weights_of_zero_and_one_give_the_path(stride: int) -> None:
    """A cell of two nodes that read two slots each, told by routes, and by the same choice as weights."""
    operations = (SEPARABLE_3, SEPARABLE_5, IDENTITY, ZERO)
    nodes, channels = 2, 3
    weights = random_weights(nodes, channels, operations, stride)
    edges = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]  # (node, source)
    routes, rows = [], {SEPARABLE_3: 0, SEPARABLE_5: 1}
    chosen = [(0, IDENTITY), (1, SEPARABLE_5), (3, SEPARABLE_3), (4, SEPARABLE_3)]  # two of each node's edges
    mixing = torch.zeros(len(edges), len(operations), dtype=torch.float64)
    for edge, operation in chosen:
        node, source = edges[edge]
        routes.append([source, operation, 2 * node + source if operation == IDENTITY else edge])
        mixing[edge, operations.index(operation)] = 1.0

    def separable(operation: int) -> Separable:
        table, first = weights.convolutions[rows[operation]], 2 * rows[operation]
        return Separable(*table, weights.gain[:, first : first + 2], weights.bias[:, first : first + 2])

    strided = [0, 1, 2, 3]  # the edges whose rows of `identity` are these
    last = -1 if stride == 2 else 0
    identity = Pointwise(weights.identity, weights.gain[strided, last], weights.bias[strided, last])
    nothing = Pointwise(*(tensor[:0] for tensor in identity))
    cell_weights = CellWeights(
        separable(SEPARABLE_3), separable(SEPARABLE_5), identity, nothing, None, (-1, -1, -1, 0), (-1, -1)
    )
    inputs = [normal(2, 2, 5, 4, channels, seed=seed) for seed in (0, 1)]
    table = torch.tensor([routes] * 2, dtype=torch.int32)
    expected, _ = reference.cell(*inputs, table, cell_weights, stride=stride)
    for compute in (mixed.mixed_cell, native.mixed_cell):
        found, _ = compute(*inputs, mixing, operations, weights, stride=stride)
        assert_same(found[..., channels:], expected)  # the last node's


def test_pools_end_in_a_batch_norm() -> None:
    operations = (AVERAGE_POOL_3, MAX_POOL_3)
    weights = random_weights(1, 3, operations, 2)
    inputs = [normal(1, 2, 5, 4, 3, seed=seed) for seed in (0, 1)]
    out, used = mixed.mixed_cell(*inputs, torch.tensor([[0.0, 2.0], [3.0, 0.0]]).double(), operations, weights, None, 2)
    most = parts.normalise(parts.max_pool(inputs[0][0], 2), weights.gain[0, 1], weights.bias[0, 1], None)[0]
    average = parts.normalise(parts.average_pool(inputs[1][0], 2), weights.gain[1, 0], weights.bias[1, 0], None)[0]
    assert_same(out[0], 2 * most + 3 * average)
    assert used.tensor().shape == (1, 4, 2, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (3, 5), (8, 7)], ids=str)
@pytest.mark.parametrize("channels", [1, 20, 33])
def test_native_is_the_definition(channels: int, size: tuple[int, int], stride: int, dtype: torch.dtype) -> None:
    Call(size=size, channels=channels, stride=stride, dtype=dtype).compare()


@pytest.mark.parametrize("children", [(2, 2), (1, 3), (2, 1), (0, 0), (1, 0)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("given", [False, True])
def test_native_children(children: tuple[int, int], stride: int, given: bool) -> None:
    Call(children=children, stride=stride, given=given).compare()


@pytest.mark.parametrize(
    "operations", [(ZERO,), (IDENTITY,), (MAX_POOL_3,), (DILATED_5, SEPARABLE_3, SEPARABLE_3)], ids=str
)
@pytest.mark.parametrize("nodes", [1, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_native_with_any_operations(operations: Sequence[int], nodes: int, stride: int) -> None:
    Call(nodes=nodes, operations=operations, stride=stride, batch=1).compare()
