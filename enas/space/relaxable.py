"""What a search space is whose supernet also computes mixtures of operations: the protocol of DARTS and its kin."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from enas.errors import UserError
from enas.space.base import Cost, SearchSpace
from enas.space.network import Network, Noise, Output
from enas.space.scale import Scale


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

    def edge_costs(self, scale: Scale) -> Cost:
        """What each operation costs on each edge, int64 [E, O], beyond what a row costs in which nothing is chosen.

        Raises UserError where the cost of a row is no sum over its edges.
        """
        count, each = len(self.edges), len(self.candidates)
        single = torch.eye(count * each).view(-1, count, each)
        base = self.discretise(torch.zeros(count, each))
        rows = torch.tensor([base, *(self.discretise(mixing) for mixing in single)])
        random = self.random(20, torch.Generator().manual_seed(0))
        mixings = torch.stack([self.to_mixing(row) for row in random.tolist()]).long()
        costs = []
        for alone, sample in zip(self.cost(rows, scale), self.cost(random, scale), strict=True):
            cost = (alone[1:] - alone[0]).view(count, each)
            if not torch.equal((mixings * cost).sum(dim=(1, 2)) + alone[0], sample):
                raise UserError(
                    f"space {self.name}: the cost of a row is no sum over its edges, nothing can be charged"
                )
            costs.append(cost)
        return Cost(*costs)

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
        hard: bool = False,
    ) -> Output:
        """inputs [M, B, H, W, C], mixing [E, O]: M batches of images, each with batch-norm statistics of its own.

        `hard`: of each edge only the operation of the largest weight is run, the others give nothing; for a mixing of
        ones and zeros the result is the same. The mixing is then read on the host. The gradient flows to the mixing, in
        a hard one to the weights of what was run. `statistics`, `noise` and `collect` as in `forward`; no path is
        dropped.
        """
