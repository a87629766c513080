"""One set of weights for every architecture of a space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from enas.errors import UserError
from enas.space import Noise, Output, RelaxableNetwork, Scale, SearchSpace
from enas.supernet.child import Child


class Supernet(nn.Module):
    """The shared weights of `space` at `scale`. Which child is computed is an argument of `forward`, never a state.

    Batch norm: each child is normalised by its own batch, or by `statistics` given for that child; averages over
    several children do not exist. Raises UserError for a space whose tensor shapes depend on the row.
    """

    def __init__(self, space: SearchSpace, scale: Scale, generator: torch.Generator):
        super().__init__()
        if not space.shareable:
            raise UserError(
                f"space {space.name} cannot share weights, its tensor shapes depend on the row; "
                "use an estimator that trains from scratch or a table"
            )
        space.check_partial(scale)
        self.space, self.scale = space, scale
        self.network = space.network(scale, generator)

    def forward(
        self,
        inputs: Tensor,
        choices: Tensor,
        state: Tensor | None = None,
        *,
        statistics: Mapping[str, Tensor] | None = None,
        noise: Noise | None = None,
    ) -> Tensor:
        """inputs [M or 1, B, H, W, C], choices [M or 1, D] -> logits [M, B, K]: child m sees its own B images.

        Words int64 [M or 1, B, T] give logits [M, B, T, K].
        """
        routes = self._routes(inputs, choices)
        logits: Tensor = self.network(inputs, routes, state, statistics=statistics, noise=noise).logits
        return logits

    def mix(
        self,
        inputs: Tensor,
        mixing: Tensor,
        *,
        statistics: Mapping[str, Tensor] | None = None,
        noise: Noise | None = None,
        hard: bool = False,
    ) -> Tensor:
        """The mixture of all operations: inputs [M, B, H, W, C], mixing [E, O] -> logits [M, B, K].

        `hard`: of each edge only the operation of the largest weight is run; see RelaxableNetwork.mix.
        Raises UserError for a space that is not relaxable.
        """
        if not isinstance(self.network, RelaxableNetwork):
            raise UserError(f"space {self.space.name} has no mixture of operations; use a strategy that samples rows")
        return self.network.mix(inputs, mixing, statistics=statistics, noise=noise, hard=hard).logits

    def read(self, words: Tensor, choices: Tensor, state: Tensor | None = None, noise: Noise | None = None) -> Output:
        """As `forward`, with all that a recurrent network gives: the state above all, to go on from."""
        output: Output = self.network(words, self._routes(words, choices), state, noise=noise)
        return output

    @torch.no_grad()
    def statistics(self, batches: Iterable[Tensor], choices: Tensor) -> dict[str, Tensor]:
        """The batch-norm statistics of each child over `batches` of inputs [1, B, H, W, C], without noise."""
        collected = []
        for inputs in batches:
            routes = self._routes(inputs, choices)
            collected.append(self.network(inputs, routes, collect=True).statistics)
        return mean_statistics(collected)

    def extract(self, row: Sequence[int]) -> Child:
        """The child `row` as a network of its own, with a copy of its share of the weights."""
        child = Child(self.space, row, self.scale, torch.Generator().manual_seed(0))
        child.to(next(self.parameters()))  # device and type
        child.network.inherit(self.network)
        return child

    def _routes(self, inputs: Tensor, choices: Tensor) -> Tensor:
        routes = self.space.route(choices)
        return routes.expand(max(inputs.shape[0], routes.shape[0]), -1, -1)


def mean_statistics(collected: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean and variance over several equal batches, [..., 2, C]: the variance of the batch means is added."""
    joined = {}
    for name in collected[0]:
        mean, variance = torch.stack([batch[name] for batch in collected]).unbind(dim=-2)
        total = variance.mean(dim=0) + mean.var(dim=0, unbiased=False)
        joined[name] = torch.stack([mean.mean(dim=0), total], dim=-2)
    return joined
