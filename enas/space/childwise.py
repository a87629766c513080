"""Networks that are computed one child after the other, and the rows of weights that their children keep."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from enas.space.layers import Norms
from enas.space.network import Network, Noise, Output
from enas.space.rows import he_normal


class WeightRows(nn.Module):
    """Weights of one operation, a row for each number in `rows`; He-normal, and a batch norm of gain 1 and bias 0.

    A supernet has a row for every edge that may have the operation, a child one for each edge that has it.

    shapes  name -> the shape of a row and how many inputs each output adds up
    norm    channels of the batch norm behind it, 0 for none
    """

    def __init__(
        self,
        rows: Sequence[int],
        shapes: Mapping[str, tuple[tuple[int, ...], int]],
        norm: int,
        generator: torch.Generator,
    ):
        super().__init__()
        self.rows = list(rows)
        for name, (shape, fan_in) in shapes.items():
            self.register_parameter(name, he_normal((len(self.rows), *shape), fan_in, generator))
        if norm:
            self.gain = nn.Parameter(torch.ones(len(self.rows), norm))
            self.bias = nn.Parameter(torch.zeros(len(self.rows), norm))

    def row(self, number: int) -> list[Tensor]:
        """The weights of one row: those of `shapes` in their order, then gain and bias."""
        place = self.rows.index(number)
        return [parameter[place] for parameter in self.parameters()]

    def inherit(self, shared: WeightRows) -> None:
        """Copy this child's rows out of a supernet's."""
        places = [shared.rows.index(number) for number in self.rows]
        for name, parameter in self.named_parameters():
            parameter.copy_(shared.get_parameter(name)[places])


class ChildwiseNetwork(Network):
    """A network whose subclass computes one child; its bits cannot depend on how many others there are.

    Its space has `static = False`: routes are read on the host.
    """

    def __init__(self, routes: Tensor | None):
        super().__init__()
        self.register_buffer("routes", routes)

    @abstractmethod
    def compute(self, inputs: Tensor, routes: Sequence[Sequence[int]], norms: Norms, noise: Noise | None) -> Tensor:
        """One child: images [1, B, H, W, C] and its routes [E][3] -> logits [1, B, K].

        Each batch norm is computed through `norms`, under a name of its own within the child.
        """

    def begin(self, inputs: Tensor, norms: Norms) -> Tensor:
        """What no decision is about, such as a stem: images [M or 1, B, H, W, C] -> what `compute` is given.

        It is computed once where all children see the same images. Its batch norms have names of their own too.
        """
        return inputs

    def classify(
        self, inputs: Tensor, routes: Sequence[Sequence[int]], norms: Norms, noise: Noise | None
    ) -> tuple[Tensor, Tensor | None]:
        """`compute`, and the logits of the auxiliary head of a network that has one."""
        return self.compute(inputs, routes, norms, noise), None

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
        if state is not None:
            raise ValueError("a network of images has no state")
        common = Norms(statistics, collect)
        begun = self.begin(inputs, common)
        results, used = [], []
        for child, own in enumerate(routes.tolist()):
            norms = Norms(None if statistics is None else _of_child(statistics, child), collect)
            results.append(self.classify(begun[child if len(begun) > 1 else 0, None], own, norms, noise))
            used.append(norms.collected())
        second = [auxiliary for _, auxiliary in results if auxiliary is not None]
        logits = torch.cat([own for own, _ in results])
        return Output(logits, torch.cat(second) if second else None, {**common.collected(), **_join(used)})

    def inherit(self, supernet: Network) -> None:
        with torch.no_grad():
            for own, shared in zip(self.modules(), supernet.modules(), strict=True):
                if isinstance(own, WeightRows):
                    assert isinstance(shared, WeightRows)
                    own.inherit(shared)
                else:
                    for name, parameter in own.named_parameters(recurse=False):
                        parameter.copy_(shared.get_parameter(name))


def _of_child(statistics: Mapping[str, Tensor], child: int) -> dict[str, Tensor]:
    """One child's statistics; those of what is common to all stand there once."""
    return {name: each[child if len(each) > 1 else 0, None] for name, each in statistics.items()}


def _join(used: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Statistics of all children, [M, N, 2, C]: (0, 1) where a child has none of a name, or fewer channels."""
    largest: dict[str, Tensor] = {}
    for own in used:
        for name, each in own.items():
            if name not in largest or each.shape[-1] > largest[name].shape[-1]:
                largest[name] = each
    joined = {}
    for name, example in largest.items():
        blank = torch.zeros_like(example)
        blank[..., 1, :] = 1.0
        rows = [own.get(name, blank) for own in used]
        joined[name] = torch.cat([torch.cat([row, blank[..., row.shape[-1] :]], dim=-1) for row in rows])
    return joined
