"""enas-rank: how far to trust a supernet's scores, against random children trained alone or looked up in a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig

from enas.alone import StandAloneTraining
from enas.api import scale_for
from enas.data import DataSet, Text
from enas.data.nasbench201 import look_up
from enas.draw import plot_scatter
from enas.errors import UserError
from enas.estimator import OneShotEstimator
from enas.estimator.rank import Correlation, kendall, spearman
from enas.material import check_material
from enas.randomness import seeded
from enas.record import Record, load_checkpoint
from enas.space import Scale, SearchSpace, load_genotype
from enas.supernet import Child, Supernet

from . import configuration, machine, own_space
from .configuration import Verb, group, key
from .keys import Kernels, Objective, Precision
from .training import builds_auxiliary, goodness, measured, prepare, table, train_child


@dataclass
class Keys:
    """The keys of the command."""

    estimator: Any = group("How good a row is", OneShotEstimator)
    data: Any = group("Which images or text")
    train: Any = group("How a child is trained alone", StandAloneTraining)
    search: str = key(MISSING, "The run directory of a search: its supernet is judged")
    space_file: str | None = key(None, own_space.COMMENT)
    n: int = key(10, "Random children")
    table: str | None = key(None, "A table of NAS-Bench-201 (.npz): children are looked up in it, none is trained")
    column: str = key("test200_cifar10", "The table's column with the accuracy when trained alone")
    epochs: int = key(15, "Passes over the training data for each child")
    batch_size: int = key(64, "Images, or columns of text, a training step")
    objective: Objective = key(Objective.loss, "The cheap score, on all validation data")
    seed: int = key(0, "Seed of everything")
    device: str = key("auto", "auto, cpu, cuda or cuda:N")
    threads: int | None = key(None, "CPU threads; null: all")
    kernels: Kernels = key(Kernels.auto, "Who computes the kernels; auto: native where it can, else reference")
    precision: Precision = key(Precision.fp32, "tf32: CUDA may round products; bf16: images are stored so")
    checkpoint_every: int = key(1, "Epochs between checkpoints")
    progress: bool = key(True, "Show a progress bar")
    run_dir: str = key("runs/rank-${now:%Y%m%d-%H%M%S}", "Where the run is written")


def rank(config: DictConfig) -> float:
    """Score `n` random children, train each alone or look it up, and return Kendall's tau."""
    device = machine.prepare(config)
    if config.n < 3:
        raise UserError(f"n={config.n}: allowed is 3 or more, a rank correlation needs several children")
    folder = Path(config.search)
    genotype, space = load_genotype(folder / "genotype.json")
    scale = Scale(**genotype.cost["scale"])
    state = load_checkpoint(folder / "checkpoint.pt", device)
    if "supernet" not in state.get("training", {}):
        raise UserError(f"search={folder}: no search with shared weights left its checkpoint there")
    data = machine.load_examples(config, device)
    check_material(space, data)
    if replace(scale_for(data, scale.layers, scale.filters), partial=scale.partial) != scale:
        raise UserError(f"data: the search in {folder} had images and classes of another shape, {scale}")
    supernet = Supernet(space, scale, torch.Generator().manual_seed(0)).to(device)
    supernet.load_state_dict(state["training"]["supernet"])
    objective = config.objective.value
    estimator = instantiate(config.estimator, _partial_=True)(supernet=supernet, data=data, objective=objective)
    estimator.step = state["training"]["step_count"]
    rows = space.random(config.n, seeded(config.seed, "ranked", device))

    alone_by: Callable[[Path, dict[str, Any]], dict[str, Any]]
    if config.table is None:
        alone_by = _train(config, space, scale, data, rows.tolist())
    else:
        accuracies = look_up(Path(config.table), space, rows, config.column)
        alone_by = _look_up(accuracies.tolist(), config.column)

    run_dir, origin = Path(config.run_dir), machine.origin(config, device)
    with Record.create(run_dir) as record:
        record.write_json("run.json", {**origin, "finished": False})
        cheap = estimator.estimate(rows)
        results = alone_by(run_dir, origin)
        measures = measured(results["child_1"])
        alone = [goodness(result) for result in results.values()]
        tau, rho = kendall(cheap.value.tolist(), alone), spearman(cheap.value.tolist(), alone)
        said = f"Kendall tau {tau}, Spearman rho {rho} (95 % bootstrap intervals, n = {config.n})"
        figure = plot_scatter(
            cheap.value.tolist(),
            alone,
            said,
            f"{estimator.label} with shared weights (valid)",
            f"{'' if goodness(results['child_1']) > 0 else 'minus '}{measures[0]} alone (test)",
        )
        figure.savefig(run_dir / "rank.svg")
        record.figure("rank/scatter", figure, 0)
        values = {"rank/kendall": tau, "rank/spearman": rho}
        record.scalars({f"{tag}{end}": getattr(value, part) for tag, value in values.items() for end, part in PARTS}, 0)
        entries = [{**cheap.entry(place), "alone": result} for place, result in enumerate(results.values())]
        outcome = {"kendall": _document(tau), "spearman": _document(rho), "children": entries}
        record.write_json("run.json", {**origin, "finished": True, **outcome})
    if config.table is None:
        print(table(results, measures))
    print(f"{said}; written to {run_dir}")
    return tau.value


def _train(
    config: DictConfig, space: SearchSpace, scale: Scale, data: DataSet | Text, rows: Sequence[Sequence[int]]
) -> Callable[[Path, dict[str, Any]], dict[str, Any]]:
    """What trains the children one after the other and gives their results by name."""
    children = {
        f"child_{place}": Child(space, row, scale, seeded(config.seed, f"weights {place}"), builds_auxiliary(config))
        for place, row in enumerate(rows, 1)
    }
    device = data.device
    prepare(config, children["child_1"].to(device), data)  # a wrong recipe is told before anything is written

    def train(run_dir: Path, origin: dict[str, Any]) -> dict[str, Any]:
        return {
            name: train_child(config, child.to(device), data, name, run_dir / name, origin)
            for name, child in children.items()
        }

    return train


def _look_up(accuracies: Sequence[float], column: str) -> Callable[[Path, dict[str, Any]], dict[str, Any]]:
    """What gives the children's results as a table knows them."""
    results = {
        f"child_{place}": {"test": {"accuracy": accuracy, "column": column}}
        for place, accuracy in enumerate(accuracies, 1)
    }
    return lambda run_dir, origin: results


PARTS = (("", "value"), ("_low", "low"), ("_high", "high"))


def _document(correlation: Correlation) -> dict[str, float | None]:
    """For JSON, which has no NaN."""
    return {name: None if math.isnan(value) else value for name, value in correlation._asdict().items()}


VERB = Verb(
    name="rank",
    summary="how far to trust a supernet's scores, against random children trained alone or looked up in a table.",
    example="enas-rank search=runs/mine data=folder data.root=~/images n=20",
    schema=Keys,
    task=rank,
    recipes={"experiment": "Published recipes", "debug": "Short runs for finding faults"},
    paths=("search", "space_file", "table", "data.root", "run_dir"),
)


def main() -> None:
    """Run the command."""
    configuration.run(VERB)
