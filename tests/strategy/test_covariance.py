"""Kernels over the rows of any space: ones for equal functions, positive definite, and near what they embed."""

import numpy as np
import pytest
import torch

from conformance import SPACES, Growing, generator
from enas.space import EnasMicro, NasBench201, SearchSpace
from enas.strategy.architecture_graph import Blueprint
from enas.strategy.covariance import COVARIANCES, Covariance, Edit, Hamming, Transport
from enas.strategy.distances import edit_distance, transport_distance


@pytest.mark.parametrize("name", ["nasbench201", "growing", "enas_macro-6-sum", "pnas-2"])
@pytest.mark.parametrize("kernel", COVARIANCES)
def test_kernels_are_positive_definite(name: str, kernel: str) -> None:
    space = SPACES[name]
    covariance = COVARIANCES[kernel](space, 4)
    described = covariance.describe(space.random(40, generator()).unique(dim=0).numpy())
    distances = covariance.distances(described, described)
    for length in (0.25, 2.0, 32.0):
        found = covariance.covariance(distances, length)
        assert np.allclose(np.diag(found), 1)
        assert np.allclose(found, found.T)
        assert (found >= 0).all()
        assert np.linalg.eigvalsh(found).min() > -1e-10


@pytest.mark.parametrize("kernel", COVARIANCES)
def test_the_numbers_of_a_row_do_not_depend_on_other_rows(kernel: str) -> None:
    space = NasBench201()
    covariance, rows = COVARIANCES[kernel](space, 5), space.random(20, generator()).numpy()
    together = covariance.describe(rows)
    assert np.array_equal(COVARIANCES[kernel](space, 5).describe(rows[7:9]), together[7:9])


def test_decisions_that_differ_are_counted() -> None:
    covariance = Hamming(NasBench201(), 1)
    numbers = covariance.describe(np.array([[0, 1, 2, 3, 4, 0], [0, 1, 2, 4, 3, 0]]))
    assert covariance.distances(numbers, numbers)[0].tolist() == [[0, 2], [2, 0]]
    assert covariance.covariance(np.full((1, 1, 1), 2.0), 4.0) == pytest.approx(np.exp(-0.5))


def test_inactive_decisions_are_in_no_distance_among_themselves() -> None:
    space = Growing()
    names = [decision.name for decision in space.decisions]
    rows = np.zeros((2, len(names)), dtype=np.int64)
    rows[1, names.index("layer0/operation")] = 1
    covariance = Hamming(space, 1)
    numbers = covariance.describe(rows)
    # the operation differs; combine, source and the next layer's operation are active in the second row alone
    assert covariance.distances(numbers, numbers)[0, 0, 1] == 1 + 3 / 2


@pytest.mark.parametrize("kernel", [Transport, Edit])
def test_rows_are_described_by_their_distances_to_landmarks(kernel: type[Covariance]) -> None:
    space = NasBench201()
    landmarks = space.canonical(space.random(6, generator(0)))
    rows = space.canonical(space.random(9, generator(1)))
    blueprint = Blueprint(space)
    graphs, marks = blueprint.graphs(rows.numpy()), blueprint.graphs(landmarks.numpy())
    measure = transport_distance if kernel is Transport else edit_distance
    expected = measure(graphs, marks, blueprint.features)
    covariance = kernel(space, 6)  # type: ignore[call-arg]
    numbers = covariance.describe(rows.numpy())
    assert np.array_equal(numbers[:, :6], expected)
    own = measure(graphs, graphs, blueprint.features)
    embedded = covariance.distances(numbers, numbers)[0]
    assert (embedded <= own + 1e-9).all()  # no embedding of distances to landmarks makes anything longer
    assert np.corrcoef(embedded.ravel(), own.ravel())[0, 1] > 0.7


def test_kernels_of_distances_and_the_second_distance_is_that_of_a_layer() -> None:
    space = NasBench201()
    covariance, blueprint = Transport(space, 1), Blueprint(space)
    landmark = blueprint.graphs(space.canonical(space.random(1, generator(0))).numpy()).size[0]
    rows = space.canonical(space.random(5, generator(1))).numpy()
    raw, normalised = covariance.describe(rows).T
    assert np.allclose(normalised, raw * 2 * landmark / (blueprint.graphs(rows).size + landmark))
    one = np.array([[[1.0]], [[2.0]]])
    assert covariance.covariance(one, 4.0) == pytest.approx((np.exp(-0.25) + np.exp(-0.125)) / 2)
    assert Edit(space, 1).covariance(one[:1], 4.0) == pytest.approx(np.exp(-0.25))


@pytest.mark.parametrize("space", [EnasMicro(3)], ids=["enas_micro"])
def test_renumbered_nodes_are_the_same_to_transport(space: SearchSpace) -> None:
    rows = space.random(6, generator())
    canonical = space.canonical(rows)
    assert not torch.equal(rows, canonical)
    covariance = Transport(space, 4)
    assert np.allclose(covariance.describe(rows.numpy()), covariance.describe(canonical.numpy()))
