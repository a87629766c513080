"""What a search space is whose supernet also computes mixtures of operations: the protocol of DARTS and its kin."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from enas.space.base import Network, Noise, Output, Scale, SearchSpace


class Edge(NamedTuple):
    """An edge of a relaxable space: the node that reads and the node that is read, both with the name of their cell."""

    node: str
    source: str


class RelaxableSpace(SearchSpace):
    """A space whose rows lie in a continuous set: every candidate of every edge, weighted (Liu et al. 2019, DARTS).

    A mixing [E, O] holds those weights. Which mixings a method visits, and how they come about (a softmax, a sample),
    is its own affair. Where one weight of an edge is 1 and its others are 0, a mixing is a path.
    """

    edges: tuple[Edge, ...]
    """All E edges that rows choose among; those of one node stand together."""
    candidates: tuple[str, ...]
    """The O operations of an edge."""

    @abstractmethod
    def to_mixing(self, row: Sequence[int]) -> Tensor:
        """The mixing [E, O] that computes what `row` does: ones and zeros, on the CPU."""

    @abstractmethod
    def discretise(self, mixing: Tensor) -> list[int]:
        """The row that a mixing [E, O] comes closest to, as the method's authors read it off."""

    @abstractmethod
    def network(
        self,
        scale: Scale,
        generator: torch.Generator,
        row: Sequence[int] | None = None,
        auxiliary: bool = False,
    ) -> RelaxableNetwork:
        """See SearchSpace."""


class RelaxableNetwork(Network):
    """A network that also computes mixtures, where it is a supernet."""

    @abstractmethod
    def mix(
        self,
        inputs: Tensor,
        mixing: Tensor,
        *,
        statistics: Mapping[str, Tensor] | None = None,
        noise: Noise | None = None,
        collect: bool = False,
    ) -> Output:
        """inputs [M, B, H, W, C], mixing [E, O]: M batches of images, each with batch-norm statistics of its own.

        The gradient flows to the mixing. `statistics`, `noise` and `collect` as in `forward`; no path is dropped.
        """
