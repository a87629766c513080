"""One stand-alone training in a folder of its own, as enas-train and enas-rank do it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from enas.alone import StandAloneTraining
from enas.data import DataSet, Text
from enas.randomness import Randomness
from enas.supernet import Child

from . import machine
from .profiling import profiled


def train_child(
    config: DictConfig, child: Child, data: DataSet | Text, name: str, folder: Path, origin: Mapping[str, Any]
) -> dict[str, Any]:
    """Train `child` in `folder` and write its result.json and genotype.json; a finished one is only read.

    With `config.resume`, an unfinished one goes on from its checkpoint.
    """
    resumed = config.get("resume") is not None and folder.exists()
    if resumed and (folder / "result.json").exists():
        result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        return result
    training = prepare(config, child, data)
    record, state = machine.open_record(folder, resumed, next(child.parameters()).device, "child")
    with record:
        record.write_documents(data.documents())
        record.write_json("run.json", {**origin, "name": name, "finished": False})
        if state is not None:
            training.load_state_dict(state)
        device = next(child.parameters()).device
        with profiled(config, folder, device, training.steps, config.epochs) as after_step:
            result = training.run(record, name, after_step)
        genotype = child.space.genotype(
            child.row, child.scale, {"weights": "own", "split": "test", **result["test"]}, {}
        )
        genotype.write(folder / "genotype.json")
        record.write_json("result.json", result)
        record.write_json("run.json", {**origin, "name": name, "finished": True, "result": result})
    return result


def prepare(config: DictConfig, child: Child, data: DataSet | Text) -> StandAloneTraining:
    """The training of `child` by the recipe. Raises UserError where the recipe is wrong, before anything is written."""
    training: StandAloneTraining = instantiate(config.train, _partial_=True)(
        child=child,
        data=data,
        randomness=Randomness(config.seed, StandAloneTraining.PURPOSES, next(child.parameters()).device),
        epochs=config.epochs,
        batch_size=config.batch_size,
        checkpoint_every=config.checkpoint_every,
        progress=config.progress,
    )
    return training


def builds_auxiliary(config: DictConfig) -> bool:
    """Whether the recipe trains an auxiliary head."""
    return float(config.train.get("auxiliary", 0.0)) > 0


def measured(result: Mapping[str, Any]) -> tuple[str, str]:
    """The measures of a result's test, the one that counts first."""
    return "perplexity" if "perplexity" in result["test"] else "accuracy", "loss"


def goodness(result: Mapping[str, Any]) -> float:
    """The measure that counts, of a result's test; higher is better."""
    main = measured(result)[0]
    return float(-result["test"][main] if main == "perplexity" else result["test"][main])


def table(results: Mapping[str, Mapping[str, Any]], columns: Sequence[str] = ("accuracy", "loss")) -> str:
    """Results by name, for a terminal."""
    lines = [f"{'network':<12} {'parameters':>11} " + " ".join(f"{'test ' + column:>14}" for column in columns)]
    for name, result in results.items():
        values = " ".join(f"{result['test'][column]:>14.4f}" for column in columns)
        lines.append(f"{name:<12} {result['params']:>11,} {values}")
    return "\n".join(lines)
