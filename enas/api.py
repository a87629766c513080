"""Search and training in one call each, without configuration files: what the commands do by default."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from enas.alone import StandAloneTraining
from enas.comparison import Comparison
from enas.data import Benchmark, DataSet, Text
from enas.estimator import Cached, Estimator, Language, Shared, Table
from enas.final import FinalTraining
from enas.language import FinalLanguageTraining, LanguageTraining
from enas.material import check_material
from enas.pairing import check_pair
from enas.plan import Limits, Plan
from enas.precision import select as select_precision
from enas.randomness import Randomness, seeded
from enas.record import Record, manifest
from enas.relaxed import RelaxedTraining
from enas.report import SearchReport
from enas.search import Search
from enas.space import EnasMicro, EnasRnn, Scale, SearchSpace, load_genotype
from enas.strategy import Reinforce, Relaxation, Strategy
from enas.supernet import Child, Supernet
from enas.train import SharedTraining
from enas.weights import NoWeights, Weights

BOUND = {"operation": 0.44, "source": 1.1, "skip": 1.5}
"""How far the default controller may lean towards one alternative: conf/strategy/reinforce.yaml."""


PURPOSES = tuple(dict.fromkeys((*Search.PURPOSES, *RelaxedTraining.PURPOSES)))
"""What any search draws for, whether a relaxation trains its weights or not."""


def scale_for(data: DataSet | Text, layers: int, filters: int) -> Scale:
    """The scale of a network on `data`."""
    return Scale(layers, filters, *data.extents)


def find(
    data: DataSet | Text | Benchmark,
    run_dir: str | Path,
    epochs: int = 30,
    *,
    space: SearchSpace | None = None,
    strategy: Strategy | None = None,
    layers: int | None = None,
    filters: int = 16,
    batch_size: int = 64,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    progress: bool = True,
) -> Comparison:
    """Search on `data` and write a run directory as enas-search does; returns the best beside the random baseline.

    `layers` defaults to the space's own number; on text they are stacked layers of a recurrent cell, and `filters` its
    units. Rows of a benchmark are looked up, at the size that its authors measured. Raises UserError for a value that
    is not allowed, and where `run_dir` is not empty.
    """
    on = torch.device(device)
    data = data.to(on).stored_as(select_precision(precision))
    space = space or (EnasRnn() if isinstance(data, Text) else EnasMicro())
    check_material(space, data)
    strategy = strategy or Reinforce(space, bound=BOUND, seed=seed)
    strategy.to(on)
    randomness = Randomness(seed, PURPOSES, on)
    training: Weights
    estimator: Estimator
    if isinstance(data, Benchmark):
        scale, training, estimator = data.scale, NoWeights(on), Table(space, data)
    else:
        scale = scale_for(data, space.default_layers if layers is None else layers, filters)
        if isinstance(strategy, Relaxation):
            scale = replace(scale, partial=strategy.partial)
        supernet = Supernet(space, scale, seeded(seed, "weights")).to(on)
        if isinstance(data, Text):
            training = LanguageTraining(supernet, data, randomness, batch_size)
            estimator = Language(supernet, data, batch_size=batch_size)
        else:
            training = SharedTraining(supernet, data, randomness, batch_size)
            if isinstance(strategy, Relaxation):
                training = RelaxedTraining(supernet, data, randomness, strategy, epochs, batch_size)
            estimator = Shared(supernet, data, batch_size=batch_size, images=batch_size)
    check_pair(strategy, estimator)
    estimator = Cached(estimator)
    plan = Plan(epochs, updates=0 if isinstance(strategy, Relaxation) else 10)
    with Record.create(Path(run_dir)) as record:
        origin = manifest(seed, on, torch.get_num_threads(), "enas.find", [], {}, precision)
        report = SearchReport(
            record,
            space,
            scale,
            origin,
            estimator.label,
            unit=data.unit,
            basis=estimator.weights,
            split=estimator.split,
        )
        report.start(data.documents())
        return Search(
            space, strategy, estimator, training, randomness, plan, Limits(scale), report, progress=progress
        ).run()


def fit(
    genotype: str | Path,
    data: DataSet | Text,
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
    """Train a found architecture from scratch; returns the network and its result with the test's measures.

    `layers` and `filters` default to those of the search; `auxiliary` is for images. `recipe` goes to FinalTraining, or
    to FinalLanguageTraining. Raises UserError as `find`.
    """
    on = torch.device(device)
    data = data.to(on).stored_as(select_precision(precision))
    found, space = load_genotype(Path(genotype))
    searched = found.cost["scale"]
    layers = searched["layers"] if layers is None else layers
    filters = searched["filters"] if filters is None else filters
    check_material(space, data)
    scale = scale_for(data, layers, filters)
    head = isinstance(data, DataSet) and auxiliary > 0
    child = Child(space, found.architecture.choices, scale, seeded(seed, "weights"), head).to(on)
    randomness = Randomness(seed, StandAloneTraining.PURPOSES, on)
    training: StandAloneTraining
    if isinstance(data, Text):
        training = FinalLanguageTraining(child, data, randomness, epochs, batch_size, progress=progress, **recipe)
    else:
        training = FinalTraining(
            child, data, randomness, epochs, batch_size, auxiliary=auxiliary, progress=progress, **recipe
        )
    with Record.create(Path(run_dir)) as record:
        record.write_documents(data.documents())
        return child, training.run(record)
