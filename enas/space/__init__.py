"""What may be built: decisions, search spaces, candidate operations. SPACES is the one table of spaces by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from enas.architecture import Architecture, Genotype, read_genotype
from enas.errors import UserError
from enas.space.base import Cost, Decision, Network, Noise, Output, Scale, SearchSpace
from enas.space.darts import Darts
from enas.space.enas_micro import EnasMicro
from enas.space.nasbench201 import NasBench201
from enas.space.nasnet import Amoeba, NasNet, Pnas
from enas.space.relaxable import Edge, RelaxableNetwork, RelaxableSpace

SPACES: Mapping[str, type[SearchSpace]] = {
    space.name: space for space in (EnasMicro, NasBench201, NasNet, Amoeba, Pnas, Darts)
}


def build_space(name: str, arguments: Mapping[str, Any]) -> SearchSpace:
    """The space called `name`. Raises UserError for an unknown space, an unknown argument or a value it refuses."""
    if name not in SPACES:
        raise UserError(f"space {name!r} is unknown; allowed are {', '.join(SPACES)}")
    allowed = list(inspect.signature(SPACES[name]).parameters)
    for key in arguments:
        if key not in allowed:
            raise UserError(f"space {name} has no argument {key!r}; it has {', '.join(allowed)}")
    return SPACES[name](**arguments)


def load_genotype(path: Path) -> tuple[Genotype, SearchSpace]:
    """Read `genotype.json` and build the space it names. Raises UserError, one sentence, if anything is off."""

    def describe(architecture: Architecture) -> Mapping[str, Any]:
        space = build_space(architecture.space, dict(architecture.arguments))
        space.check(architecture.choices)
        return space.describe(architecture.choices)

    genotype = read_genotype(path, describe)
    scale, sizes = genotype.cost.get("scale"), {entry.name for entry in fields(Scale)}
    if (
        not isinstance(scale, dict)
        or scale.keys() != sizes
        or not all(type(size) is int and size > 0 for size in scale.values())
    ):
        raise UserError(f"genotype={path}: cost.scale has to hold whole numbers above 0 for {', '.join(sorted(sizes))}")
    return genotype, build_space(genotype.architecture.space, dict(genotype.architecture.arguments))


__all__ = [
    "SPACES",
    "Amoeba",
    "Cost",
    "Darts",
    "Decision",
    "Edge",
    "EnasMicro",
    "NasBench201",
    "NasNet",
    "Network",
    "Noise",
    "Output",
    "Pnas",
    "RelaxableNetwork",
    "RelaxableSpace",
    "Scale",
    "SearchSpace",
    "build_space",
    "load_genotype",
]
