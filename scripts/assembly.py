"""From a checked configuration to a search: the keys and the parts that enas-search and enas-compare share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from enas.api import PURPOSES, scale_for
from enas.data import Benchmark, DataSet, Text
from enas.errors import UserError
from enas.estimator import Cached, Estimator
from enas.material import check_material
from enas.pairing import check_pair
from enas.plan import Limits, Plan
from enas.randomness import Randomness, seeded
from enas.report import Report
from enas.search import Search
from enas.space import Scale, SearchSpace
from enas.strategy import Relaxation, Strategy, propose
from enas.supernet import Supernet
from enas.train import SharedTraining
from enas.weights import NoWeights, Weights, WeightTraining

from . import constructors, own_space
from .configuration import group, key
from .keys import Graph, Kernels, Limit, Objective, Precision, SearchNetwork

PLAN = (
    "epochs",
    "updates",
    "samples",
    "children",
    "uniform_epochs",
    "candidates",
    "baseline",
    "rescored",
    "watched",
    "time_budget",
    "checkpoint_every",
    "log_every",
)
"""The keys that Plan takes."""
MAPPINGS = ("strategy.temperature", "strategy.bound", "strategy.initial_bias", "strategy.prior", "strategy.heuristic")
"""Keys of strategies that hold a mapping whose names the user chooses."""


@dataclass
class SearchKeys:
    """The keys of both commands."""

    space: Any = group("What may be built", SearchSpace)
    strategy: Any = group("How to choose next", Strategy)
    estimator: Any = group("How good a row is", Estimator)
    data: Any = group("Which images, text or table of results")
    train: Any = group("How the shared weights are trained", WeightTraining)
    space_file: str | None = key(None, own_space.COMMENT)
    network: SearchNetwork = key(
        SearchNetwork(), "Size of the supernet; layers null: as many as the space has by default"
    )
    epochs: int = key(30, "Passes over the training data; without shared weights, rounds of updates")
    batch_size: int = key(64, "Images, or columns of text, a training step")
    updates: int = key(10, "Updates of the strategy after each epoch")
    samples: int = key(10, "Rows estimated for each update")
    children: str = key("strategy", "Who trains the weights: strategy, uniform, uniform_then_strategy")
    uniform_epochs: int = key(0, "Epochs of uniform children before the strategy's turn")
    candidates: int = key(50, "Rows derived at the end")
    baseline: int | None = key(
        None, "Random rows beside them; null: as many, or without shared weights as many as were estimated"
    )
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
    progress: bool = key(True, "Show a progress bar")


class Parts(NamedTuple):
    """What a search is made of, but its report."""

    space: SearchSpace
    scale: Scale
    strategy: Strategy
    estimator: Estimator
    training: Weights
    randomness: Randomness
    plan: Plan
    limits: Limits

    def search(self, report: Report, progress: bool) -> Search:
        """The search that tells `report`."""
        return Search(
            self.space,
            self.strategy,
            self.estimator,
            self.training,
            self.randomness,
            self.plan,
            self.limits,
            report,
            progress,
        )


def assemble(config: DictConfig, data: DataSet | Text | Benchmark, device: torch.device) -> Parts:
    """Build what the configuration names. Raises UserError where its parts do not go together."""
    space = instantiate(config.space)
    check_material(space, data)
    strategy = constructors.build(config.strategy, space=space)
    strategy.to(device)
    scale = _scale(config, space, data)
    relaxed = isinstance(strategy, Relaxation)
    if relaxed:
        scale = replace(scale, partial=strategy.partial)
    randomness = Randomness(config.seed, PURPOSES, device)
    offered = {
        "space": space,
        "scale": scale,
        "data": data,
        "objective": config.objective.value,
        "graph": config.graph.value,
    }
    training: Weights = NoWeights(device)
    if get_object(config.estimator["_target_"]).weights == "shared":
        offered["supernet"] = Supernet(space, scale, seeded(config.seed, "weights")).to(device)
        training = constructors.build(
            _relaxed(config) if relaxed else config.train,
            strategy=strategy,
            epochs=config.epochs,
            randomness=randomness,
            batch_size=config.batch_size,
            **offered,
        )
    estimator = Cached(constructors.build(config.estimator, **offered))
    check_pair(strategy, estimator.estimator)
    plan = Plan(**{name: config[name] for name in PLAN})
    if relaxed:
        plan = replace(plan, updates=0)  # it learns with the weights
    limits = Limits(_limit_scale(config, scale), config.limit.params, config.limit.macs)
    # The rows of the baseline: limits that leave too little are told now, before anything is written.
    generator = seeded(config.seed, "baseline", device)
    propose(lambda n: space.random(n, generator), plan.candidates, lambda rows: limits.accept(space, rows))
    return Parts(space, scale, strategy, estimator, training, randomness, plan, limits)


def _relaxed(config: DictConfig) -> DictConfig:
    """The recipe of the shared weights, for training them under a mixture."""
    if get_object(config.train["_target_"]) is not SharedTraining:
        raise UserError("strategy: a relaxation trains networks that read images: take train=shared")
    for name in ("params", "macs"):
        if config.limit[name] is not None:
            raise UserError(
                f"limit.{name}={config.limit[name]}: a relaxation derives one row and cannot be held to a limit; "
                "strategy=snas puts a price on resources"
            )
    return OmegaConf.merge(config.train, {"_target_": "enas.relaxed.RelaxedTraining"})  # type: ignore[return-value]


def _scale(config: DictConfig, space: SearchSpace, data: DataSet | Text | Benchmark) -> Scale:
    if isinstance(data, Benchmark):
        return data.scale  # costs are counted at the size that was measured
    layers = space.default_layers if config.network.layers is None else config.network.layers
    return scale_for(data, layers, config.network.filters)


def _limit_scale(config: DictConfig, scale: Scale) -> Scale:
    own = {key: config.limit[key] for key in ("layers", "filters") if config.limit[key] is not None}
    return replace(scale, **own)
