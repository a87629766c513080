"""What the rooms exchange: an architecture, a batch of estimates, and the genotype file that outlives a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from enas.errors import UserError
from enas.files import write_json

FORMAT = "enas-genotype"
VERSION = 1


@dataclass(frozen=True)
class Architecture:
    """One row of integers together with the space that gives it meaning.

    `arguments` are the constructor arguments of the space, sorted by name, so that equal architectures hash equal.
    """

    space: str
    arguments: tuple[tuple[str, Any], ...]
    choices: tuple[int, ...]

    @classmethod
    def of(cls, space: str, arguments: Mapping[str, Any], choices: Sequence[int]) -> Architecture:
        return cls(space, tuple(sorted(arguments.items())), tuple(int(choice) for choice in choices))

    @property
    def identity(self) -> str:
        """Twelve hexadecimal digits that name this architecture in logs and file names."""
        text = json.dumps([self.space, self.arguments, self.choices])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Estimates:
    """How good `n` rows are believed to be. Every tensor stays on the device it was made on.

    choices  int64 [n, D]   the rows
    value    float [n]      the objective; higher is better
    error    float [n]      standard error of `value` over the images or words it was taken on
    metrics  name -> [n]    what else was measured (accuracy in 0..1, loss in nats)
    images   int            validation images, or words, behind each entry
    step     int            updates the shared weights had seen
    budget   float          the share of a full estimate that was spent on each entry, above 0 and at most 1
    """

    choices: Tensor
    value: Tensor
    error: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    images: int = 0
    step: int = 0
    budget: float = 1.0

    def __len__(self) -> int:
        return self.choices.shape[0]

    @classmethod
    def joined(cls, parts: Sequence[Estimates]) -> Estimates:
        """The entries of all `parts`, of which there is one at least; all were made alike."""
        return replace(
            parts[0],
            choices=torch.cat([part.choices for part in parts]),
            value=torch.cat([part.value for part in parts]),
            error=torch.cat([part.error for part in parts]),
            metrics={name: torch.cat([part.metrics[name] for part in parts]) for name in parts[0].metrics},
        )

    def select(self, index: Tensor) -> Estimates:
        """The entries at `index` [k], in that order."""
        return replace(
            self,
            choices=self.choices[index],
            value=self.value[index],
            error=self.error[index],
            metrics={name: entry[index] for name, entry in self.metrics.items()},
        )

    def top(self, count: int) -> Estimates:
        """The `count` best entries, best first; equal values keep the order they were asked in."""
        order = torch.sort(self.value, descending=True, stable=True).indices
        return self.select(order[:count])

    def distinct(self, canonical: Callable[[Tensor], Tensor]) -> Estimates:
        """The first entry of each set of rows with equal `canonical` rows, in the order they stand."""
        return self.select(first_places(canonical(self.choices)))

    def entry(self, index: int) -> dict[str, Any]:
        """One entry as plain numbers, for JSON."""
        return {
            "choices": self.choices[index].tolist(),
            "value": float(self.value[index]),
            "error": float(self.error[index]),
            **{name: float(entry[index]) for name, entry in self.metrics.items()},
            "images": self.images,
            "step": self.step,
        }


def first_places(rows: Tensor) -> Tensor:
    """Rows int64 [n, D] -> int64 [k]: where the first of each set of equal ones stands, in their order."""
    first: dict[tuple[int, ...], int] = {}
    for place, row in enumerate(rows.tolist()):
        first.setdefault(tuple(row), place)
    return torch.tensor(list(first.values()), dtype=torch.int64, device=rows.device)


@dataclass(frozen=True)
class Genotype:
    """An architecture as it is written to `genotype.json`: the row, and the row spelled out for people.

    `graph` names nodes, sources and operations; `cost` holds params, macs and the scale they were counted at;
    `estimate` and `provenance` say where the architecture came from and how far to trust its score.
    """

    architecture: Architecture
    graph: Mapping[str, Any]
    cost: Mapping[str, Any]
    estimate: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The JSON document of schema version 1."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "space": {"name": self.architecture.space, **dict(self.architecture.arguments)},
            "choices": list(self.architecture.choices),
            "graph": self.graph,
            "cost": self.cost,
            "estimate": self.estimate,
            "provenance": self.provenance,
        }

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        write_json(path, self.document())


def read_genotype(path: Path, describe: Callable[[Architecture], Mapping[str, Any]]) -> Genotype:
    """Read a genotype file and check it both ways: the graph must be exactly what `describe` says of the choices.

    Raises UserError, in one sentence, for a missing, damaged, altered or foreign file.
    """
    document = _load(path)
    version = document.get("version")
    if document.get("format") != FORMAT:
        raise UserError(f"genotype={path}: not a genotype file (its 'format' is not {FORMAT!r})")
    if version != VERSION:
        raise UserError(f"genotype={path}: schema version {version!r} is not supported, only version {VERSION} is")
    expected = {
        "space": dict,
        "choices": list,
        "graph": dict,
        "cost": dict,
        "estimate": dict,
        "provenance": dict,
    }
    for key, kind in expected.items():
        if not isinstance(document.get(key), kind):
            raise UserError(f"genotype={path}: entry {key!r} is missing or not a {kind.__name__}")
    arguments = dict(document["space"])
    name = arguments.pop("name", None)
    choices = document["choices"]
    if not isinstance(name, str):
        raise UserError(f"genotype={path}: the space has no name")
    if not all(isinstance(choice, int) and not isinstance(choice, bool) for choice in choices):
        raise UserError(f"genotype={path}: 'choices' must hold integers only")
    architecture = Architecture.of(name, arguments, choices)
    try:
        graph = describe(architecture)
    except UserError as error:
        raise UserError(f"genotype={path}: {error}") from error
    place = _difference(graph, document["graph"], "graph")
    if place is not None:
        raise UserError(f"genotype={path}: 'choices' and 'graph' disagree at {place}; the file was altered")
    return Genotype(architecture, graph, document["cost"], document["estimate"], document["provenance"])


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"genotype={path}: no such file") from None
    except OSError as error:
        raise UserError(f"genotype={path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"genotype={path}: not valid JSON, the file is truncated or altered ({error})") from error
    if not isinstance(document, dict):
        raise UserError(f"genotype={path}: not a genotype file (a JSON object is expected)")
    return document


def _difference(expected: Any, found: Any, place: str) -> str | None:
    """The first place where two JSON values differ, with both values; None where they are equal."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key in [*expected, *(key for key in found if key not in expected)]:
            if key not in expected or key not in found:
                return f"{place}.{key} (only in {'graph' if key in found else 'choices'})"
            inner = _difference(expected[key], found[key], f"{place}.{key}")
            if inner is not None:
                return inner
        return None
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            inner = _difference(one, other, f"{place}[{index}]")
            if inner is not None:
                return inner
        return None
    return None if expected == found else f"{place} (choices say {expected!r}, graph says {found!r})"
