"""enas-train: train a found architecture from scratch, beside random ones if asked."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING, DictConfig

from enas.alone import StandAloneTraining
from enas.api import scale_for
from enas.errors import UserError
from enas.files import write_json
from enas.material import check_material
from enas.randomness import seeded
from enas.space import SearchSpace, build_space, load_genotype
from enas.supernet import Child, load_child

from . import configuration, machine, own_space, profiling
from .configuration import Verb, group, key
from .keys import Init, Kernels, Network, Precision
from .training import builds_auxiliary, measured, table, train_child


@dataclass(unsafe_hash=True)
class FinalNetwork(Network):
    """The size of the final network and how its cells are stacked; null: as in the search."""

    stacking: str | None = None


@dataclass
class Keys:
    """The keys of the command."""

    data: Any = group("Which images or text")
    train: Any = group("How the network is trained", StandAloneTraining)
    genotype: str = key(MISSING, "The genotype.json of the architecture")
    space_file: str | None = key(None, own_space.COMMENT)
    network: FinalNetwork = key(FinalNetwork(), "Size of the network, how cells are stacked; null: as in the search")
    init: Init = key(Init.scratch, "Starting weights; shared: those the child had in the search")
    n_random: int = key(0, "Random architectures trained by the same recipe, for comparison")
    epochs: int = key(30, "Passes over the training data")
    batch_size: int = key(64, "Images, or columns of text, a training step")
    seed: int = key(0, "Seed of everything")
    device: str = key("auto", "auto, cpu, cuda or cuda:N")
    threads: int | None = key(None, "CPU threads; null: all. Recorded, and kept by a resumed run")
    kernels: Kernels = key(Kernels.auto, "Who computes the kernels; auto: native where it can, else reference")
    precision: Precision = key(Precision.fp32, "tf32: CUDA may round products; bf16: images are stored so")
    checkpoint_every: int = key(1, "Epochs between checkpoints")
    progress: bool = key(True, "Show a progress bar")
    profile: int | None = key(None, profiling.PROFILE)
    run_dir: str = key("runs/train-${now:%Y%m%d-%H%M%S}", "Where the run is written")
    resume: str | None = key(None, "A run directory to go on with")


def train(config: DictConfig) -> float:
    """Train the found and the random networks one after the other; return what the found one's test counts."""
    device = machine.prepare(config)
    genotype, space = load_genotype(Path(config.genotype))
    data = machine.load_examples(config, device)
    space = restack(space, config.network.stacking)
    check_material(space, data)
    searched = genotype.cost["scale"]
    own = {key: searched[key] if config.network[key] is None else config.network[key] for key in ("layers", "filters")}
    scale = scale_for(data, **own)
    profiling.check(config)
    if config.n_random < 0:
        raise UserError(f"n_random={config.n_random}: allowed is 0 or more")
    if config.n_random and config.init is Init.shared:
        raise UserError(f"n_random={config.n_random}: random cells have no inherited weights; use init=scratch")
    row = list(genotype.architecture.choices)
    others = space.random(config.n_random, seeded(config.seed, "random architectures")).tolist()
    rows = {"found": row, **{f"random_{place}": other for place, other in enumerate(others, 1)}}

    run_dir, origin = Path(config.run_dir), machine.origin(config, device)
    results: dict[str, Any] = {}
    for name, choices in rows.items():
        child = Child(space, choices, scale, seeded(config.seed, f"weights of {name}"), builds_auxiliary(config))
        if config.init is Init.shared:
            inherit(child, Path(config.genotype).with_name("child.pt"))
        folder = run_dir if name == "found" else run_dir / name
        try:
            results[name] = train_child(config, child.to(device), data, name, folder, origin)
        except KeyboardInterrupt:
            print(f"stopped; go on with: {shlex.join(['enas-train', f'resume={run_dir}', *own_space.typed(config)])}")
            raise
    write_json(run_dir / "run.json", {**origin, "name": "found", "finished": True, "results": results})
    measures = measured(results["found"])
    print(table(results, measures))
    print(f"{config.data['_target_'].rpartition('.')[2]}, {len(data.test)} test {data.unit}; written to {run_dir}")
    return float(results["found"]["test"][measures[0]])


def restack(space: SearchSpace, stacking: str | None) -> SearchSpace:
    """The space with its cells stacked for other images than those of the search; its rows mean the same.

    Raises UserError where the space stacks its cells in one way only, or not in this one.
    """
    if stacking is None:
        return space
    if "stacking" not in space.arguments:
        raise UserError(f"network.stacking={stacking}: space {space.name} stacks its cells in one way; leave it out")
    return build_space(space.name, {**space.arguments, "stacking": stacking})


def inherit(child: Child, path: Path) -> None:
    """Give `child` the weights and statistics its row had in the supernet.

    Raises UserError where the file holds another row or another size.
    """
    shared = load_child(path, torch.device("cpu"))
    own, its = ((each.row, each.scale, each.space.arguments) for each in (child, shared))
    if own != its:
        raise UserError(
            f"init=shared: {path} holds another architecture or size ({shared.scale}); "
            "give the genotype.json beside it, the data of the search, and no key of network"
        )
    child.load_state_dict(shared.state_dict(), strict=False)  # it lacks the auxiliary head only


VERB = Verb(
    name="train",
    summary="train a found architecture from scratch, beside random ones if asked.",
    example="enas-train genotype=runs/mine/genotype.json data=folder data.root=~/images n_random=2",
    schema=Keys,
    task=train,
    recipes={"experiment": "Published recipes", "debug": "Short runs for finding faults"},
    paths=("genotype", "space_file", "data.root", "run_dir", "resume"),
    resume_free=("device", "progress"),
)


def main() -> None:
    """Run the command."""
    configuration.run(VERB)
