"""The definition of a cell against a second one, written in plain loops over pixels."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from conformance import generator
from enas.kernels import reference
from enas.kernels.interface import ZERO, CellWeights, Pointwise, Separable
from enas.space import EnasMicro
from kernels.loops import depthwise, loops
from tolerances import GRADIENT, assert_same, assert_stored

NODES, CHANNELS, BATCH = 3, 3, 2
SPACE = EnasMicro(NODES)
EDGES = SPACE.edges
NORMS = 2 * EDGES + 3


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def random_weights(project: bool, channels: int = CHANNELS) -> CellWeights:
    """Weights of a supernet's cell, none of them 0 or 1."""
    rows = sum(2 * (node + 2) for node in range(NODES))

    def separable(kernel: int) -> Separable:
        return Separable(
            normal(rows, 2, kernel, kernel, channels, seed=kernel),
            normal(rows, 2, channels, channels, seed=kernel + 1),
            normal(rows, 2, channels, seed=kernel + 2),
            normal(rows, 2, channels, seed=kernel + 3),
        )

    def pointwise(blocks: int, norms: int, seed: int) -> Pointwise:
        return Pointwise(
            normal(blocks, channels, channels, seed=seed),
            normal(norms, channels, seed=seed + 1),
            normal(norms, channels, seed=seed + 2),
        )

    slots = NODES + 2
    return CellWeights(
        separable(3),
        separable(5),
        pointwise(4 * NODES, 4 * NODES, 20),
        pointwise(2, 2, 30),
        pointwise(slots, 1, 40) if project else None,
        tuple(range(slots)),
        (0, 1),
    )


def random_routes(children: int, seed: int = 0) -> Tensor:
    return SPACE.route(SPACE.random(children, generator(seed)))[:, :EDGES]


@pytest.mark.parametrize("project", [True, False], ids=["project", "concat"])
@pytest.mark.parametrize(
    ("stride", "height", "width"), [(1, 4, 5), (1, 1, 1), (2, 4, 6), (2, 5, 3), (2, 7, 2), (2, 1, 1), (1, 1, 3)]
)
def test_a_cell_is_what_the_loops_say(project: bool, stride: int, height: int, width: int) -> None:
    weights = random_weights(project)
    routes = random_routes(4, seed=10 * height + width)
    inputs = [normal(4, BATCH, height, width, CHANNELS, seed=seed) for seed in (1, 2)]
    out, _ = reference.cell(*inputs, routes, weights, stride=stride)
    width_out = CHANNELS if project else (NODES + 2) * CHANNELS
    assert out.shape == (4, BATCH, -(-height // stride), -(-width // stride), width_out)
    assert_same(out, loops(*inputs, routes, weights, stride=stride))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("code", range(5))
def test_a_cell_of_one_operation_is_what_the_loops_say(code: int, stride: int) -> None:
    weights = random_weights(project=False)
    row = [integer for source in (0, 1, 1, 2, 0, 2) for integer in (source, code)] * 2
    routes = SPACE.route(torch.tensor([row]))[:, :EDGES]
    inputs = [normal(1, BATCH, 5, 4, CHANNELS, seed=seed) for seed in (1, 2)]
    out, _ = reference.cell(*inputs, routes, weights, stride=stride)
    assert_same(out, loops(*inputs, routes, weights, stride=stride))


@pytest.mark.parametrize("project", [True, False], ids=["project", "concat"])
@pytest.mark.parametrize("stride", [1, 2])
def test_an_edge_of_zero_gives_nothing_and_yet_reads_its_source(stride: int, project: bool) -> None:
    weights = random_weights(project)
    routes = random_routes(3, seed=5)
    routes[0, :, 1] = ZERO
    routes[1, ::2, 1] = ZERO
    routes[2, -1, 1] = ZERO
    inputs = [normal(3, BATCH, 5, 4, CHANNELS, seed=seed) for seed in (1, 2)]
    out, used = reference.cell(*inputs, routes, weights, stride=stride)
    assert_same(out, loops(*inputs, routes, weights, stride=stride))
    assert (used.tensor()[0, : 2 * EDGES, 1] == 1).all()


def test_a_loose_end_without_a_block_is_left_out() -> None:
    weights = random_weights(project=True)
    row = [integer for source in (0, 0, 0, 0, 0, 0) for integer in (source, 2)] * 2
    routes = SPACE.route(torch.tensor([row]))[:, :EDGES]
    assert weights.project is not None
    chosen = weights._replace(
        block=(-1, -1, 0, -1, 1), project=weights.project._replace(weight=weights.project.weight[[2, 4]])
    )
    inputs = [normal(1, BATCH, 5, 4, CHANNELS, seed=seed) for seed in (1, 2)]
    out, _ = reference.cell(*inputs, routes, chosen)
    z = sum(reference.parts.average_pool(inputs[0][0], 1).mul(2).relu() @ weights.project.weight[at] for at in (2, 4))
    assert isinstance(z, Tensor)
    expected, _ = reference.parts.normalise(z, weights.project.gain[0], weights.project.bias[0], None)
    assert_same(out[0], expected)
    concatenated, _ = reference.cell(*inputs, routes, chosen._replace(project=None))
    assert concatenated.shape[-1] == 2 * CHANNELS


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("project", [True, False], ids=["project", "concat"])
def test_no_children_give_empty_outputs_and_zero_gradients(project: bool, stride: int) -> None:
    weights = random_weights(project)
    some, _ = reference.cell(*(normal(1, BATCH, 5, 4, CHANNELS),) * 2, random_routes(1), weights, stride=stride)
    for tensor in weights.tensors():
        tensor.requires_grad_()
    inputs = [normal(0, BATCH, 5, 4, CHANNELS), normal(1, BATCH, 5, 4, CHANNELS)]
    out, used = reference.cell(*inputs, random_routes(1)[:0], weights, stride=stride)
    assert out.shape == (0, *some.shape[1:])
    assert used.tensor().shape == (0, NORMS, 2, CHANNELS)
    out.sum().backward()
    for tensor in weights.tensors():
        assert tensor.grad is not None
        assert (tensor.grad == 0).all()


def test_bfloat16_is_storage_alone() -> None:
    """Rounded images and weights in float32 give what float32 gives for them, up to the rounding of what is stored."""
    weights = random_weights(project=True)
    single = CellWeights(
        *(type(table)(*(tensor.float() for tensor in table)) for table in weights[:5] if isinstance(table, tuple)),
        *weights[5:],
    )
    inputs = [normal(2, BATCH, 5, 4, CHANNELS, seed=seed).bfloat16() for seed in (1, 2)]
    routes = random_routes(2)
    out, used = reference.cell(*inputs, routes, single, stride=2)
    assert (out.dtype, used.tensor().dtype) == (torch.bfloat16, torch.float32)
    exact, _ = reference.cell(*(x.float() for x in inputs), routes, single, stride=2)
    assert_stored(out, exact)
    assert not torch.equal(out.float(), exact)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("unused", [0, 1])
def test_an_unused_input_is_a_loose_end(unused: int, stride: int) -> None:
    weights = random_weights(project=True)
    used = 1 - unused
    row = [integer for source in (used, used, used, 2, used, 3) for integer in (source, 2)] * 2
    routes = SPACE.route(torch.tensor([row]))[:, :EDGES]
    inputs = [normal(1, BATCH, 5, 4, CHANNELS, seed=seed) for seed in (1, 2)]
    out, _ = reference.cell(*inputs, routes, weights, stride=stride)
    assert_same(out, loops(*inputs, routes, weights, stride=stride))
    mean, variance = normal(1, NORMS, CHANNELS, seed=4), normal(1, NORMS, CHANNELS, seed=5).square() + 0.1
    given = torch.stack([mean, variance], dim=2)
    found, _ = reference.cell(*inputs, routes, weights, statistics=given, stride=stride)
    assert_same(found, loops(*inputs, routes, weights, statistics=given, stride=stride))
    inputs[unused] = inputs[unused] + normal(1, BATCH, 5, 4, CHANNELS, seed=3)
    changed, _ = reference.cell(*inputs, routes, weights, stride=stride)
    assert not torch.allclose(changed, out)


@pytest.mark.parametrize("shape", [(EDGES,), (EDGES, BATCH)], ids=["edge", "edge and image"])
@pytest.mark.parametrize("stride", [1, 2])
def test_scale_multiplies_what_an_edge_gives(shape: tuple[int, ...], stride: int) -> None:
    weights = random_weights(project=True)
    routes = random_routes(3)
    inputs = [normal(3, BATCH, 4, 4, CHANNELS, seed=seed) for seed in (1, 2)]
    scale = normal(3, *shape, seed=9)
    scale[0, 1] = 0.0
    out, _ = reference.cell(*inputs, routes, weights, scale=scale, stride=stride)
    assert_same(out, loops(*inputs, routes, weights, scale=scale, stride=stride))
    plain, _ = reference.cell(*inputs, routes, weights, stride=stride)
    ones, _ = reference.cell(*inputs, routes, weights, scale=torch.ones_like(scale), stride=stride)
    assert torch.equal(ones, plain)


@pytest.mark.parametrize("stride", [1, 2])
def test_given_statistics_replace_those_of_the_batch(stride: int) -> None:
    weights = random_weights(project=True)
    routes = random_routes(3)
    inputs = [normal(3, BATCH, 4, 5, CHANNELS, seed=seed) for seed in (1, 2)]
    given = torch.stack([normal(3, NORMS, CHANNELS, seed=4), normal(3, NORMS, CHANNELS, seed=5).square() + 0.1], dim=2)
    out, used = reference.cell(*inputs, routes, weights, statistics=given, stride=stride)
    assert_same(out, loops(*inputs, routes, weights, statistics=given, stride=stride))
    returned = used.tensor()
    was_used = returned[:, :, 1] != 1
    assert_same(returned[:, :, 1][was_used], given[:, :, 1][was_used])


@pytest.mark.parametrize("project", [True, False], ids=["project", "concat"])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_batch_s_own_statistics_change_nothing(stride: int, project: bool) -> None:
    weights = random_weights(project)
    routes = random_routes(3, seed=2)
    inputs = [normal(3, BATCH, 4, 5, CHANNELS, seed=seed) for seed in (1, 2)]
    out, used = reference.cell(*inputs, routes, weights, stride=stride)
    statistics = used.tensor()
    assert statistics.shape == (3, NORMS, 2, CHANNELS)
    assert not statistics.requires_grad
    again, _ = reference.cell(*inputs, routes, weights, statistics=statistics, stride=stride)
    assert_same(again, out)


def test_statistics_are_those_of_each_half_and_blank_where_there_is_none() -> None:
    weights = random_weights(project=True)
    #       separable3(0)  max(1)     identity(0)  separable5(1)  average(2)  identity(2)
    row = [0, 0, 1, 3, 0, 4, 1, 1, 2, 2, 2, 4] * 2
    routes = SPACE.route(torch.tensor([row]))[:, :EDGES]
    inputs = [normal(1, BATCH, 6, 6, CHANNELS, seed=seed) for seed in (1, 2)]
    _, used = reference.cell(*inputs, routes, weights, stride=2)
    statistics = used.tensor()[0]
    blank = (statistics[:, 0] == 0).all(dim=1) & (statistics[:, 1] == 1).all(dim=1)
    # Two halves of edge 0, the strided identity of edge 2, two halves of edge 3, the output; both inputs are read.
    assert blank.logical_not().nonzero().flatten().tolist() == [0, 1, 4, 6, 7, NORMS - 1]
    first = normal(1, BATCH, 6, 6, CHANNELS, seed=1)[0].numpy()
    source, _, at = routes[0, 0].tolist()
    assert source == 0
    z = depthwise(np.maximum(first, 0), weights.separable3.depthwise[at, 0].numpy(), 2)
    pixels = (z @ weights.separable3.pointwise[at, 0].numpy()).reshape(-1, CHANNELS)
    assert_same(statistics[0], torch.from_numpy(np.stack([pixels.mean(axis=0), pixels.var(axis=0)])))


def test_a_cell_without_any_norm_has_blank_statistics() -> None:
    weights = random_weights(project=False)
    row = [integer for source in (0, 1, 1, 2, 0, 2) for integer in (source, 4)] * 2
    routes = SPACE.route(torch.tensor([row]))[:, :EDGES]
    _, used = reference.cell(*(normal(1, BATCH, 4, 4, CHANNELS),) * 2, routes, weights)
    expected = torch.tensor([0.0, 1.0], dtype=torch.float64)[:, None].expand(1, NORMS, 2, CHANNELS)
    assert torch.equal(used.tensor(), expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_shared_input_serves_every_child(stride: int) -> None:
    weights = random_weights(project=True)
    routes = random_routes(3)
    shared, own = normal(1, BATCH, 4, 4, CHANNELS, seed=1), normal(3, BATCH, 4, 4, CHANNELS, seed=2)
    out, _ = reference.cell(shared, own, routes, weights, stride=stride)
    repeated, _ = reference.cell(shared.expand(3, -1, -1, -1, -1), own, routes, weights, stride=stride)
    assert torch.equal(out, repeated)


def test_children_never_meet() -> None:
    weights = random_weights(project=True)
    routes = random_routes(3)
    inputs = [normal(3, BATCH, 4, 4, CHANNELS, seed=seed).requires_grad_() for seed in (1, 2)]
    out, _ = reference.cell(*inputs, routes, weights)
    alone, _ = reference.cell(*(x[1:2] for x in inputs), routes[1:2], weights)
    assert torch.equal(out[1], alone[0])
    for gradient in torch.autograd.grad(out[1].square().sum(), inputs):
        assert gradient[1].abs().sum() > 0
        assert gradient[[0, 2]].abs().sum() == 0


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("project", [True, False], ids=["project", "concat"])
def test_gradients_are_finite_differences(project: bool, stride: int) -> None:
    weights = random_weights(project, channels=2)
    row = [0, 0, 1, 3, 1, 1, 2, 2, 0, 4, 2, 0] * 2
    routes = SPACE.route(torch.tensor([row]))[:, :EDGES]
    tables = [weights.separable3, weights.separable5, weights.identity, weights.loose]
    tables += [] if weights.project is None else [weights.project]
    leaves = [tensor.requires_grad_() for table in tables for tensor in table]
    inputs = [normal(1, 2, 3, 2, 2, seed=seed).requires_grad_() for seed in (1, 2)]
    scale = normal(1, EDGES, seed=3).requires_grad_()

    def function(*_: Tensor) -> Tensor:
        return reference.cell(*inputs, routes, weights, scale=scale, stride=stride)[0]

    check = partial(torch.autograd.gradcheck, function, rtol=GRADIENT.rtol, atol=GRADIENT.atol)
    assert check((*inputs, scale, *leaves), fast_mode=True)
    assert check((*inputs, scale))


def test_rows_that_no_edge_uses_get_a_zero_gradient() -> None:
    weights = random_weights(project=True)
    routes = random_routes(2, seed=3)
    for table in (weights.separable3, weights.separable5, weights.identity):
        for tensor in table:
            tensor.requires_grad_()
    out, _ = reference.cell(*(normal(1, BATCH, 4, 4, CHANNELS),) * 2, routes, weights, stride=2)
    out.square().sum().backward()
    for code, table in ((0, weights.separable3), (1, weights.separable5), (4, weights.identity)):
        strided = (routes[..., 0] < 2) | (routes[..., 1] != 4)
        used = set(routes[..., 2][(routes[..., 1] == code) & strided].tolist())
        assert used
        for tensor in table:
            assert tensor.grad is not None
            touched = tensor.grad.flatten(1).abs().sum(dim=1).nonzero().flatten().tolist()
            assert set(touched) <= used
        assert table.gain.grad is not None
        assert set(table.gain.grad.flatten(1).abs().sum(dim=1).nonzero().flatten().tolist()) == used


def test_an_unknown_operation_is_refused() -> None:
    routes = random_routes(1)
    routes[0, 3, 1] = 7
    with pytest.raises(ValueError, match="operation code 7 of edge 3"):
        reference.cell(*(normal(1, BATCH, 4, 4, CHANNELS),) * 2, routes, random_weights(project=True))
