"""enas-compare: what several strategies find, over seeds, and whether chance finds as much."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor

from enas.architecture import Estimates
from enas.data import Benchmark, DataSet, Text, nasbench201
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


OWN = ("space", "strategy", "estimator", "train", "network", "batch_size", "objective", "limit", *assembly.PLAN)
"""What may differ between strategies: how they search. Seeds, data and machine are the same for all."""


@dataclass
class Keys(assembly.SearchKeys):
    """The keys of the command."""

    epochs: int = key(1, "Passes over the training data; without shared weights, rounds of updates")
    updates: int = key(200, "Updates of the strategy after each epoch")
    samples: int = key(1, "Rows estimated for each update")
    baseline: int | None = key(1, "Random rows beside what each search found; random is a strategy here")
    threads: int | None = key(1, "CPU threads of each job; null: all")
    progress: bool = key(False, "Show a progress bar")
    seeds: int = key(50, "Searches of each strategy, with the seeds seed, seed + 1, ...")
    jobs: int = key(os.cpu_count() or 1, "Processes that work side by side")
    part: int = key(0, "Set by the command: which part of the seeds a process takes")
    parts: int = key(1, "Set by the command: how many parts there are")
    settings: dict[str, Any] = field(
        default_factory=dict,
        metadata={"comment": "Strategy -> values that are for it alone, as in {evolution: {strategy: {sample: 3}}}"},
    )
    table: str | None = key(None, "With shared weights: a table of NAS-Bench-201 (.npz) says what a found row is worth")
    table_dataset: str = key("cifar10", "Which of its data sets: cifar10, cifar100, in16")
    run_dir: str = key("runs/compare-${now:%Y%m%d-%H%M%S}", "Where the study is written")


def compare(config: DictConfig) -> None:
    """Search with one strategy and one part of the seeds, and leave the tracks in the job's folder."""
    device = machine.prepare(config)
    data = machine.load_data(config, device)
    judge = _judge(config, data)
    tracks = []
    for seed in range(config.seed + config.part, config.seed + config.seeds, config.parts):
        built = assembly.assemble(_with_seed(config, seed), data, device)
        tally = Tally(built.estimator.label)
        built.search(tally, config.progress).run()
        tracks.append(vars(tally.track(seed, _value if judge is None else judge.worth)))
    comparable = judge is not None or built.estimator.weights != "shared"
    measure = tally.objective if comparable else f"{tally.objective}, each search with weights of its own"
    content = {
        "strategy": _name(config),
        "measure": measure if judge is None else judge.label,
        "percent": judge is not None,
        "comparable": comparable,
        "origin": machine.origin(config, device),
        "tracks": tracks,
    }
    write_json(Path(config.run_dir) / TRACKS, content)


def check(config: DictConfig) -> None:
    """Raise UserError where the searches of a job could not be made, before any job starts."""
    for name in ("seeds", "jobs"):
        if config[name] < 1:
            raise UserError(f"{name}={config[name]}: allowed is 1 or more")
    device = machine.prepare(config)
    data = machine.load_data(config, device)
    judge = _judge(config, data)
    built = assembly.assemble(config, data, device)
    if judge is not None:
        judge.benchmark.check(built.space)


def parts(config: DictConfig) -> int:
    """How many parts the seeds of a strategy are divided in: none is empty."""
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
        summaries = summarise(tracks, all(job["comparable"] for job in own))
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


def amend(config: DictConfig) -> DictConfig:
    """The configuration with the values that `settings` holds for the chosen strategy.

    Raises UserError for settings of what is no strategy, and of keys that are the same for all.
    """
    options = GlobalHydra.instance().config_loader().get_group_options("strategy")
    for strategy, own in config.settings.items():
        if strategy not in options:
            raise UserError(f"settings.{strategy}: there is no such strategy; {constructors.hint(strategy, options)}")
        if not isinstance(own, Mapping):
            raise UserError(f"settings.{strategy}={own}: has to be a mapping, as in {{strategy: {{sample: 3}}}}")
        for name in own:
            if name not in OWN:
                raise UserError(f"settings.{strategy}.{name}: no key that may differ; {constructors.hint(name, OWN)}")
    with open_dict(config):
        merged = OmegaConf.merge(config, config.settings.get(HydraConfig.get().runtime.choices["strategy"], {}))
    assert isinstance(merged, DictConfig)
    return merged


def _with_seed(config: DictConfig, seed: int) -> DictConfig:
    """The configuration with another seed, also where a part has taken it over."""
    other = copy.deepcopy(config)
    other.seed = seed
    for group in ("strategy", "estimator"):
        if other[group].get("seed") == config.seed:
            other[group].seed = seed
    return other


class _Judge(NamedTuple):
    """A table that says what found rows are worth in the end."""

    benchmark: Benchmark

    @property
    def label(self) -> str:
        return self.benchmark.outcome_label

    def worth(self, estimates: Estimates) -> Tensor:
        return self.benchmark.outcome(estimates.choices.cpu())


def _judge(config: DictConfig, data: DataSet | Text | Benchmark) -> _Judge | None:
    """The table of the data, or the one that is named; None where nothing knows what rows are worth."""
    if config.table is None:
        return _Judge(data.to("cpu")) if isinstance(data, Benchmark) else None
    if isinstance(data, Benchmark):
        raise UserError(f"table={config.table}: the {data.name} data is a table itself, which judges")
    return _Judge(nasbench201(config.table, config.table_dataset))


def _value(estimates: Estimates) -> Tensor:
    return estimates.value


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
    amend=amend,
    check=check,
    parts=parts,
    gather=gather,
)


def main() -> None:
    """Run the command."""
    configuration.run(VERB)
