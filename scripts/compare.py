"""enas-compare: what several strategies find, over seeds, and whether chance finds as much."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor

from enas.architecture import Estimates
from enas.data import Benchmark, nasbench201
from enas.draw import save_svg
from enas.draw_curves import draw_curves
from enas.errors import UserError
from enas.files import write_json
from enas.study import Track, curve, summarise, table
from enas.tally import Tally

from . import assembly, configuration, constructors, machine
from .configuration import Verb, key

TRACKS = "tracks.json"
"""What a job leaves in its folder."""


@dataclass
class Keys(assembly.SearchKeys):
    """The keys of the command."""

    epochs: int = key(1, "Passes over the training data; without shared weights, rounds of updates")
    updates: int = key(200, "Updates of the strategy after each epoch")
    samples: int = key(1, "Rows estimated for each update")
    threads: int | None = key(1, "CPU threads of each job; null: all")
    progress: bool = key(False, "Show a progress bar")
    seeds: int = key(50, "Searches of each strategy, with the seeds seed, seed + 1, ...")
    jobs: int = key(os.cpu_count() or 1, "Processes that work side by side")
    part: int = key(0, "Set by the command: which of its `jobs` parts of the seeds a process takes")
    settings: dict[str, Any] = field(
        default_factory=dict,
        metadata={"comment": "Strategy -> values that are for it alone, as in {evolution: {strategy: {sample: 3}}}"},
    )
    table: str | None = key(None, "A table of NAS-Bench-201 (.npz) that says what a found row is worth")
    dataset: str = key("cifar10", "Which of its data sets: cifar10, cifar100, in16")
    run_dir: str = key("runs/compare-${now:%Y%m%d-%H%M%S}", "Where the study is written")


def compare(config: DictConfig) -> None:
    """Search with one strategy and one part of the seeds, and leave the tracks in the job's folder."""
    device = machine.prepare(config)
    data = machine.load_data(config, device)
    config = _with_settings(config)
    outcome = _outcome(config, data)
    tracks = []
    for seed in range(config.seed + config.part, config.seed + config.seeds, parts(config)):
        built = assembly.assemble(_with_seed(config, seed), data, device)
        tally = Tally(built.estimator.label)
        built.search(tally, config.progress).run()
        tracks.append(vars(tally.track(seed, outcome or _value)))
    measure = data.outcome_label if isinstance(data, Benchmark) else _measure(config, tally.objective)
    content = {"strategy": _name(config), "measure": measure, "percent": outcome is not None, "tracks": tracks}
    write_json(Path(config.run_dir) / TRACKS, content)


def parts(config: DictConfig) -> int:
    """How many parts the seeds of a strategy are divided in: none is empty."""
    for name in ("seeds", "jobs"):
        if config[name] < 1:
            raise UserError(f"{name}={config[name]}: allowed is 1 or more")
    return int(min(config.seeds, config.jobs))


def gather(run_dir: Path) -> None:
    """Read what all jobs left and say what it means: a table, a drawing, a file. One of each for every measure."""
    jobs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(run_dir.glob(f"*/{TRACKS}"))]
    measures = list(dict.fromkeys(job["measure"] for job in jobs))
    texts, documents = [], []
    for number, measure in enumerate(measures, 1):
        own = [job for job in jobs if job["measure"] == measure]
        tracks: dict[str, list[Track]] = {}
        for job in own:
            tracks.setdefault(job["strategy"], []).extend(Track(**track) for track in job["tracks"])
        summaries = summarise(tracks)
        texts.append(table(summaries, measure, own[0]["percent"]))
        documents.append({"measure": measure, "strategies": [summary.document() for summary in summaries]})
        end = "" if len(measures) == 1 else f"_{number}"
        _draw({summary.name: tracks[summary.name] for summary in summaries}, measure, run_dir / f"curves{end}")
    text = "\n\n".join(texts)
    (run_dir / "table.md").write_text(text + "\n", encoding="utf-8")
    write_json(run_dir / "comparison.json", documents)
    print(f"{text}\nwritten to {run_dir}")


def _draw(tracks: Mapping[str, list[Track]], measure: str, path: Path) -> None:
    """The curves, as .svg and .png; none where nothing is known of the way."""
    if not any(track.spent for own in tracks.values() for track in own):
        return
    spent = np.arange(1.0, max(track.budget for own in tracks.values() for track in own) + 1)
    curves = {name: curve(own, spent) for name, own in tracks.items()}
    figure = draw_curves(curves, spent, "best row so far, by its estimate", measure)
    save_svg(figure, path.with_suffix(".svg"))
    figure.savefig(path.with_suffix(".png"))


def _with_settings(config: DictConfig) -> DictConfig:
    """The configuration with the values that `settings` holds for the chosen strategy."""
    chosen = HydraConfig.get().runtime.choices["strategy"]
    own = config.settings.get(chosen, {})
    for name in own:
        if name not in VERB.names:
            raise UserError(f"settings.{chosen}.{name}: there is no such key; {constructors.hint(name, VERB.names)}")
    with open_dict(config):
        merged = OmegaConf.merge(config, own)
    assert isinstance(merged, DictConfig)
    constructors.check(merged)
    return merged


def _with_seed(config: DictConfig, seed: int) -> DictConfig:
    """The configuration with another seed, also where a part has taken it over."""
    other = copy.deepcopy(config)
    other.seed = seed
    for group in ("strategy", "estimator"):
        if other[group].get("seed") == config.seed:
            other[group].seed = seed
    return other


def _outcome(config: DictConfig, data: Any) -> Callable[[Estimates], Tensor] | None:
    """What says what rows are worth in the end; None where nothing knows."""
    benchmark = data if isinstance(data, Benchmark) else None
    if config.table is not None:
        benchmark = nasbench201(config.table, config.dataset)
    if benchmark is None:
        return None
    found = benchmark.to(torch.device("cpu"))
    return lambda estimates: found.outcome(estimates.choices.cpu())


def _value(estimates: Estimates) -> Tensor:
    return estimates.value


def _measure(config: DictConfig, objective: str) -> str:
    return objective if config.table is None else nasbench201(config.table, config.dataset).outcome_label


def _name(config: DictConfig) -> str:
    """The strategy, with what else this job was told and others were not."""
    hydra = HydraConfig.get()
    common = {"strategy", "part", *hydra.job.config.override_dirname.exclude_keys}
    own = [item for item in hydra.overrides.task if item.lstrip("+").partition("=")[0] not in common]
    return ", ".join([hydra.runtime.choices["strategy"], *own])


VERB = Verb(
    name="compare",
    summary="what several strategies find, over seeds, and whether chance finds as much.",
    example="enas-compare strategy=random,evolution,reinforce seeds=50 data.root=nasbench201.npz",
    schema=Keys,
    task=compare,
    recipes={"experiment": "Published recipes", "debug": "Short runs for finding faults"},
    paths=("space_file", "data.root", "table", "run_dir"),
    mappings=(*assembly.MAPPINGS, "settings"),
    parts=parts,
    gather=gather,
)


def main() -> None:
    """Run the command."""
    configuration.run(VERB)
