"""The outer loop: its order, its reproducibility, and that stopping after any step changes nothing."""

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from conformance import toy_data
from enas.architecture import Estimates
from enas.comparison import Comparison
from enas.data import Augmentation, Benchmark
from enas.errors import UserError
from enas.estimator import Shared, Table
from enas.plan import Limits, Plan
from enas.randomness import Randomness, seeded
from enas.record import Record, load_checkpoint
from enas.report import SearchReport
from enas.schedule import Cosine
from enas.search import Search
from enas.space import EnasMicro, Scale, load_genotype
from enas.strategy import LocalSearch, Random, Reinforce, Sampler
from enas.strategy.history import RememberingSampler
from enas.supernet import Supernet
from enas.train import SharedTraining
from enas.weights import NoWeights

CPU = torch.device("cpu")
SCALE = Scale(layers=1, filters=4, height=8, width=8, channels=3, classes=3)
SPACE = EnasMicro(nodes=2)
DATA = toy_data(90, SCALE, Augmentation(crop=1, flip=True))
TINY: dict[str, Any] = {
    "epochs": 2, "updates": 2, "samples": 3, "candidates": 4, "rescored": 2, "watched": 3, "log_every": 2,
}  # fmt: skip
WEIGHT_STEPS, STEPS = 3, 5  # of an epoch: 48 training images in batches of 16; and the two updates


@dataclass
class Start:
    """A search that has not begun. `rate`, `strategy` and `limits` stand in for the usual ones."""

    seed: int = 0
    objective: str = "accuracy"
    rate: Any = field(default_factory=lambda: Cosine(0.05, 0.0005, period=10))
    strategy: Callable[[], Sampler] | None = None
    params: int | None = None
    plan: dict[str, Any] = field(default_factory=dict)

    def build(self, record: Record) -> Search:
        supernet = Supernet(SPACE, SCALE, seeded(self.seed, "weights"))
        randomness = Randomness(self.seed, Search.PURPOSES, CPU)
        training = SharedTraining(supernet, DATA, randomness, batch_size=16, rate=self.rate, clip=None)
        strategy = self.strategy() if self.strategy else Reinforce(SPACE, hidden=8, seed=self.seed, learning_rate=0.05)
        estimator = Shared(supernet, DATA, self.objective, batch_size=15, images=15)  # type: ignore[arg-type]
        report = SearchReport(record, SPACE, SCALE, {"seed": self.seed}, self.objective)
        plan, limits = Plan(**{**TINY, **self.plan}), Limits(SCALE, self.params)
        return Search(SPACE, strategy, estimator, training, randomness, plan, limits, report, progress=False)


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """One thread, and no drawings: they take most of the time of a search this small (see test_report.py)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_graph", "save_svg", "plot_comparison"):
            patch.setattr(f"enas.report.{name}", lambda *arguments: None)
        patch.setattr(Record, "figure", lambda *arguments: None)
        yield
    torch.set_num_threads(threads)


def run(folder: Path, start: Start) -> tuple[Search, Comparison]:
    with Record.create(folder) as record:
        search = start.build(record)
        return search, search.run()


def resume(folder: Path, start: Start) -> tuple[Search, Comparison]:
    state = load_checkpoint(folder / "checkpoint.pt")
    with Record.reopen(folder, state["next_step"], state["metrics_lines"]) as record:
        search = start.build(record)
        search.load_state_dict(state)
        return search, search.run()


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def found(folder: Path) -> tuple[Any, Any]:
    content = json.loads((folder / "genotype.json").read_text())
    return content["choices"], content["estimate"]


def assert_equal(one: Any, other: Any, place: str = "state") -> None:
    """Two nests of tensors and numbers, bit for bit; the clock aside."""
    assert type(one) is type(other), place
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one.keys() - {"seconds"}:
            assert_equal(one[key], other[key], f"{place}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{place}/{index}")
    elif isinstance(one, Tensor):
        assert torch.equal(one, other), place
    else:
        assert one == other, place


class Killed(BaseException):
    """What a SIGKILL is within one process."""


def after_step(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], Any]) -> None:
    """Do `act` after the step `number`, counted from 1, of the searches from now on."""

    class Bar:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.left = number

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def set_description(self, text: str) -> None:
            pass

        set_postfix_str = set_description

        def update(self) -> None:
            self.left -= 1
            if self.left == 0:
                act()

    monkeypatch.setattr("enas.progress.tqdm", Bar)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Search, Comparison]:
    folder = tmp_path_factory.mktemp("search") / "unbroken"
    return (folder, *run(folder, Start()))


def test_the_log_follows_the_epochs(unbroken: tuple[Path, Search, Comparison]) -> None:
    folder, search, _ = unbroken
    log = lines(folder)
    # Two of three steps, the epoch's end, twice; and the comparison one step after the last.
    assert [line["step"] for line in log] == [2, 3, 5, 6, 7]
    assert [line["weights/rate"] for line in (log[1], log[3])] == [search.training.rate(e, 2) for e in (0, 1)]
    for line in (log[1], log[3]):
        assert line["search/rejected"] == 0
        assert {"search/reward", "strategy/loss", "search/candidates_best", "weights/loss"} <= line.keys()
        shares = [value for tag, value in line.items() if tag.startswith("policy/normal/")]
        assert len(shares) == 5
        assert sum(shares) == pytest.approx(1)
    assert (search.epoch, search.trained, search.updated, search.told) == (2, 0, 0, [])
    assert search.training.step_count == 2 * WEIGHT_STEPS


def test_the_weights_and_the_strategy_learn(unbroken: tuple[Path, Search, Comparison], tmp_path: Path) -> None:
    with Record.create(tmp_path / "fresh") as record:
        fresh = Start().build(record).state_dict()
    state = unbroken[1].state_dict()
    trained, initial = state["training"]["supernet"], fresh["training"]["supernet"]
    assert trained.keys() == initial.keys()
    assert all(bool(weight.isfinite().all()) for weight in trained.values())
    # What no child used decays all the same; only zeros and weights without an entry stay.
    assert not any(torch.equal(trained[name], initial[name]) for name in initial if initial[name].any())
    controller, started = state["strategy"]["controller"], fresh["strategy"]["controller"]
    assert not torch.equal(controller["recurrent"], started["recurrent"])


def test_the_same_seed_gives_the_same_search(unbroken: tuple[Path, Search, Comparison], tmp_path: Path) -> None:
    folder, search, comparison = unbroken
    again, compared = run(tmp_path / "again", Start())
    assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "again" / "metrics.jsonl").read_bytes()
    assert found(folder) == found(tmp_path / "again")
    assert_equal(search.state_dict(), again.state_dict())
    assert torch.equal(comparison.random.sampled.value, compared.random.sampled.value)
    run(tmp_path / "other", Start(seed=1))
    assert (folder / "metrics.jsonl").read_bytes() != (tmp_path / "other" / "metrics.jsonl").read_bytes()


@pytest.mark.usefixtures("_no_wait_for_a_new_second")
@pytest.mark.parametrize("step", range(1, 2 * STEPS + 1))
def test_a_search_stopped_after_any_step_goes_on_bit_for_bit(
    unbroken: tuple[Path, Search, Comparison], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    folder, search, comparison = unbroken
    with monkeypatch.context() as patch:
        after_step(patch, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped", Start())
    state = load_checkpoint(tmp_path / "stopped" / "checkpoint.pt")
    assert state["epoch"] * STEPS + state["trained"] + state["updated"] == step
    resumed, compared = resume(tmp_path / "stopped", Start())
    assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "stopped" / "metrics.jsonl").read_bytes()
    assert found(folder) == found(tmp_path / "stopped")
    assert_equal(search.state_dict(), resumed.state_dict())
    assert_equal(vars(comparison.search.sampled), vars(compared.search.sampled))
    assert_equal(vars(comparison.random.rescored), vars(compared.random.rescored))


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in read.Tags()["scalars"] if not tag.startswith("time/")]
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in tags}


def test_a_killed_search_goes_on_from_its_last_checkpoint(
    unbroken: tuple[Path, Search, Comparison], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill() -> None:
        raise Killed

    folder, search, _ = unbroken
    with monkeypatch.context() as patch:
        after_step(patch, STEPS + WEIGHT_STEPS, kill)  # the second epoch's weights are trained, and logged in part
        with pytest.raises(Killed):
            run(tmp_path / "killed", Start())
    assert load_checkpoint(tmp_path / "killed" / "checkpoint.pt")["epoch"] == 1
    assert [line["step"] for line in lines(tmp_path / "killed")] == [2, 3, 5]
    resumed, _ = resume(tmp_path / "killed", Start())
    assert_equal(search.state_dict(), resumed.state_dict())
    assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "killed" / "metrics.jsonl").read_bytes()
    assert events(tmp_path / "killed") == events(folder)


def test_a_finished_search_can_be_prolonged(
    unbroken: tuple[Path, Search, Comparison], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, search, _ = unbroken
    run(tmp_path / "longer", Start(plan={"epochs": 1}))
    prolonged, _ = resume(tmp_path / "longer", Start())
    assert_equal(search.state_dict(), prolonged.state_dict())
    assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "longer" / "metrics.jsonl").read_bytes()
    assert events(tmp_path / "longer") == events(folder)  # the first comparison is gone


def test_ctrl_c_leaves_a_checkpoint_and_the_best_so_far(
    unbroken: tuple[Path, Search, Comparison], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    for step, at in ((1, 1), (STEPS + 1, WEIGHT_STEPS + 1)):
        folder = tmp_path / str(step)
        with monkeypatch.context() as patch:
            after_step(patch, step, interrupt)
            with pytest.raises(KeyboardInterrupt):
                run(folder, Start())
        genotype, space = load_genotype(folder / "genotype.json")
        assert space.name == "enas_micro"
        assert genotype.provenance["interrupted_at_step"] == at
        [best, *others] = json.loads((folder / "leaderboard.json").read_text())
        assert best["choices"] == list(genotype.architecture.choices)
        assert all(other["value"] <= best["value"] for other in others)
        assert not list(folder.glob("*.partial"))
        assert not (folder / "child.pt").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_at_the_end_of_an_epoch_and_in_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def at_the_end(self: Search, machine: dict[str, float]) -> Estimates:
        watched = end(self, machine)
        interrupt()
        return watched

    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    end = Search._end_epoch
    for place, patched in ((Search, ("_end_epoch", at_the_end)), (SearchReport, ("finish", stop))):
        folder = tmp_path / place.__name__
        with monkeypatch.context() as patch:
            patch.setattr(place, *patched)
            with pytest.raises(KeyboardInterrupt):
                run(folder, Start(plan={"epochs": 1}))
        assert load_checkpoint(folder / "checkpoint.pt")["epoch"] == 1
        assert (folder / "genotype.json").exists()


class Derives(Random):
    """Derives, in the end, the very rows of the baseline."""

    def derive(self, count: int, generator: torch.Generator) -> Tensor:
        return self.space.random(count, seeded(0, "baseline"))


def test_as_many_random_rows_are_treated_in_the_same_way(tmp_path: Path) -> None:
    _, comparison = run(tmp_path / "same", Start(strategy=lambda: Derives(SPACE)))
    search, random = comparison.search, comparison.random
    assert len(search.sampled) == len(random.sampled) == TINY["candidates"]
    assert len(search.rescored) == len(random.rescored) == TINY["rescored"]
    assert search.rescored.images == len(DATA.valid)
    assert_equal(vars(search.sampled), vars(random.sampled))
    assert_equal(vars(search.rescored), vars(random.rescored))
    assert len(search.sampled.value.unique()) > 1
    assert comparison.margins()["best_margin"] == comparison.margins()["mean_margin"] == 0


def test_candidates_are_the_strategys_and_the_baseline_is_chances(unbroken: tuple[Path, Search, Comparison]) -> None:
    _, search, comparison = unbroken
    assert torch.equal(comparison.search.sampled.choices, search.strategy.derive(4, seeded(0, "derived")))
    assert torch.equal(comparison.random.sampled.choices, SPACE.random(4, seeded(0, "baseline")))
    assert comparison.search.sampled.images == comparison.random.sampled.images == 15


def test_the_best_is_the_best_of_the_rescored(unbroken: tuple[Path, Search, Comparison]) -> None:
    folder, search, comparison = unbroken
    best = comparison.best
    assert float(best.value) == float(comparison.search.rescored.value.max())
    assert (best.images, best.step) == (len(DATA.valid), 2 * WEIGHT_STEPS)
    choices, estimate = found(folder)
    assert choices == best.choices[0].tolist()
    again = search.estimator.estimate(best.choices, None)
    assert (estimate["value"], estimate["images"]) == (float(again.value), len(DATA.valid))


def trained_rows(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    rows: list[Tensor] = []
    step = SharedTraining.step

    def spy(self: SharedTraining, choices: Tensor, rate: float) -> None:
        rows.append(choices)
        step(self, choices, rate)

    monkeypatch.setattr(SharedTraining, "step", spy)
    return rows


def test_limits_hold_for_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = SPACE.cost(SPACE.random(101, seeded(0, "any")), SCALE).params
    limit = int(params.median())
    told: list[Tensor] = []
    tell = Reinforce.tell

    def spy(self: Reinforce, estimates: Estimates) -> dict[str, Tensor]:
        told.append(estimates.choices)
        return tell(self, estimates)

    monkeypatch.setattr(Reinforce, "tell", spy)
    trained = trained_rows(monkeypatch)
    _, comparison = run(tmp_path / "limited", Start(params=limit))
    assert len(comparison.random.sampled) == TINY["candidates"]
    for rows in (*trained, *told, comparison.search.sampled.choices, comparison.random.sampled.choices):
        assert bool((SPACE.cost(rows, SCALE).params <= limit).all())
    assert lines(tmp_path / "limited")[1]["search/rejected"] > 0


def test_a_strategy_knows_which_rows_are_refused(tmp_path: Path) -> None:
    rows = SPACE.random(50, seeded(0, "any"))
    params = SPACE.cost(rows, SCALE).params
    limit = int(params.median())
    with Record.create(tmp_path / "limited") as record:
        strategy = Start(params=limit, strategy=lambda: LocalSearch(SPACE)).build(record).strategy
        assert strategy.accept is not None
        assert torch.equal(strategy.accept(rows), params <= limit)
    with Record.create(tmp_path / "free") as record:
        assert Start(strategy=lambda: LocalSearch(SPACE)).build(record).strategy.accept is None


def test_impossible_limits_are_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"limit\.params and limit\.macs leave too little"):
        run(tmp_path / "impossible", Start(params=1))


def test_uniform_children_are_drawn_by_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = trained_rows(monkeypatch)
    search, _ = run(tmp_path / "uniform", Start(plan={"children": "uniform"}))
    chance = seeded(0, "children")
    expected = [SPACE.random(WEIGHT_STEPS, chance) for _ in range(2)]
    assert torch.equal(torch.cat(rows), torch.cat(expected))
    assert search.strategy.state_dict()["baseline"] is not None  # the strategy learns all the same


def test_the_strategy_waits_for_the_uniform_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = trained_rows(monkeypatch)
    plan = {"children": "uniform_then_strategy", "uniform_epochs": 1}
    run(tmp_path / "waiting", Start(plan=plan))
    chance = seeded(0, "children")
    assert torch.equal(torch.cat(rows[:WEIGHT_STEPS]), SPACE.random(WEIGHT_STEPS, chance))
    untold = Reinforce(SPACE, hidden=8, seed=0, learning_rate=0.05)
    assert torch.equal(torch.cat(rows[WEIGHT_STEPS:]), untold.ask(WEIGHT_STEPS, chance))
    ends = [line for line in lines(tmp_path / "waiting") if "weights/rate" in line]
    assert ["search/reward" in line for line in ends] == [False, True]


def test_random_search_and_no_updates(tmp_path: Path) -> None:
    run(tmp_path / "random", Start(strategy=lambda: Random(SPACE), plan={"updates": 0, "epochs": 1}))
    tags = set().union(*lines(tmp_path / "random"))
    assert not any(tag.startswith("strategy/") for tag in tags)
    assert "search/reward" not in tags
    assert "baseline/random_best" in tags


def test_no_epoch_starts_after_the_time_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10**6, 30))
    monkeypatch.setattr("enas.search.time.perf_counter", lambda: float(next(clock)))
    search, _ = run(tmp_path / "late", Start(plan={"epochs": 9, "time_budget": 45.0, "checkpoint_every": 5}))
    assert search.epoch == 1
    state = load_checkpoint(tmp_path / "late" / "checkpoint.pt")  # though no fifth epoch was reached
    assert (state["epoch"], state["training"]["step_count"]) == (1, WEIGHT_STEPS)


def test_checkpoints_come_every_so_many_epochs_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    save = Record.save_checkpoint

    def spy(self: Record, state: dict[str, Any]) -> None:
        saved.append(state["epoch"])
        save(self, state)

    monkeypatch.setattr(Record, "save_checkpoint", spy)
    run(tmp_path / "rare", Start(plan={"epochs": 5, "checkpoint_every": 2, "updates": 0}))
    assert saved == [2, 4, 5]


class Exploding(Cosine):
    """A sound first epoch, then a rate that no weights survive."""

    def rate(self, epoch: int, epochs: int) -> float:
        return 0.05 if epoch == 0 else 1e30


@pytest.mark.parametrize("objective", ["accuracy", "loss"])
def test_a_loss_that_is_not_finite_stops_the_search(tmp_path: Path, objective: str) -> None:
    with pytest.raises(UserError, match="the loss became NaN or infinite in epoch 2; the last checkpoint is good"):
        run(tmp_path / "lost", Start(objective=objective, rate=Exploding()))
    state = load_checkpoint(tmp_path / "lost" / "checkpoint.pt")
    assert state["epoch"] == 1
    assert all(bool(weight.isfinite().all()) for weight in state["training"]["supernet"].values())
    assert all(bool(weight.isfinite().all()) for weight in state["strategy"]["controller"].values())
    resumed, comparison = resume(tmp_path / "lost", Start(objective=objective))  # at a sound rate
    assert resumed.epoch == 2
    assert bool(comparison.search.sampled.value.isfinite().all())


def test_ctrl_c_does_not_save_weights_that_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        after_step(patch, STEPS + 2, interrupt)
        with pytest.raises(UserError, match="in epoch 2"):
            run(tmp_path / "lost", Start(rate=Exploding(), plan={"log_every": 50}))
    assert load_checkpoint(tmp_path / "lost" / "checkpoint.pt")["epoch"] == 1


def test_a_strategy_that_is_lost_stops_the_search(tmp_path: Path) -> None:
    lost = Start(strategy=lambda: Reinforce(SPACE, hidden=8, learning_rate=1e38), plan={"updates": 9})
    with pytest.raises(UserError, match="the loss of the strategy became NaN or infinite in epoch 1"):
        run(tmp_path / "lost", lost)


class Remembering(RememberingSampler):
    """Asks at random, remembers everything, and counts what it was told anew."""

    def __init__(self) -> None:
        super().__init__(SPACE, memory=100)
        self.refreshed: list[Estimates] = []

    def ask(self, count: int, generator: torch.Generator) -> Tensor:
        return SPACE.random(count, generator)

    def refresh(self, estimates: Estimates) -> None:
        super().refresh(estimates)
        self.refreshed.append(estimates)


def test_remembered_rows_are_estimated_again_once_the_weights_have_moved(tmp_path: Path) -> None:
    sampler = Remembering()
    search, _ = run(tmp_path / "run", Start(strategy=lambda: sampler, plan={"epochs": 3}))
    # Nothing is remembered in the first epoch; then the rows of two updates of three, and those of four.
    assert [len(estimates) for estimates in sampler.refreshed] == [6, 12]
    assert [estimates.step for estimates in sampler.refreshed] == [2 * WEIGHT_STEPS, 3 * WEIGHT_STEPS]
    assert len(sampler.history) == 18
    assert len(search.archive) == 0


BENCHMARK = Benchmark(
    name="toy", space="enas_micro", scale=SCALE, key=lambda rows: (rows * 7 ** torch.arange(rows.shape[1])).sum(1) % 97,
    keys=torch.arange(97), signals=torch.rand(97, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
    outcomes=torch.linspace(0, 1, 97, dtype=torch.float64), costs=None, signal_label="signal", outcome_label="outcome",
)  # fmt: skip


class Divisible(Table):
    """A table of which every second update pays half."""

    divisible = True

    def estimate(self, choices: Tensor, generator: torch.Generator | None = None, budget: float = 1.0) -> Estimates:
        return replace(super().estimate(choices, generator), budget=budget)


class Halving(Remembering):
    @property
    def budget(self) -> float:
        return 0.5 if len(self.history) % 2 else 1.0


@dataclass
class Looked(Start):
    """A search on a table."""

    def build(self, record: Record) -> Search:
        randomness = Randomness(self.seed, Search.PURPOSES, CPU)
        strategy = self.strategy() if self.strategy else Reinforce(SPACE, hidden=8, seed=self.seed, learning_rate=0.05)
        estimator = Divisible(SPACE, BENCHMARK)
        report = SearchReport(record, SPACE, SCALE, {"seed": self.seed}, estimator.label, basis="none")
        plan, limits = Plan(**{**TINY, **self.plan}), Limits(SCALE)
        weights = NoWeights(CPU)
        return Search(SPACE, strategy, estimator, weights, randomness, plan, limits, report, progress=False)


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Search, Comparison]:
    folder = tmp_path_factory.mktemp("table") / "unbroken"
    return (folder, *run(folder, Looked()))


def test_without_shared_weights_all_estimated_rows_stand_beside_as_many_random_ones(
    looked: tuple[Path, Search, Comparison],
) -> None:
    folder, search, comparison = looked
    assert len(search.archive) == 2 * 2 * 3
    assert len(comparison.search.sampled) == len(comparison.random.sampled) == 12
    assert float(comparison.best.value) == float(comparison.search.sampled.value.max())
    assert comparison.outcome == {"outcome": float(BENCHMARK.outcome(comparison.best.choices))}
    content = json.loads((folder / "run.json").read_text())
    assert content["outcome"] == dict(comparison.outcome)
    assert not (folder / "child.pt").exists()
    genotype = json.loads((folder / "genotype.json").read_text())
    assert genotype["estimate"]["weights"] == "none"


def test_the_log_then_stands_at_estimated_rows(looked: tuple[Path, Search, Comparison]) -> None:
    log = lines(looked[0])
    assert [line["step"] for line in log] == [6, 12, 13]
    assert "weights/rate" not in log[0]
    assert log[1]["search/candidates_best"] == float(looked[2].best.value)  # the best of all so far are watched


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_killed_search_on_a_table_ends_as_an_unbroken_one(
    looked: tuple[Path, Search, Comparison], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    after_step(monkeypatch, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", Looked())
    monkeypatch.undo()
    search, _ = resume(tmp_path / "killed", Looked())
    assert_equal(search.state_dict(), looked[1].state_dict())
    assert (tmp_path / "killed" / "metrics.jsonl").read_text() == (looked[0] / "metrics.jsonl").read_text()


def test_the_baseline_has_as_many_rows_as_were_spent(tmp_path: Path) -> None:
    halving = {"samples": 1, "updates": 4, "epochs": 1}
    search, comparison = run(tmp_path / "half", Looked(strategy=Halving, plan=halving))
    assert search.archive.spent == 3
    assert len(comparison.search.sampled) == 2  # full ones
    assert len(comparison.random.sampled) == 3
    _, comparison = run(tmp_path / "chosen", Looked(strategy=Halving, plan={**halving, "baseline": 5}))
    assert len(comparison.random.sampled) == 5


def test_a_longer_search_on_a_table_keeps_what_tensorboard_had(tmp_path: Path) -> None:
    run(tmp_path / "long", Looked(plan={"epochs": 1}))
    search, _ = resume(tmp_path / "long", Looked(plan={"epochs": 2}))
    assert [line["step"] for line in lines(tmp_path / "long")] == [6, 12, 13]
    events = EventAccumulator(str(tmp_path / "long")).Reload().Scalars("search/reward")
    assert [event.step for event in events] == [6, 12]
    assert search.epoch == 2


def test_warnings_outlive_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Record.create(tmp_path / "run") as record:
        search = Looked().build(record)
        search.report.warnings.append("epoch 1: it collapses")
        state = search.state_dict()
    with Record.create(tmp_path / "other") as record:
        search = Looked().build(record)
        search.load_state_dict(state)
        assert search.report.warnings == ["epoch 1: it collapses"]
