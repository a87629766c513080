"""enas-search: find an architecture, and say by how much it beats chance."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from enas.errors import UserError
from enas.report import SearchReport

from . import assembly, configuration, machine, own_space, profiling
from .configuration import Verb, key


@dataclass
class Keys(assembly.SearchKeys):
    """The keys of the command."""

    draw_every: int = key(10, "Epochs between two drawings of the best cells")
    profile: int | None = key(None, profiling.PROFILE)
    run_dir: str = key("runs/search-${now:%Y%m%d-%H%M%S}", "Where the run is written")
    resume: str | None = key(None, "A run directory to go on with")


def search(config: DictConfig) -> float:
    """Build what the configuration names, search, and return the best value found, for a sweeper."""
    device = machine.prepare(config)
    data = machine.load_data(config, device)
    parts = assembly.assemble(config, data, device)
    estimator, plan = parts.estimator, parts.plan
    profiling.check(config)
    if config.draw_every < 1:
        raise UserError(f"draw_every={config.draw_every}: allowed is 1 or more")

    run_dir = Path(config.run_dir)
    record, state = machine.open_record(run_dir, config.resume is not None, device, "training")
    with record:
        report = SearchReport(
            record,
            parts.space,
            parts.scale,
            machine.origin(config, device),
            estimator.label,
            config.draw_every,
            data.unit,
            estimator.weights,
            estimator.split,
        )
        run = parts.search(report, config.progress)
        if state is not None:
            run.load_state_dict(state)
        report.start(data.documents())
        try:
            steps = parts.training.steps + (0 if plan.waits(0) else plan.updates)
            with profiling.profiled(config, run_dir, device, steps, plan.epochs) as after_step:
                comparison = run.run(after_step)
        except KeyboardInterrupt:
            print(
                f"stopped; the best so far is in {run_dir / 'genotype.json'}; go on with: "
                + shlex.join(["enas-search", f"resume={run_dir}", *own_space.typed(config)])
            )
            raise
    best = comparison.best
    print(parts.space.text(best.choices[0].tolist()))
    print(comparison.text(estimator.label, data.unit, estimator.weights))
    command = shlex.join(["enas-train", f"genotype={run_dir}/genotype.json", *own_space.typed(config)])
    print(f"written to {run_dir}; train it with: {command}")
    return float(best.value[0])


VERB = Verb(
    name="search",
    summary="find an architecture, and say by how much it beats chance.",
    example="enas-search data=folder data.root=~/images epochs=50 run_dir=runs/mine",
    schema=Keys,
    task=search,
    recipes={"experiment": "Published recipes", "debug": "Short runs for finding faults"},
    paths=("space_file", "data.root", "run_dir", "resume"),
    mappings=assembly.MAPPINGS,
    resume_free=("device", "graph", "progress", "log_every", "draw_every"),
    resume_growing=("epochs",),
)


def main() -> None:
    """Run the command."""
    configuration.run(VERB)
