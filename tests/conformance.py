"""What the conformance suites run over. A new space, strategy or estimator joins its list here and is tested."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from enas.data import Augmentation, Benchmark, DataSet, Split, Text, assemble
from enas.data.nasbench201 import number
from enas.estimator import Cached, Estimator, Language, Scratch, Shared, ZeroCost
from enas.language import FinalLanguageTraining
from enas.space import (
    Amoeba,
    Chain,
    Cost,
    Decision,
    EnasMacro,
    EnasMicro,
    EnasRnn,
    Hierarchical,
    NasBench101,
    NasBench201,
    NasNet,
    Network,
    Pnas,
    RelaxableSpace,
    Scale,
    SearchSpace,
)
from enas.space import Darts as DartsSpace
from enas.strategy import (
    AntColony,
    Bayesian,
    Darts,
    Evolution,
    Gdas,
    HierarchicalEvolution,
    LocalSearch,
    PcDarts,
    Ppo,
    ProgressiveSearch,
    Random,
    Reinforce,
    Relaxation,
    Sampler,
    Snas,
    SuccessiveHalving,
)
from enas.supernet import Supernet


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Growing(SearchSpace):
    """A chain of up to three layers: each may be absent, and then so are all later ones.

    A layer has an operation, a skip from each earlier layer (chosen together), a source and a way to combine. It has
    every kind of decision and no network: for what needs the decisions alone.
    """

    name = "growing"
    conditional = True
    layers = 3

    def __init__(self) -> None:
        operations = ("absent", "small", "large", "pool")
        self.decisions = (Decision("width", "number", ("8", "16"), "width", 0, "net"),)
        for layer in range(self.layers):
            owner, step = f"layer{layer}", 4 * layer
            earlier = ("stem", *(f"layer{index}" for index in range(layer)))
            self.decisions += (
                Decision(f"{owner}/combine", "combine", ("sum", "maximum"), "combine", step + 4, owner),
                Decision(f"{owner}/operation", "operation", operations, "operation", step + 1, owner),
                *(
                    Decision(f"{owner}/skip{index}", "skip", ("absent", earlier[index]), "skip", step + 3, owner)
                    for index in range(layer)
                ),
                Decision(f"{owner}/source", "source", earlier, "layers", step + 2, owner),
            )
        order = sorted(range(len(self.decisions)), key=lambda place: self.decisions[place].step)
        self.sampling_order = tuple(order)

    @property
    def arguments(self) -> dict[str, Any]:
        return {}

    def active(self, choices: Tensor) -> Tensor:
        active = torch.ones_like(choices, dtype=torch.bool)
        present = torch.ones_like(choices[:, 0], dtype=torch.bool)
        operations = {d.owner: place for place, d in enumerate(self.decisions) if d.kind == "operation"}
        for owner, operation in operations.items():
            own = [place for place, decision in enumerate(self.decisions) if decision.owner == owner]
            active[:, operation] = present
            present = present & (choices[:, operation] != 0)
            for place in own:
                if place != operation:
                    active[:, place] = present
        return active

    def describe(self, row: Sequence[int]) -> dict[str, Any]:
        return {d.name: d.alternatives[choice] for d, choice in zip(self.decisions, row, strict=True)}

    def text(self, row: Sequence[int]) -> str:
        return "\n".join(f"{name} = {choice}" for name, choice in self.describe(row).items())

    def route(self, choices: Tensor) -> Tensor:
        raise NotImplementedError

    def cost(self, choices: Tensor, scale: Scale) -> Cost:
        raise NotImplementedError

    def network(
        self,
        scale: Scale,
        generator: torch.Generator,
        row: Sequence[int] | None = None,
        auxiliary: bool = False,
    ) -> Network:
        raise NotImplementedError


MICRO_SPACES: Mapping[str, SearchSpace] = {
    f"enas_micro-{nodes}-{output}": EnasMicro(nodes, output)  # type: ignore[arg-type]
    for nodes, output in [(1, "concat"), (2, "project"), (3, "concat"), (4, "project"), (5, "project"), (5, "concat")]
}
"""The ENAS cell space, of all sizes and outputs."""

MACRO_SPACES: Mapping[str, SearchSpace] = {
    "enas_macro-4-concat": EnasMacro(4),
    "enas_macro-6-sum": EnasMacro(6, "sum", doubling=False),
}
"""The ENAS space of whole networks, with both ways to join skips."""

TEXT_SPACES: Mapping[str, SearchSpace] = {
    "enas_rnn-3-all": EnasRnn(3),
    "enas_rnn-8-loose_ends": EnasRnn(8, "loose_ends"),
}
"""The recurrent cell space: networks that read text."""

PAIR_SPACES: Mapping[str, SearchSpace] = {
    "nasnet-2": NasNet(2),
    "amoeba-3": Amoeba(3, output="input0 node4 / node2 input1"),
    "pnas-2": Pnas(2, output="nodes"),
    "pnas-growing": Pnas(3, growing=True),
}
"""NASNet's family: with and without a choice of how to join, two cells and one, all three rules of output."""

RELAXABLE_SPACES: Mapping[str, RelaxableSpace] = {
    "darts-2": DartsSpace(2),
    "darts-4": DartsSpace(),
    "nasbench201": NasBench201(),
}
"""Spaces whose supernets also compute mixtures of operations."""


CELL_SPACES: Mapping[str, SearchSpace] = {
    **MICRO_SPACES,
    **MACRO_SPACES,
    **PAIR_SPACES,
    **RELAXABLE_SPACES,
    "chain": Chain(4),
    "hierarchical": Hierarchical(motifs=3, motif_nodes=3, nodes=4),
    "hierarchical-flat": Hierarchical(motifs=0, nodes=5),
    **TEXT_SPACES,
}
"""Spaces with networks that share weights."""

SCRATCH_SPACES: Mapping[str, SearchSpace] = {"chain-strides": Chain(3, strides=True), "nasbench101": NasBench101()}
"""Spaces whose tensor shapes depend on the row: each row is trained from scratch."""

SPACES: Mapping[str, SearchSpace] = {**CELL_SPACES, **SCRATCH_SPACES, "growing": Growing()}
"""All spaces: those with networks, and one with every kind of decision."""

PUBLISHED_SETTINGS: Mapping[str, Any] = {
    "bound": {"operation": 0.44, "source": 1.10},
    "initial_bias": {"operation": [10, 10, 0, 0, 0]},
    "prior": {"normal/*/operation": [0.25, 0.25, -0.25, -0.25, -0.25]},
    "entropy": "reward",
}
"""The authors' micro controller, for enas_micro alone."""

STRATEGIES: Mapping[str, Callable[[SearchSpace], Sampler]] = {
    "random": Random,
    "reinforce": lambda space: Reinforce(space, hidden=8),
    "reinforce-reward": lambda space: Reinforce(space, hidden=8, entropy="reward", baseline_decay=0.5),
    "reinforce-bounded": lambda space: Reinforce(
        space,
        hidden=8,
        temperature={"operation": 5.0, "source": 2.0},
        bound={"operation": 2.5, "source": 1.1, "skip": 1.5},
        prior={"*/source": [0.1, -0.1]} if isinstance(space, EnasMicro) and space.nodes == 1 else {},
        entropy_weight=0.01,
        seed=1,
    ),
    "evolution": lambda space: Evolution(space, population=5, sample=2),
    "hierarchical_evolution": lambda space: HierarchicalEvolution(space, initial=6, mutations=3, memory=9),
    "local_search": lambda space: LocalSearch(space, memory=6),
    "ant_colony": lambda space: AntColony(space, ants=3, memory=6),
    "ppo": lambda space: Ppo(space, hidden=8, minibatch=3, passes=2),
    "pnas-mlp": lambda space: ProgressiveSearch(
        space, beam=6, expansions=30, members=2, embedding=4, hidden=4, steps=2
    ),
    "pnas-lstm": lambda space: ProgressiveSearch(
        space, beam=6, expansions=20, surrogate="lstm", members=2, embedding=4, hidden=4, steps=1, memory=9
    ),
    "successive_halving": lambda space: SuccessiveHalving(space, width=5, eta=2, rungs=3),
    "bayesian-otmann": lambda space: Bayesian(space, initial=2, pool=8, hallucinated=3, landmarks=3, memory=14),
    "bayesian-edit": lambda space: Bayesian(
        space, "edit", "expected_improvement", initial=2, pool=6, hallucinated=2, landmarks=2, refit=2
    ),
    "bayesian-hamming": lambda space: Bayesian(space, "hamming", initial=1, pool=8, parents=2, hallucinated=9, refit=1),
}

RELAXATIONS: Mapping[str, Callable[[SearchSpace], Relaxation]] = {
    "darts": Darts,
    "darts-first": lambda space: Darts(space, order=1, initial=1.0, seed=1),
    "gdas": Gdas,
    "snas": lambda space: Snas(space, resource_weight=0.01),
    "pc_darts": lambda space: PcDarts(space, channels=2, frozen=0.0),
}
"""Strategies that learn a mixture, on RELAXABLE_SPACES."""

SCALE = Scale(layers=1, filters=4, height=16, width=16, channels=3, classes=4)
"""Small, and yet every pool sees a border and an inside in every cell."""


def scale_of(space: SearchSpace) -> Scale:
    """SCALE, with as many layers as the space has."""
    return SCALE if space.own_layers is None else replace(SCALE, layers=space.own_layers)


ESTIMATORS: Mapping[str, Callable[[Supernet, DataSet], Estimator]] = {
    "shared": lambda supernet, data: Shared(supernet, data, batch_size=16, images=16, children=4),
    "shared-loss": lambda supernet, data: Shared(supernet, data, "loss", batch_size=8, images=20, children=3),
    "shared-reestimated": lambda supernet, data: Shared(
        supernet, data, "loss", batch_size=16, images=16, children=5, statistics="reestimated"
    ),
    "cached": lambda supernet, data: Cached(Shared(supernet, data, batch_size=16, images=16, children=4)),
    "scratch": lambda supernet, data: Scratch(
        supernet.space, supernet.scale, replace(data, train=data.train[torch.arange(16)]), epochs=1, batch_size=16
    ),
    "zero_cost": lambda supernet, data: ZeroCost(supernet.space, supernet.scale, data, batch_size=8),
}
"""Estimators on images; those that need no supernet take its space and its scale."""


def toy_data(images: int = 90, scale: Scale = SCALE, augmentation: Augmentation | None = None) -> DataSet:
    """Noise with a bright spot whose place is the class: learnable, made of integers alone."""
    shape = (images, scale.height, scale.width, scale.channels)
    pixels = torch.randint(0, 128, shape, generator=generator(5), dtype=torch.uint8)
    labels = torch.arange(images) % scale.classes
    for label in range(scale.classes):
        pixels[labels == label, 2 * label + 1 : 2 * label + 4, 2:6] += 100
    classes = [f"class{label}" for label in range(scale.classes)]
    return assemble("toy", Split(pixels, labels), classes, augmentation or Augmentation(), valid=30, test=12)


def images(children: int = 1, batch: int = 3, scale: Scale = SCALE, seed: int = 0) -> Tensor:
    """Inputs [children, batch, H, W, C]."""
    return torch.randn(children, batch, scale.height, scale.width, scale.channels, generator=generator(seed))


def words(children: int = 1, batch: int = 3, scale: Scale = SCALE, seed: int = 0, length: int = 4) -> Tensor:
    """Words int64 [children, batch, T]."""
    return torch.randint(scale.classes, (children, batch, length), generator=generator(seed))


def inputs(space: SearchSpace, children: int = 1, batch: int = 3, scale: Scale = SCALE, seed: int = 0) -> Tensor:
    """What networks of `space` read, images in float64."""
    if space.reads == "text":
        return words(children, batch, scale, seed)
    return images(children, batch, scale, seed).double()


TEXT_SCALE = Scale(layers=1, filters=8, height=1, width=1, channels=1, classes=6)
"""The smallest language model that learns `toy_text`."""


def toy_text(length: int = 600, scale: Scale = TEXT_SCALE) -> Text:
    """A text in which a word is mostly the one after the last: learnable, made of integers alone."""
    steps = torch.randint(0, 5, (length,), generator=generator(5)).clamp_max(1)
    tokens = steps.cumsum(0) % scale.classes
    classes = tuple(f"word{place}" for place in range(scale.classes))
    return Text("toy", tokens[:400], tokens[400:500], tokens[500:], classes)


def toy_table() -> Benchmark:
    """A made-up table of all rows of nasbench201, in which operations of a higher place are better on every edge.

    The outcome weighs later edges more than the signal does.
    """
    codes = torch.arange(5**6)
    rows = torch.stack([codes // 5**place % 5 for place in range(6)], dim=1).double()
    return Benchmark(
        name="toy table",
        space="nasbench201",
        scale=Scale(1, 4, 16, 16, 3, 4),
        key=number,
        keys=codes,
        signals=rows.sum(dim=1) / 24,
        outcomes=(rows * torch.arange(1, 7)).sum(dim=1) / 84,
        costs=None,
        signal_label="toy signal",
        outcome_label="toy outcome",
    )


TEXT_ESTIMATORS: Mapping[str, Callable[[Supernet, Text], Estimator]] = {
    "language": lambda supernet, text: Language(supernet, text, batch_size=5, length=4, children=4),
    "language-loss": lambda supernet, text: Language(supernet, text, "loss", batch_size=3, length=5, windows=2),
    "scratch": lambda supernet, text: Scratch(
        supernet.space,
        supernet.scale,
        text,
        "loss",
        epochs=1,
        batch_size=5,
        train=partial(FinalLanguageTraining, steps=1),
    ),
}
"""Estimators on text."""
