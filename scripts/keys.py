"""Keys that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kernels(Enum):
    """Who computes the kernels."""

    auto = "auto"
    native = "native"
    reference = "reference"


class Precision(Enum):
    """How exactly a run computes and stores."""

    fp32 = "fp32"
    tf32 = "tf32"
    bf16 = "bf16"


class Graph(Enum):
    """Whether CUDA graphs are captured."""

    auto = "auto"
    off = "off"


class Objective(Enum):
    """What is maximised on validation data: accuracy on images, perplexity (80 / perplexity) on text, loss on both."""

    accuracy = "accuracy"
    loss = "loss"
    perplexity = "perplexity"


class Init(Enum):
    """Where the first weights of a network come from."""

    scratch = "scratch"
    shared = "shared"


@dataclass(unsafe_hash=True)
class SearchNetwork:
    """The size of the supernet, as its space takes it: layers or cells (null: its own number), filters or units."""

    layers: int | None = None
    filters: int = 16


@dataclass(unsafe_hash=True)
class Network:
    """The size of the final network; null: as in the search."""

    layers: int | None = None
    filters: int | None = None


@dataclass(unsafe_hash=True)
class Limit:
    """What a row may cost, counted at `layers` and `filters`; null: no limit, and the search's own size."""

    params: int | None = None
    macs: int | None = None
    layers: int | None = None
    filters: int | None = None
