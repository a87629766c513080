"""How alike the values of two architectures are believed to be: kernels over the rows of any space.

All are positive definite, since each is a Gaussian or an exponential kernel, or a mixture of both, of the Euclidean distance between
vectors of numbers that rows have. Distances between graphs become such numbers as a Lipschitz embedding: a row is
described by its distances to fixed random rows, the landmarks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
import torch

from enas.space import SearchSpace
from enas.strategy.architecture_graph import Blueprint, Floats, Graphs, Integers
from enas.strategy.distances import edit_distance, transport_distance


class Covariance(ABC):
    """A kernel; its distances are kept apart from its length scale, so that many length scales cost little."""

    @abstractmethod
    def describe(self, rows: Integers) -> Floats:
        """Numbers [n, F] that stand for rows [n, D]; those of a row do not depend on what else is described."""

    @abstractmethod
    def distances(self, one: Floats, other: Floats) -> Floats:
        """[k, n, m]: k distances between n and m described rows."""

    @abstractmethod
    def covariance(self, distances: Floats, length: float) -> Floats:
        """[n, m], 1 for equal rows, of distances [k, n, m]."""


class Hamming(Covariance):
    """exp(-h / length), h being the number of decisions that differ; an inactive decision differs by a half from all
    choices of an active one and not from an inactive one."""

    def __init__(self, space: SearchSpace, landmarks: int):
        self._space = space
        sizes = [len(decision.alternatives) for decision in space.decisions]
        self._place = np.repeat(np.arange(len(sizes)), sizes)
        self._choice = np.concatenate([np.arange(size) for size in sizes])

    def describe(self, rows: Integers) -> Floats:
        found = rows[:, self._place] == self._choice
        if self._space.conditional:
            found &= self._space.active(torch.from_numpy(rows)).numpy()[:, self._place]
        numbers: Floats = found.astype(np.float64)
        return numbers

    def distances(self, one: Floats, other: Floats) -> Floats:
        from scipy.spatial.distance import cdist

        found: Floats = cdist(one, other, "sqeuclidean")[None] / 2
        return found

    def covariance(self, distances: Floats, length: float) -> Floats:
        found: Floats = np.exp(-distances[0] / length)
        return found


class _Embedded(Covariance):
    """What kernels of distances between graphs have in common: `landmarks` fixed rows of the space."""

    def __init__(self, space: SearchSpace, landmarks: int):
        self._blueprint = Blueprint(space)
        rows = space.canonical(space.random(landmarks, torch.Generator().manual_seed(0)))
        self._landmarks = self._blueprint.graphs(rows.numpy())

    @abstractmethod
    def _measure(self, graphs: Graphs) -> Floats:
        """[n, k * landmarks]: k distances to each landmark."""

    def describe(self, rows: Integers) -> Floats:
        return self._measure(self._blueprint.graphs(rows))

    def distances(self, one: Floats, other: Floats) -> Floats:
        """Root mean squares over the landmarks."""
        from scipy.spatial.distance import cdist

        count = len(self._landmarks.size)
        parts = [slice(first, first + count) for first in range(0, one.shape[1], count)]
        found: Floats = np.stack([cdist(one[:, part], other[:, part]) for part in parts]) / count**0.5
        return found


class Transport(_Embedded):
    """Half exp(-d / length), half exp(-n² / 2 length²), as NASBOT adds kernels of two distances with powers 1 and 2.

    d embeds the transport distance; n the same divided by the number of layers of both graphs, in units of the
    landmarks' mean number.
    """

    def _measure(self, graphs: Graphs) -> Floats:
        raw = transport_distance(graphs, self._landmarks, self._blueprint.features)
        layers = graphs.size[:, None] + self._landmarks.size
        normalised = raw * (2 * self._landmarks.size.mean() / np.maximum(layers, 1))
        return np.concatenate([raw, normalised], axis=1)

    def covariance(self, distances: Floats, length: float) -> Floats:
        raw, normalised = distances / length
        found: Floats = (np.exp(-raw) + np.exp(-(normalised**2) / 2)) / 2
        return found


class Edit(_Embedded):
    """exp(-d / length), d embedding the edit distance; Auto-Keras's kernel is a Gaussian, exp(-d²)."""

    def _measure(self, graphs: Graphs) -> Floats:
        return edit_distance(graphs, self._landmarks, self._blueprint.features)

    def covariance(self, distances: Floats, length: float) -> Floats:
        found: Floats = np.exp(-distances[0] / length)
        return found


COVARIANCES: Mapping[str, Callable[[SearchSpace, int], Covariance]] = {
    "otmann": Transport,
    "edit": Edit,
    "hamming": Hamming,
}
"""By their names."""
