"""What a search space is: a fixed list of decisions, and everything that follows from a row of choices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from enas.architecture import Architecture, Genotype
from enas.draw import Drawing
from enas.errors import UserError
from enas.space.network import Network
from enas.space.scale import Scale

Kind = Literal["operation", "source", "skip", "number", "combine"]
Material = Literal["images", "text"]
"""What a network reads, and a data set holds."""


@dataclass(frozen=True)
class Decision:
    """One choice among a few alternatives.

    name          unique in the space, readable: "normal/node2/left/source"
    kind          what the alternatives are; temperature, bounds and penalties of a controller are keyed by it
    alternatives  their names; a source names the nodes it points to, a skip is ("absent", node it connects to)
    vocabulary    decisions of one vocabulary offer the same alternatives and share embeddings
    step          decisions of one step are sampled together, from one state of the controller
    owner         the node the decision helps to build: "normal/node2"
    """

    name: str
    kind: Kind
    alternatives: tuple[str, ...]
    vocabulary: str
    step: int
    owner: str


class Resident:
    """A constant that is copied to each device once: a copy at every use would make the host wait for the device."""

    def __init__(self, constant: Tensor):
        self._copies = {constant.device: constant}
        self._constant = constant

    def on(self, device: torch.device) -> Tensor:
        if device not in self._copies:
            self._copies[device] = self._constant.to(device)
        return self._copies[device]


class Cost(NamedTuple):
    """Cost of n rows: trainable parameters and multiply-adds of convolutions and linear layers, an image or a word."""

    params: Tensor  # int64 [n]
    macs: Tensor  # int64 [n]


class SearchSpace(ABC):
    """A list of decisions and their meaning. Functions on rows take and give int64 `[n, D]` on any device."""

    name: ClassVar[str]
    shareable: bool = True
    """Whether one supernet can hold every row; False where tensor shapes depend on the row. Arguments may decide."""
    reads: ClassVar[Material] = "images"
    """What its networks read."""
    static: ClassVar[bool] = True
    """Whether its networks read routes on the device alone, so that one captured step serves any row."""
    conditional: bool = False
    """Whether some decisions are inactive in some rows, so that `active` has to be asked while sampling. Arguments may
    decide."""
    constrained: ClassVar[bool] = False
    """Whether a row whose decisions were drawn one by one may be illegal though inactive ones are 0.

    The search then tests sampled rows, see `settle`; `repair` may still make one of them legal.
    """
    partial: ClassVar[bool] = False
    """Whether its networks can let channels pass an operation by (Scale.partial)."""
    own_layers: int | None = None
    """The layers of each of its networks where their number belongs to the row; None where any number may be asked."""
    decisions: tuple[Decision, ...]
    sampling_order: tuple[int, ...]
    """A permutation of the row: the order in which a controller samples it."""

    @property
    def default_layers(self) -> int:
        """The layers of a network for which no number is asked."""
        return 3 if self.own_layers is None else self.own_layers

    @property
    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """The constructor arguments, as they stand in genotype.json."""

    @abstractmethod
    def describe(self, row: Sequence[int]) -> dict[str, Any]:
        """The row spelled out for people, as it stands in genotype.json under `graph`."""

    def drawings(self, row: Sequence[int]) -> dict[str, Drawing]:
        """The graphs of the row that are worth drawing, by name; none where a space does not say."""
        return {}

    @abstractmethod
    def text(self, row: Sequence[int]) -> str:
        """The row for a terminal, one line a node."""

    @abstractmethod
    def route(self, choices: Tensor) -> Tensor:
        """Rows [M, D] -> int32 [M, E, 3]: for each edge (source slot, operation code, weight row). Gathers only."""

    @abstractmethod
    def cost(self, choices: Tensor, scale: Scale) -> Cost:
        """Cost of the stand-alone network of each row at `scale`, without an auxiliary head."""

    @abstractmethod
    def network(
        self,
        scale: Scale,
        generator: torch.Generator,
        row: Sequence[int] | None = None,
        auxiliary: bool = False,
    ) -> Network:
        """The supernet at `scale`, or the stand-alone network of `row`, freshly initialised from `generator`."""

    def blank(self, scale: Scale) -> Tensor:
        """The smallest inputs [1, B, ...] that its networks at `scale` take, all zeros."""
        return torch.zeros(1, 2, scale.height, scale.width, scale.channels)

    def routes_of(self, row: Sequence[int] | None) -> Tensor | None:
        """The routes [1, E, 3] of one row; None for the supernet, which has none of its own."""
        return None if row is None else self.route(torch.tensor([list(row)]))

    def check_layers(self, scale: Scale) -> None:
        """Raise UserError where the number of layers belongs to the row and `scale` asks for another."""
        if self.own_layers is not None and scale.layers != self.own_layers:
            raise UserError(
                f"network.layers={scale.layers}: a row of this space {self.name} has {self.own_layers} layers; "
                "allowed is that number"
            )

    def check_partial(self, scale: Scale) -> None:
        """Raise UserError where channels are to pass operations by and the space does not know how."""
        if scale.partial > 1 and not self.partial:
            raise UserError(
                f"space {self.name}: its networks cannot let channels pass an operation by, as one in {scale.partial} "
                "asks for; allowed is 1"
            )

    def refuse_auxiliary(self, auxiliary: bool) -> None:
        """Raise UserError where an auxiliary head is asked for; for spaces whose networks have none."""
        if auxiliary:
            raise UserError(f"space {self.name}: its network has no auxiliary head, set train.auxiliary=0")

    def sources_of(self, decision: Decision) -> tuple[tuple[str, ...], ...]:
        """The nodes that each alternative of `decision` has its owner read; an operation that names some reads them.

        With this a strategy sees the graph in a row. To be overridden where other decisions than sources and skips
        name nodes.
        """
        if decision.kind == "source":
            return tuple((node,) for node in decision.alternatives)
        if decision.kind == "skip":
            return (), (decision.alternatives[1],)
        return ((),) * len(decision.alternatives)

    def active(self, choices: Tensor) -> Tensor:
        """bool [n, D]: which decisions take part. One's activity may depend only on those sampled before it."""
        return torch.ones_like(choices, dtype=torch.bool)

    def repair(self, choices: Tensor) -> Tensor:
        """The legal row that [n, D] stands for: inactive decisions become 0."""
        return torch.where(self.active(choices), choices, 0)

    def settle(self, choices: Tensor) -> Tensor:
        """The rows that decisions [n, D], chosen one by one, make: repaired where the space is not `constrained`.

        Where it is, inactive decisions become 0 and no more, and what then is not legal has to be
        chosen anew: a repair may change decisions that were not to change.
        """
        return SearchSpace.repair(self, choices) if self.constrained else self.repair(choices)

    def canonical(self, choices: Tensor) -> Tensor:
        """One row for all rows that are the same function when trained alone."""
        return self.repair(choices)

    @cached_property
    def _sizes(self) -> Resident:
        return Resident(torch.tensor([len(decision.alternatives) for decision in self.decisions]))

    def sizes(self, device: torch.device) -> Tensor:
        """int64 [D]: the number of alternatives of each decision."""
        return self._sizes.on(device)

    def legal(self, choices: Tensor) -> Tensor:
        """bool [n]: every choice names an alternative and inactive decisions are 0."""
        inside = (choices >= 0) & (choices < self.sizes(choices.device))
        return inside.all(dim=1) & (self.repair(choices) == choices).all(dim=1)

    def random(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` rows, each decision uniform among its alternatives: int64 [count, D] on the generator's device."""
        sizes = self.sizes(generator.device)
        uniform = torch.rand(count, len(sizes), generator=generator, device=generator.device, dtype=torch.float64)
        return self.repair((uniform * sizes).long())

    def picked(self) -> Tensor:
        """float64 [D]: how often `mutate` picks each decision, up to a factor, where it has alternatives; here equal.

        Spaces whose mutation is published as a choice in steps say so (see enas/space/mutation.py).
        """
        return torch.ones(len(self.decisions), dtype=torch.float64)

    @cached_property
    def _picked(self) -> Resident:
        return Resident(self.picked())

    def mutate(self, choices: Tensor, generator: torch.Generator) -> Tensor:
        """Change one decision of each row, `picked` among the active ones that have alternatives, to another one.

        The other alternative is uniform.
        """
        sizes = self.sizes(choices.device)
        free = (self.active(choices) & (sizes > 1)) * self._picked.on(choices.device)
        place = torch.multinomial(free, 1, generator=generator)
        size = sizes[place]
        uniform = torch.rand(place.shape, generator=generator, device=choices.device, dtype=torch.float64)
        other = (choices.gather(1, place) + 1 + (uniform * (size - 1)).long()) % size
        return self.repair(choices.scatter(1, place, other))

    def neighbours(self, choices: Tensor) -> Tensor:
        """The legal rows int64 [k, D] that are one decision away from one row [1, D], settled, each once."""
        sizes = self.sizes(choices.device)
        rows = choices.repeat(int(sizes.sum()), 1)
        place = torch.repeat_interleave(sizes)
        alternative = torch.arange(len(rows), device=rows.device) - (sizes.cumsum(0) - sizes)[place]
        rows.scatter_(1, place[:, None], alternative[:, None])
        rows = self.settle(rows[self.active(choices)[0, place] & (alternative != choices[0, place])])
        distinct: Tensor = torch.unique(rows[self.legal(rows) & (rows != choices).any(dim=1)], dim=0)
        return distinct

    def architecture(self, row: Sequence[int]) -> Architecture:
        return Architecture.of(self.name, self.arguments, row)

    def check(self, row: Sequence[int]) -> None:
        """Raise UserError, naming the place, where `row` is no architecture of this space."""
        if len(row) != len(self.decisions):
            raise UserError(f"space {self.name} has {len(self.decisions)} decisions, the row has {len(row)} integers")
        for decision, choice in zip(self.decisions, row, strict=True):
            if not 0 <= choice < len(decision.alternatives):
                allowed = f"0 to {len(decision.alternatives) - 1}"
                raise UserError(f"choice {choice} of decision {decision.name} is not in {allowed}")
        if not bool(self.legal(torch.tensor([list(row)]))[0]):
            raise UserError(f"the row {list(row)} breaks a rule of space {self.name}")

    def genotype(
        self, row: Sequence[int], scale: Scale, estimate: Mapping[str, Any], provenance: Mapping[str, Any]
    ) -> Genotype:
        """The row as it is written to genotype.json, its cost counted at `scale`."""
        params, macs = self.cost(torch.tensor([list(row)]), scale)
        cost = {"params": int(params), "macs": int(macs), "scale": scale.document()}
        return Genotype(self.architecture(row), self.describe(row), cost, dict(estimate), dict(provenance))
