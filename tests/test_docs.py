"""docs/metrics.md has a line for every tag that a run writes, and no line for a tag that none writes."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conformance import STRATEGIES, TEXT_SCALE, toy_table, toy_text
from enas.architecture import Estimates
from enas.data import DataSet, npz
from enas.estimator import Language, Shared, Table
from enas.final import FinalTraining
from enas.language import FinalLanguageTraining, LanguageTraining
from enas.plan import Limits, Plan
from enas.randomness import Randomness, seeded
from enas.record import Record
from enas.relaxed import RelaxedTraining
from enas.report import SearchReport
from enas.scripts import rank
from enas.search import Search
from enas.space import EnasMacro, EnasMicro, EnasRnn, NasBench201, Scale, SearchSpace
from enas.strategy import Random, Reinforce, Snas
from enas.supernet import Child, Supernet
from enas.train import SharedTraining
from enas.weights import NoWeights

METRICS = Path(__file__).parent.parent / "docs" / "metrics.md"
CPU = torch.device("cpu")


class Line(NamedTuple):
    """One line of a table of docs/metrics.md."""

    tag: str
    unit: str
    better: str
    meaning: str
    written: str
    cost: str

    @property
    def pattern(self) -> re.Pattern[str]:
        """The tags the line is about; `<part>` stands for any one name."""
        return re.compile("[^/]+".join(re.escape(piece) for piece in re.split(r"<\w+>", self.tag)))

    @property
    def kind(self) -> str:
        """Where TensorBoard's reader finds the tag."""
        return {"image": "images", "text": "tensors"}.get(self.unit, "scalars")


Written = Mapping[str, set[str]]
"""The tags of a run by TensorBoard's kind: scalars, images, tensors (texts)."""


def documented() -> list[Line]:
    rows = re.findall(r"^\| `(.+?)` \| (.+) \|$", METRICS.read_text(encoding="utf-8"), re.MULTILINE)
    return [Line(tag, *cells.split(" | ")) for tag, cells in rows]


def read(run_dir: Path) -> Written:
    events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0, "images": 0})
    tags = events.Reload().Tags()
    texts = {tag.removesuffix("/text_summary") for tag in tags["tensors"]}
    return {"scalars": set(tags["scalars"]), "images": set(tags["images"]), "tensors": texts}


def logged(file: Path) -> set[str]:
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {tag for line in lines for tag in line} - {"step"}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other would take most of the time of networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty tiny images of two classes; the validation part has twelve."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    np.savez(path, images=images, labels=np.arange(60) % 2)
    return path


def network(data: DataSet) -> tuple[EnasMicro, Scale]:
    return EnasMicro(nodes=1), Scale(1, 4, *data.image_shape, len(data.classes))


@pytest.fixture(scope="module")
def searched(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a search of one epoch."""
    data, run_dir = npz(file, valid=12, test=12), tmp_path_factory.mktemp("search")
    return search(data, *network(data), run_dir)


def search(data: DataSet, space: SearchSpace, scale: Scale, run_dir: Path) -> Path:
    randomness = Randomness(0, Search.PURPOSES, CPU)
    supernet = Supernet(space, scale, seeded(0, "weights"))
    training = SharedTraining(supernet, data, randomness, batch_size=12)
    plan = Plan(epochs=1, updates=1, samples=2, candidates=3, rescored=2, watched=2, log_every=1)
    with Record.create(run_dir) as record:
        report = SearchReport(record, space, scale, {}, "accuracy", draw_every=1)
        estimator, strategy = Shared(supernet, data), Reinforce(space, hidden=4)
        Search(space, strategy, estimator, training, randomness, plan, Limits(scale), report, progress=False).run()
    return run_dir


@pytest.fixture(scope="module")
def skipping(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a search of one epoch in the space of skip connections."""
    data, run_dir = npz(file, valid=12, test=12), tmp_path_factory.mktemp("skipping")
    return search(data, EnasMacro(3), Scale(3, 4, *data.image_shape, len(data.classes)), run_dir)


@pytest.fixture(scope="module")
def trained(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a final training of one epoch."""
    data, run_dir = npz(file, valid=12, test=12), tmp_path_factory.mktemp("train")
    space, scale = network(data)
    child = Child(space, [0] * len(space.decisions), scale, seeded(0, "weights"), auxiliary=True)
    randomness = Randomness(0, FinalTraining.PURPOSES, CPU)
    with Record.create(run_dir) as record:
        FinalTraining(child, data, randomness, epochs=1, auxiliary=0.4, progress=False).run(record)
    return run_dir


@pytest.fixture(scope="module")
def ranked(file: Path, searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a rank correlation over three children."""
    run_dir = tmp_path_factory.mktemp("rank")
    config = {
        "estimator": {"_target_": "enas.estimator.Shared"},
        "data": {"_target_": "enas.data.npz", "root": str(file), "valid": 12, "test": 12},
        "train": {"_target_": "enas.final.FinalTraining", "auxiliary": 0.0},
        "search": str(searched),
        "n": 3,
        "table": None,
        "epochs": 1,
        "batch_size": 12,
        "objective": rank.Objective.loss,
        "seed": 0,
        "device": "cpu",
        "threads": None,
        "kernels": rank.Kernels.auto,
        "precision": rank.Precision.fp32,
        "checkpoint_every": 1,
        "progress": False,
        "run_dir": str(run_dir),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank.machine, "origin", lambda config, device: {})  # it asks Hydra for the command line
        rank.rank(OmegaConf.create(config))
    return run_dir


@pytest.fixture(scope="module")
def searched_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a search on text of one epoch."""
    data, space, run_dir = toy_text(), EnasRnn(1), tmp_path_factory.mktemp("search_text")
    randomness = Randomness(0, Search.PURPOSES, CPU)
    supernet = Supernet(space, TEXT_SCALE, seeded(0, "weights"))
    training = LanguageTraining(supernet, data, randomness, batch_size=4, steps=2)
    plan = Plan(epochs=1, updates=1, samples=2, candidates=3, rescored=2, watched=2, log_every=1)
    with Record.create(run_dir) as record:
        estimator, strategy = Language(supernet, data, batch_size=4), Reinforce(space, hidden=4)
        report = SearchReport(record, space, TEXT_SCALE, {}, estimator.label, draw_every=1, unit=data.unit)
        limits = Limits(TEXT_SCALE)
        Search(space, strategy, estimator, training, randomness, plan, limits, report, progress=False).run()
    return run_dir


@pytest.fixture(scope="module")
def trained_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a final training on text of one epoch."""
    child = Child(EnasRnn(1), [0, 0], TEXT_SCALE, seeded(0, "weights"))
    randomness, run_dir = Randomness(0, FinalLanguageTraining.PURPOSES, CPU), tmp_path_factory.mktemp("train_text")
    with Record.create(run_dir) as record:
        FinalLanguageTraining(child, toy_text(), randomness, 1, batch_size=4, scored=4, progress=False).run(record)
    return run_dir


@pytest.fixture(scope="module")
def looked_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a search on a table that knows what training costs."""
    data, space, run_dir = toy_table(), NasBench201(), tmp_path_factory.mktemp("looked_up")
    estimator = Table(space, replace(data, costs=100 * data.signals))
    randomness, limits = Randomness(0, Search.PURPOSES, CPU), Limits(data.scale)
    plan = Plan(epochs=1, updates=1, samples=2, rescored=2, watched=2)
    with Record.create(run_dir) as record:
        report = SearchReport(record, space, data.scale, {}, estimator.label, draw_every=1, basis="none", split="table")
        Search(space, Random(space), estimator, NoWeights(CPU), randomness, plan, limits, report, progress=False).run()
    return run_dir


@pytest.fixture(scope="module")
def relaxed(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a few steps under a mixture that is charged."""
    data, space, run_dir = npz(file, valid=12, test=12), NasBench201(), tmp_path_factory.mktemp("relaxed")
    supernet = Supernet(space, Scale(1, 4, *data.image_shape, len(data.classes)), seeded(0, "weights"))
    randomness = Randomness(0, RelaxedTraining.PURPOSES, CPU)
    training = RelaxedTraining(supernet, data, randomness, Snas(space, resource_weight=0.1), 1, batch_size=12)
    training.step(space.random(1, seeded(0, "rows")), 0.05)
    with Record.create(run_dir) as record:
        record.scalars(training.metrics(), 1)
    return run_dir


@pytest.fixture(scope="module")
def run_dirs(
    searched: Path,
    skipping: Path,
    trained: Path,
    ranked: Path,
    searched_text: Path,
    trained_text: Path,
    relaxed: Path,
    looked_up: Path,
) -> list[Path]:
    return [searched, skipping, trained, ranked, searched_text, trained_text, relaxed, looked_up]


@pytest.fixture(scope="module")
def told() -> Written:
    """What all strategies say when they are told something."""
    space, tags = EnasMacro(3), set[str]()
    for make in STRATEGIES.values():
        strategy = make(space)
        rows = strategy.ask(4, seeded(0, "rows"))
        tags |= strategy.tell(Estimates(rows, torch.rand(4), torch.zeros(4))).keys()
    return {"scalars": tags, "images": set(), "tensors": set()}


def test_every_tag_has_exactly_one_line(run_dirs: list[Path], told: Written) -> None:
    for written in [*map(read, run_dirs), told]:
        for kind, tags in written.items():
            for tag in tags:
                lines = [line.tag for line in documented() if line.kind == kind and line.pattern.fullmatch(tag)]
                assert len(lines) == 1, f"{tag} ({kind}) has the lines {lines}"


def test_every_line_is_about_a_tag_that_is_written(run_dirs: list[Path], told: Written) -> None:
    written = [*map(read, run_dirs), told]
    for line in documented():
        tags = {tag for tags in written for tag in tags[line.kind]}
        assert any(line.pattern.fullmatch(tag) for tag in tags), f"no run writes {line.tag} ({line.kind})"


def test_metrics_and_timings_hold_all_scalars(run_dirs: list[Path]) -> None:
    for run_dir in run_dirs:
        metrics, timings = logged(run_dir / "metrics.jsonl"), logged(run_dir / "timings.jsonl")
        assert metrics | timings == read(run_dir)["scalars"]
        assert all(tag.startswith("time/") for tag in timings)
        assert not any(tag.startswith("time/") for tag in metrics)


def test_every_line_says_all_it_has_to() -> None:
    assert len(documented()) > 40
    for line in documented():
        assert line.better in ("↑", "↓", "–"), line.tag
        assert all(line), line.tag


def test_accuracy_of_a_search_is_named_for_what_it_is() -> None:
    named = [line for line in documented() if line.tag.startswith("search/") and "accuracy" in line.tag]
    assert named
    for line in named:
        assert all(word in line.meaning for word in ("mean", "children", "validation", "shared weights")), line.tag
