"""What every relaxable space must hold, over RELAXABLE_SPACES: edges, mixings, and mixtures that are paths."""

from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest
import torch
from torch import Tensor

from conformance import CELL_SPACES, RELAXABLE_SPACES, SCALE, generator, images, scale_of
from enas.errors import UserError
from enas.space import NasBench201, RelaxableSpace, SearchSpace
from enas.space.darts import OPERATIONS
from enas.space.nasbench201_network import _Cell
from enas.supernet import Supernet
from tolerances import GRADIENT, assert_same

SMALL = replace(SCALE, layers=3, height=9, width=8)
"""Cells of every kind."""

relaxable_spaces = pytest.mark.parametrize("space", RELAXABLE_SPACES.values(), ids=RELAXABLE_SPACES)


def supernet_of(space: SearchSpace) -> Supernet:
    """In float64, with gains and biases that are seen."""
    supernet = Supernet(space, SMALL, generator(1)).double()
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator(2), dtype=torch.float64)
    return supernet


def inputs_of(children: int = 1, batch: int = 2) -> Tensor:
    return images(children, batch, SMALL).double()


def mixing_of(space: RelaxableSpace) -> Tensor:
    logits = torch.randn(len(space.edges), len(space.candidates), generator=generator(3), dtype=torch.float64)
    return logits.softmax(dim=1)


@relaxable_spaces
def test_edges_join_nodes_in_an_order_in_which_each_reads_what_stands_before(space: RelaxableSpace) -> None:
    assert len(set(space.edges)) == len(space.edges)
    nodes = [node for node, _ in groupby(edge.node for edge in space.edges)]
    assert len(set(nodes)) == len(nodes)  # the edges of a node stand together
    assert {decision.owner for decision in space.decisions} == set(nodes)
    for edge in space.edges:
        if edge.source in nodes:
            assert nodes.index(edge.source) < nodes.index(edge.node)
    operations = {d.alternatives for d in space.decisions if d.kind == "operation"}
    assert operations == {space.candidates}


@relaxable_spaces
def test_a_row_is_a_mixing_of_ones_and_zeros_and_is_read_off_again(space: RelaxableSpace) -> None:
    read = 0
    for row in space.random(60, generator()).tolist():
        mixing = space.to_mixing(row)
        assert mixing.shape == (len(space.edges), len(space.candidates))
        assert ((mixing == 0) | (mixing == 1)).all()
        assert (mixing.sum(dim=1) == 1).all()
        if "'none'" not in str(space.describe(row)):
            read += 1
            assert space.discretise(mixing) == row
            assert space.discretise(0.3 * mixing + 0.01) == row
    assert read > 2


@relaxable_spaces
def test_any_mixing_has_a_row(space: RelaxableSpace) -> None:
    shape = (len(space.edges), len(space.candidates))
    for mixing in (mixing_of(space), torch.zeros(shape), torch.full(shape, 0.125, requires_grad=True)):
        space.check(space.discretise(mixing))


@relaxable_spaces
def test_the_mixture_of_a_row_is_its_path(space: RelaxableSpace) -> None:
    supernet, rows, inputs = supernet_of(space), space.random(5, generator(4)), inputs_of()
    for row, expected in zip(rows.tolist(), supernet(inputs, rows), strict=True):
        assert_same(supernet.mix(inputs, space.to_mixing(row).double())[0], expected)


@relaxable_spaces
def test_gradients_flow_to_the_mixing(space: RelaxableSpace) -> None:
    supernet, inputs = supernet_of(space), inputs_of(batch=3)
    weights = torch.randn(3, SMALL.classes, generator=generator(6), dtype=torch.float64)

    def loss(mixing: Tensor) -> Tensor:
        return (supernet.mix(inputs, mixing)[0] * weights).sum()

    mixing = mixing_of(space).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(mixing), mixing)
    for edge in (0, len(space.edges) // 2, len(space.edges) - 1):
        for candidate in range(len(space.candidates)):
            step = torch.zeros_like(mixing)
            step[edge, candidate] = 1e-6
            with torch.no_grad():
                slope = (loss(mixing + step) - loss(mixing - step)) / 2e-6
            torch.testing.assert_close(gradient[edge, candidate], slope, rtol=1e-4, atol=GRADIENT.atol)
    other = space.candidates.index("none")
    assert (gradient[:, other] == 0).all()
    others = [place for place in range(len(space.candidates)) if place != other]
    assert (gradient[:, others] != 0).all()


@relaxable_spaces
def test_batches_of_a_mixture_have_statistics_of_their_own(space: RelaxableSpace) -> None:
    supernet, inputs, mixing = supernet_of(space), inputs_of(3), mixing_of(space)
    together = supernet.mix(inputs, mixing)
    for own, logits in zip(inputs, together, strict=True):
        assert torch.equal(supernet.mix(own[None], mixing)[0], logits)


@relaxable_spaces
def test_statistics_of_a_mixture_are_collected_and_used(space: RelaxableSpace) -> None:
    supernet, inputs, mixing = supernet_of(space), inputs_of(batch=4), mixing_of(space)
    network = supernet.network
    whole = network.mix(inputs, mixing, collect=True)
    given = whole.statistics
    one_by_one = [supernet.mix(inputs[:, [place]], mixing, statistics=given) for place in range(4)]
    assert_same(torch.cat(one_by_one, dim=1), whole.logits)


def hard_of(space: RelaxableSpace) -> Tensor:
    """One operation on each edge, none among them, of weights that are not 1."""
    places = torch.arange(len(space.edges))
    mixing = torch.zeros(len(space.edges), len(space.candidates), dtype=torch.float64)
    mixing[places, places % len(space.candidates)] = 0.5 + 0.1 * places.double()
    return mixing


@relaxable_spaces
def test_a_hard_mixture_is_the_mixture(space: RelaxableSpace) -> None:
    supernet, inputs, mixing = supernet_of(space), inputs_of(2), hard_of(space)
    assert_same(supernet.mix(inputs, mixing, hard=True), supernet.mix(inputs, mixing))


@relaxable_spaces
def test_a_hard_mixture_runs_the_chosen_operations_alone(
    space: RelaxableSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    supernet, mixing = supernet_of(space), hard_of(space)
    run = counted(space, monkeypatch)
    supernet.mix(inputs_of(), mixing, hard=True)
    cells = SMALL.layers * (3 if isinstance(space, NasBench201) else 1)  # of stages, or of both kinds
    chosen = sum(mixing.argmax(dim=1) != space.candidates.index("none")).item()
    if isinstance(space, NasBench201):
        assert len(run) == chosen * cells
    else:  # this stack has one normal cell and two that reduce
        normal, reduction = ([code for code in half.argmax(dim=1).tolist() if code] for half in mixing.chunk(2))
        assert sorted(run) == sorted(normal + 2 * reduction)


def counted(space: RelaxableSpace, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The codes of the operations that are run from now on."""
    run: list[int] = []
    if isinstance(space, NasBench201):
        whole = _Cell._compute_edge

        def compute(self: _Cell, x: Tensor, code: int, *rest: Any) -> Any:
            run.append(code)
            return whole(self, x, code, *rest)

        monkeypatch.setattr(_Cell, "_compute_edge", compute)
        return run
    for kind in {type(operation) for operation in OPERATIONS}:

        def watch(self: Any, *inputs: Any, compute: Any = kind.compute) -> Any:
            run.append(OPERATIONS.index(self))
            return compute(self, *inputs)

        monkeypatch.setattr(kind, "compute", watch)
    return run


@relaxable_spaces
def test_the_gradient_of_a_hard_mixture_is_that_of_the_chosen_operations(space: RelaxableSpace) -> None:
    supernet, inputs = supernet_of(space), inputs_of(batch=3)
    weights = torch.randn(3, SMALL.classes, generator=generator(6), dtype=torch.float64)
    gradients = []
    for hard in (True, False):
        mixing = hard_of(space).requires_grad_()
        ((supernet.mix(inputs, mixing, hard=hard)[0] * weights).sum()).backward()
        gradients.append(mixing.grad)
    chosen = hard_of(space) != 0
    assert_same(gradients[0][chosen], gradients[1][chosen])
    assert (gradients[0][~chosen] == 0).all()


@relaxable_spaces
def test_a_hard_mixture_has_the_statistics_of_the_mixture(space: RelaxableSpace) -> None:
    network, inputs, mixing = supernet_of(space).network, inputs_of(2, batch=4), hard_of(space)
    soft, hard = (network.mix(inputs, mixing, collect=True, hard=hard).statistics for hard in (False, True))
    assert soft.keys() == hard.keys()
    for name, used in hard.items():
        computed = used != used.new_tensor([[0.0], [1.0]])
        assert_same(used[computed], soft[name][computed])
    again = network.mix(inputs, mixing, statistics=soft, hard=True).logits
    assert_same(again, network.mix(inputs, mixing, hard=True).logits)


@relaxable_spaces
def test_the_network_of_one_row_has_no_mixture(space: RelaxableSpace) -> None:
    row = space.random(1, generator())[0].tolist()
    with pytest.raises(ValueError, match="the network of one row has no mixture"):
        space.network(SCALE, generator(), row).mix(images(), space.to_mixing(row))


@pytest.mark.parametrize("name", [name for name in CELL_SPACES if name not in RELAXABLE_SPACES])
def test_other_spaces_have_no_mixture(name: str) -> None:
    space = CELL_SPACES[name]
    assert not isinstance(space, RelaxableSpace)
    supernet = Supernet(space, scale_of(space), generator())
    with pytest.raises(UserError, match=f"space {space.name} has no mixture of operations"):
        supernet.mix(images(), torch.zeros(1, 1))
