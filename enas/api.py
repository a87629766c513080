"""Search and training in one call each, without configuration files: what the commands do by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from enas.data import DataSet
from enas.estimator import Shared
from enas.final import FinalTraining
from enas.plan import Limits, Plan
from enas.precision import select as select_precision
from enas.randomness import Randomness, seeded
from enas.record import Record, manifest
from enas.report import Comparison, SearchReport
from enas.search import Search
from enas.space import EnasMicro, Scale, SearchSpace, load_genotype
from enas.strategy import Reinforce, Sampler
from enas.supernet import Child, Supernet
from enas.train import SharedTraining

BOUND = {"operation": 0.44, "source": 1.1}
"""How far the default controller may lean towards one alternative: conf/strategy/reinforce.yaml."""


def scale_for(data: DataSet, layers: int, filters: int) -> Scale:
    """The scale of a network on `data`."""
    return Scale(layers, filters, *data.image_shape, len(data.classes))


def find(
    data: DataSet,
    run_dir: str | Path,
    epochs: int = 30,
    *,
    space: SearchSpace | None = None,
    strategy: Sampler | None = None,
    layers: int = 3,
    filters: int = 16,
    batch_size: int = 64,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    progress: bool = True,
) -> Comparison:
    """Search on `data` and write a run directory as enas-search does; returns the best beside the random baseline.

    Raises UserError for a value that is not allowed, and where `run_dir` is not empty.
    """
    on = torch.device(device)
    data = data.to(on).stored_as(select_precision(precision))
    space = space or EnasMicro()
    scale = scale_for(data, layers, filters)
    supernet = Supernet(space, scale, seeded(seed, "weights")).to(on)
    randomness = Randomness(seed, Search.PURPOSES, on)
    training = SharedTraining(supernet, data, randomness, batch_size)
    strategy = strategy or Reinforce(space, bound=BOUND, seed=seed)
    strategy.to(on)
    estimator = Shared(supernet, data, batch_size=batch_size, images=batch_size)
    plan = Plan(epochs)
    with Record.create(Path(run_dir)) as record:
        origin = manifest(seed, on, torch.get_num_threads(), "enas.find", [], {}, precision)
        report = SearchReport(record, space, scale, origin, "accuracy")
        report.start()
        return Search(
            space, strategy, estimator, training, randomness, plan, Limits(scale), report, progress=progress
        ).run()


def fit(
    genotype: str | Path,
    data: DataSet,
    run_dir: str | Path,
    epochs: int = 30,
    *,
    layers: int | None = None,
    filters: int | None = None,
    batch_size: int = 64,
    auxiliary: float = 0.0,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    progress: bool = True,
    **recipe: Any,
) -> tuple[Child, dict[str, Any]]:
    """Train a found architecture from scratch; returns the network and its result with the test accuracy.

    `layers` and `filters` default to those of the search; `recipe` goes to FinalTraining. Raises UserError as `find`.
    """
    on = torch.device(device)
    data = data.to(on).stored_as(select_precision(precision))
    found, space = load_genotype(Path(genotype))
    searched = found.cost["scale"]
    layers = searched["layers"] if layers is None else layers
    filters = searched["filters"] if filters is None else filters
    scale = scale_for(data, layers, filters)
    child = Child(space, found.architecture.choices, scale, seeded(seed, "weights"), auxiliary > 0).to(on)
    randomness = Randomness(seed, FinalTraining.PURPOSES, on)
    training = FinalTraining(
        child, data, randomness, epochs, batch_size, auxiliary=auxiliary, progress=progress, **recipe
    )
    with Record.create(Path(run_dir)) as record:
        return child, training.run(record)
