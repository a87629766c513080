"""PC-DARTS: some of the channels pass operations, and edges are weighted too (Xu et al., ICLR 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from enas.errors import UserError
from enas.space import RelaxableSpace, SearchSpace
from enas.strategy.relaxation import Relaxation


class PcDarts(Relaxation):
    """The mixing is softmax(alpha) of each edge times beta's softmax over the edges that a node reads.

    channels  of an edge one channel in so many passes through the operations, the others pass them by; the supernet
              has to be made so (Scale.partial), and then all its paths are
    frozen    share of the training in which alpha stands still, since operations without weights would win it at once

    Validation data move alpha and beta, at the weights as they are. See Relaxation for the other keys. Raises UserError
    for a value out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        channels: int = 4,
        frozen: float = 0.3,
        learning_rate: float = 6e-4,
        betas: Sequence[float] = (0.5, 0.999),
        weight_decay: float = 1e-3,
        initial: float = 1e-3,
        seed: int = 0,
    ):
        super().__init__(space, learning_rate, betas, weight_decay, initial, seed)
        if channels < 1:
            raise UserError(f"strategy.channels={channels}: allowed is 1 or more")
        if not 0 <= frozen < 1:
            raise UserError(f"strategy.frozen={frozen}: allowed is 0 to less than 1")
        self.partial, self._frozen = channels, frozen
        self._sizes = [len(list(edges)) for _, edges in groupby(self.relaxable.edges, key=lambda edge: edge.node)]

    def _more(self, space: RelaxableSpace, initial: float, generator: torch.Generator) -> dict[str, nn.Parameter]:
        return {"beta": nn.Parameter(initial * torch.randn(len(space.edges), generator=generator))}

    def strengths(self) -> Tensor:
        nodes = torch.split(self.learned["beta"], self._sizes)
        edges = torch.cat([node.softmax(dim=0) for node in nodes])
        return self.alpha.softmax(dim=1) * edges.unsqueeze(1)

    def mixing(self, generator: torch.Generator, progress: float) -> Tensor:
        return self.strengths()

    def learns(self, progress: float) -> bool:
        return progress >= self._frozen
