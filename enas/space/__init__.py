"""What may be built: decisions, search spaces, candidate operations. SPACES is the one table of spaces by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from enas.architecture import Architecture, Genotype, read_genotype
from enas.errors import UserError
from enas.space import own
from enas.space.base import Cost, Decision, Material, SearchSpace
from enas.space.chain import Chain
from enas.space.darts import Darts
from enas.space.enas_macro import EnasMacro
from enas.space.enas_micro import EnasMicro
from enas.space.enas_rnn import EnasRnn
from enas.space.hierarchical import Hierarchical
from enas.space.nasbench101 import NasBench101
from enas.space.nasbench201 import NasBench201
from enas.space.nasnet import Amoeba, NasNet, Pnas
from enas.space.network import Network, Noise, Output
from enas.space.relaxable import Edge, RelaxableNetwork, RelaxableSpace
from enas.space.scale import Scale

SPACES: dict[str, type[SearchSpace]] = {
    space.name: space
    for space in (
        EnasMicro,
        EnasMacro,
        EnasRnn,
        NasBench101,
        NasBench201,
        NasNet,
        Amoeba,
        Pnas,
        Darts,
        Chain,
        Hierarchical,
    )
}
_BUILT_IN = frozenset(SPACES)


def register(space: type[SearchSpace]) -> type[SearchSpace]:
    """Add a space of your own to SPACES, so that a genotype can name it; also a decorator of its class.

    Raises UserError where its name is none, or one of the spaces that are built in.
    """
    name = own.check_name(space)
    if name in _BUILT_IN:
        raise UserError(f"{space.__name__}.name={name}: a built-in space has this name; choose another")
    SPACES[name] = space
    return space


def load_space_file(path: Path) -> type[SearchSpace]:
    """Run the Python file of a space of your own and register what it defines; see `own.load_class`."""
    return register(own.load_class(path))


def build_space(name: str, arguments: Mapping[str, Any]) -> SearchSpace:
    """The space called `name`. Raises UserError for an unknown space, an unknown argument or a value it refuses."""
    if name not in SPACES:
        raise UserError(f"space {name!r} is unknown, allowed are {', '.join(SPACES)}; space_file=FILE adds your own")
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
    scale = genotype.cost.get("scale")
    sizes = {entry.name for entry in fields(Scale) if entry.default is MISSING}
    if (
        not isinstance(scale, dict)
        or scale.keys() - {"partial"} != sizes
        or not all(type(size) is int and size > 0 for size in scale.values())
    ):
        raise UserError(f"genotype={path}: cost.scale has to hold whole numbers above 0 for {', '.join(sorted(sizes))}")
    return genotype, build_space(genotype.architecture.space, dict(genotype.architecture.arguments))


__all__ = [
    "SPACES",
    "Amoeba",
    "Chain",
    "Cost",
    "Darts",
    "Decision",
    "Edge",
    "EnasMacro",
    "EnasMicro",
    "EnasRnn",
    "Hierarchical",
    "Material",
    "NasBench101",
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
    "load_space_file",
    "register",
]
