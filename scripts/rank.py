"""enas-rank: how far to trust a supernet's scores, measured by training random children alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig

from enas.alone import StandAloneTraining
from enas.api import scale_for
from enas.draw import plot_scatter
from enas.errors import UserError
from enas.estimator import Estimator
from enas.estimator.rank import Correlation, kendall, spearman
from enas.material import check_material
from enas.randomness import seeded
from enas.record import Record, load_checkpoint
from enas.space import Scale, load_genotype
from enas.supernet import Child, Supernet

from . import configuration, machine
from .configuration import Verb, group, key
from .keys import Kernels, Objective, Precision
from .training import builds_auxiliary, prepare, table, train_child


@dataclass
class Keys:
    """The keys of the command."""

    estimator: Any = group("How good a row is", Estimator)
    data: Any = group("Which images or text")
    train: Any = group("How a child is trained alone", StandAloneTraining)
    search: str = key(MISSING, "The run directory of a search: its supernet is judged")
    n: int = key(10, "Random children")
    epochs: int = key(15, "Passes over the training data for each child")
    batch_size: int = key(64, "Images, or columns of text, a training step")
    objective: Objective = key(Objective.accuracy, "The cheap score, on all validation data")
    seed: int = key(0, "Seed of everything")
    device: str = key("auto", "auto, cpu, cuda or cuda:N")
    threads: int | None = key(None, "CPU threads; null: all")
    kernels: Kernels = key(Kernels.auto, "Who computes the kernels; auto: native where it can, else reference")
    precision: Precision = key(Precision.fp32, "tf32: CUDA may round products; bf16: images are stored so")
    checkpoint_every: int = key(1, "Epochs between checkpoints")
    progress: bool = key(True, "Show a progress bar")
    run_dir: str = key("runs/rank-${now:%Y%m%d-%H%M%S}", "Where the run is written")


def rank(config: DictConfig) -> float:
    """Score and train `n` random children; return Kendall's tau."""
    device = machine.prepare(config)
    if config.n < 3:
        raise UserError(f"n={config.n}: allowed is 3 or more, a rank correlation needs several children")
    folder = Path(config.search)
    genotype, space = load_genotype(folder / "genotype.json")
    scale = Scale(**genotype.cost["scale"])
    state = load_checkpoint(folder / "checkpoint.pt", device)
    if "training" not in state:
        raise UserError(f"search={folder}: no search left its checkpoint there; give the run directory of a search")
    data = machine.load_data(config, device)
    check_material(space, data)
    if scale_for(data, scale.layers, scale.filters) != scale:
        raise UserError(f"data: the search in {folder} had images and classes of another shape, {scale}")
    supernet = Supernet(space, scale, torch.Generator().manual_seed(0)).to(device)
    supernet.load_state_dict(state["training"]["supernet"])
    objective = config.objective.value
    estimator = instantiate(config.estimator, _partial_=True)(supernet=supernet, data=data, objective=objective)
    estimator.step = state["training"]["step_count"]
    rows = space.random(config.n, seeded(config.seed, "ranked", device))

    children = {
        f"child_{place}": Child(space, row, scale, seeded(config.seed, f"weights {place}"), builds_auxiliary(config))
        for place, row in enumerate(rows.tolist(), 1)
    }
    training = prepare(
        config, children["child_1"].to(device), data
    )  # a wrong recipe is told before anything is written

    run_dir, origin = Path(config.run_dir), machine.origin(config, device)
    with Record.create(run_dir) as record:
        record.write_json("run.json", {**origin, "finished": False})
        cheap = estimator.estimate(rows)
        results: dict[str, Any] = {}
        for name, child in children.items():
            results[name] = train_child(config, child.to(device), data, name, run_dir / name, origin)
        main, sign = training.MEASURES[0], 1 if training.higher_is_better else -1
        alone = [sign * result["test"][main] for result in results.values()]
        tau, rho = kendall(cheap.value.tolist(), alone), spearman(cheap.value.tolist(), alone)
        said = f"Kendall tau {tau}, Spearman rho {rho} (95 % bootstrap intervals, n = {config.n})"
        figure = plot_scatter(
            cheap.value.tolist(),
            alone,
            said,
            f"{estimator.label} with shared weights (valid)",
            f"{'' if sign > 0 else 'minus '}{main} alone (test)",
        )
        figure.savefig(run_dir / "rank.svg")
        record.figure("rank/scatter", figure, 0)
        values = {"rank/kendall": tau, "rank/spearman": rho}
        record.scalars({f"{tag}{end}": getattr(value, part) for tag, value in values.items() for end, part in PARTS}, 0)
        entries = [{**cheap.entry(place), "alone": result} for place, result in enumerate(results.values())]
        outcome = {"kendall": _document(tau), "spearman": _document(rho), "children": entries}
        record.write_json("run.json", {**origin, "finished": True, **outcome})
    print(table(results, training.MEASURES))
    print(f"{said}; written to {run_dir}")
    return tau.value


PARTS = (("", "value"), ("_low", "low"), ("_high", "high"))


def _document(correlation: Correlation) -> dict[str, float | None]:
    """For JSON, which has no NaN."""
    return {name: None if math.isnan(value) else value for name, value in correlation._asdict().items()}


VERB = Verb(
    name="rank",
    summary="how far to trust a supernet's scores, measured by training random children alone.",
    example="enas-rank search=runs/mine data=folder data.root=~/images n=20",
    schema=Keys,
    task=rank,
    recipes={"experiment": "Published recipes", "debug": "Short runs for finding faults"},
    paths=("search", "data.root", "run_dir"),
)


def main() -> None:
    """Run the command."""
    configuration.run(VERB)
