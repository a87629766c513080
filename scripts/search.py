"""enas-search: find an architecture, and say by how much it beats chance."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from enas.api import scale_for
from enas.errors import UserError
from enas.estimator import Estimator
from enas.material import check_material
from enas.plan import Limits, Plan
from enas.randomness import Randomness, seeded
from enas.report import SearchReport
from enas.search import Search
from enas.space import Scale, SearchSpace
from enas.strategy import Sampler, propose
from enas.supernet import Supernet
from enas.weights import WeightTraining

from . import configuration, machine, own_space, profiling
from .configuration import Verb, group, key
from .keys import Graph, Kernels, Limit, Objective, Precision, SearchNetwork

PLAN = (
    "epochs",
    "updates",
    "samples",
    "uniform_epochs",
    "candidates",
    "rescored",
    "watched",
    "time_budget",
    "checkpoint_every",
    "log_every",
)


@dataclass
class Keys:
    """The keys of the command."""

    space: Any = group("What may be built", SearchSpace)
    strategy: Any = group("How to choose next", Sampler)
    estimator: Any = group("How good a row is", Estimator)
    data: Any = group("Which images or text")
    train: Any = group("How the shared weights are trained", WeightTraining)
    space_file: str | None = key(None, own_space.COMMENT)
    network: SearchNetwork = key(
        SearchNetwork(), "Size of the supernet; layers null: as many as the space has by default"
    )
    epochs: int = key(30, "Passes over the training data")
    batch_size: int = key(64, "Images, or columns of text, a training step")
    updates: int = key(10, "Updates of the strategy after each epoch")
    samples: int = key(10, "Rows estimated for each update")
    children: str = key("strategy", "Who trains the weights: strategy, uniform, uniform_then_strategy")
    uniform_epochs: int = key(0, "Epochs of uniform children before the strategy's turn")
    candidates: int = key(50, "Rows derived at the end, and random rows beside them")
    rescored: int = key(10, "The best of them that are estimated again on all validation data")
    watched: int = key(10, "Rows derived and estimated after each epoch, to see progress")
    objective: Objective = key(Objective.loss, "What decides, on validation data; loss: the lower the better")
    limit: Limit = key(Limit(), "What a row may cost")
    time_budget: float | None = key(None, "Seconds after which no new epoch starts")
    seed: int = key(0, "Seed of everything")
    device: str = key("auto", "auto, cpu, cuda or cuda:N")
    threads: int | None = key(None, "CPU threads; null: all. Recorded, and kept by a resumed run")
    kernels: Kernels = key(Kernels.auto, "Who computes the kernels; auto: native where it can, else reference")
    precision: Precision = key(Precision.fp32, "tf32: CUDA may round products; bf16: images are stored so")
    graph: Graph = key(Graph.auto, "auto: steps become CUDA graphs where that is possible; off: never")
    checkpoint_every: int = key(1, "Epochs between checkpoints")
    log_every: int = key(50, "Training steps between two log entries")
    draw_every: int = key(10, "Epochs between two drawings of the best cells")
    progress: bool = key(True, "Show a progress bar")
    profile: int | None = key(None, profiling.PROFILE)
    run_dir: str = key("runs/search-${now:%Y%m%d-%H%M%S}", "Where the run is written")
    resume: str | None = key(None, "A run directory to go on with")


def search(config: DictConfig) -> float:
    """Build what the configuration names, search, and return the best value found, for a sweeper."""
    device = machine.prepare(config)
    data = machine.load_data(config, device)
    space = instantiate(config.space)
    check_material(space, data)
    layers = space.default_layers if config.network.layers is None else config.network.layers
    scale = scale_for(data, layers, config.network.filters)
    supernet = Supernet(space, scale, seeded(config.seed, "weights")).to(device)
    randomness = Randomness(config.seed, Search.PURPOSES, device)
    training = instantiate(config.train, _partial_=True)(
        supernet=supernet,
        data=data,
        randomness=randomness,
        batch_size=config.batch_size,
        graph=config.graph.value,
    )
    strategy = instantiate(config.strategy, _partial_=True, _convert_="all")(space)
    strategy.to(device)
    objective = config.objective.value
    estimator = instantiate(config.estimator, _partial_=True)(
        supernet=supernet, data=data, objective=objective, graph=config.graph.value
    )
    plan = Plan(children=config.children, **{name: config[name] for name in PLAN})
    limits = Limits(_limit_scale(config, scale), config.limit.params, config.limit.macs)

    profiling.check(config)
    if config.draw_every < 1:
        raise UserError(f"draw_every={config.draw_every}: allowed is 1 or more")
    # The rows of the baseline: limits that leave too little are told now, before anything is written.
    generator = seeded(config.seed, "baseline", device)
    propose(lambda n: space.random(n, generator), plan.candidates, lambda rows: limits.accept(space, rows))

    run_dir = Path(config.run_dir)
    record, state = machine.open_record(run_dir, config.resume is not None, device, "training")
    with record:
        report = SearchReport(
            record, space, scale, machine.origin(config, device), estimator.label, config.draw_every, data.unit
        )
        run = Search(space, strategy, estimator, training, randomness, plan, limits, report, progress=config.progress)
        if state is not None:
            run.load_state_dict(state)
        report.start(data.documents())
        try:
            steps = training.steps + (0 if plan.waits(0) else plan.updates)
            with profiling.profiled(config, run_dir, device, steps, plan.epochs) as after_step:
                comparison = run.run(after_step)
        except KeyboardInterrupt:
            print(
                f"stopped; the best so far is in {run_dir / 'genotype.json'}; go on with: "
                + shlex.join(["enas-search", f"resume={run_dir}", *own_space.typed(config)])
            )
            raise
    best = comparison.best
    print(space.text(best.choices[0].tolist()))
    print(comparison.text(estimator.label, data.unit))
    command = shlex.join(["enas-train", f"genotype={run_dir}/genotype.json", *own_space.typed(config)])
    print(f"written to {run_dir}; train it with: {command}")
    return float(best.value[0])


def _limit_scale(config: DictConfig, scale: Scale) -> Scale:
    own = {key: config.limit[key] for key in ("layers", "filters") if config.limit[key] is not None}
    return replace(scale, **own)


VERB = Verb(
    name="search",
    summary="find an architecture, and say by how much it beats chance.",
    example="enas-search data=folder data.root=~/images epochs=50 run_dir=runs/mine",
    schema=Keys,
    task=search,
    recipes={"experiment": "Published recipes", "debug": "Short runs for finding faults"},
    paths=("space_file", "data.root", "run_dir", "resume"),
    mappings=("strategy.temperature", "strategy.bound", "strategy.initial_bias", "strategy.prior"),
    resume_free=("device", "graph", "progress", "log_every", "draw_every"),
    resume_growing=("epochs",),
)


def main() -> None:
    """Run the command."""
    configuration.run(VERB)
