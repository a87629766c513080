"""What a network of a space is: many children in one forward pass, the noise of training, what comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn


class Noise(NamedTuple):
    """The randomness of a training forward pass; evaluation has none.

    dropout    probability that a feature in front of the classifier is zeroed
    drop_path  probability that a path of the last cell is dropped at the end of training
               (ScheduledDropPath of the NASNet paper: linear in depth and in `progress`)
    progress   share of the training that is done, 0..1

    Of networks that read text alone, whose dropout, the one in front of the classifier too, stays the same over time:

    word       probability that a word of the vocabulary is zeroed, wherever it stands
    embedding  probability that a feature of a word is zeroed, wherever the word stands
    input      probability that a feature of what a layer reads is zeroed
    layer      probability that a feature of what a node reads is zeroed
    """

    generator: torch.Generator
    dropout: float = 0.0
    drop_path: float = 0.0
    progress: float = 1.0
    word: float = 0.0
    embedding: float = 0.0
    input: float = 0.0
    layer: float = 0.0


class Output(NamedTuple):
    """What a network gives: logits [M, B, K], the auxiliary head's logits where it has one, statistics if collected.

    Of a recurrent network logits [M, B, T, K], the state after the last word, and the last layer's outputs
    [M, B, T, H] before dropout, which regularisers look at.
    """

    logits: Tensor
    auxiliary: Tensor | None
    statistics: dict[str, Tensor]
    state: Tensor | None = None
    hidden: Tensor | None = None


class Network(nn.Module, ABC):
    """A supernet (a row of weights for every possible edge) or one child (a row for each edge it has)."""

    drops_paths: ClassVar[bool] = True
    """Whether it has paths that `Noise.drop_path` can drop."""
    routes: Tensor | None
    """A child's own routes int32 [1, E, 3]; None in a supernet, which is told."""

    @abstractmethod
    def forward(
        self,
        inputs: Tensor,
        routes: Tensor,
        state: Tensor | None = None,
        *,
        statistics: Mapping[str, Tensor] | None = None,
        noise: Noise | None = None,
        collect: bool = False,
    ) -> Output:
        """inputs [M or 1, B, H, W, C], or words int64 [M or 1, B, T]; routes int32 [M, E, 3].

        `state` is for recurrent networks only, [L, M, B, ...], as `Output` gives it; None: zeros.

        `statistics` normalises by given values instead of each child's own batch; `collect` returns those used,
        under the same names.
        """

    @abstractmethod
    def inherit(self, supernet: Network) -> None:
        """Copy this child's rows out of `supernet`, which was made by the same space at the same scale."""
