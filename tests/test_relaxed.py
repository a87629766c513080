"""Training under a mixture: both levels learn, each from its own data, and resume is bit for bit."""

import inspect
import io
import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from synchronisation import refuse_synchronisation
from torch import Tensor
from torch.nn import functional

from conformance import RELAXATIONS, SCALE, generator, toy_data
from enas import kernels
from enas.data import Augmentation, Split
from enas.errors import UserError
from enas.estimator import Shared
from enas.plan import Limits, Plan
from enas.randomness import Randomness, seeded
from enas.record import Record, load_checkpoint
from enas.relaxed import RelaxedTraining
from enas.report import SearchReport
from enas.search import Search
from enas.space import Darts as DartsSpace
from enas.space import NasBench201, RelaxableSpace
from enas.strategy import Darts, Gdas, PcDarts, Relaxation
from enas.supernet import Supernet
from enas.train import SharedTraining

SPACE = NasBench201()
SMALL = replace(SCALE, height=8, width=8)
DATA = toy_data(scale=SMALL, augmentation=Augmentation(crop=1, flip=True, cutout=2))
CPU = torch.device("cpu")

relaxations = pytest.mark.parametrize("make", RELAXATIONS.values(), ids=RELAXATIONS)
Make = Callable[[RelaxableSpace], Relaxation]


def training(
    make: Make = Darts,
    space: RelaxableSpace = SPACE,
    data: Any = DATA,
    drawn: Randomness | None = None,
    seed: int = 1,
    **settings: Any,
) -> RelaxedTraining:
    strategy = make(space)
    supernet = Supernet(space, replace(SMALL, partial=strategy.partial), generator(seed))
    randomness = drawn or Randomness(5, RelaxedTraining.PURPOSES, CPU)
    return RelaxedTraining(supernet, data, randomness, strategy, **{"epochs": 4, "batch_size": 16, **settings})


def state_of(run: RelaxedTraining) -> Mapping[str, Tensor]:
    learned = {name: parameter.detach() for name, parameter in run.strategy.learned.items()}
    return {name: value.clone() for name, value in {**run.supernet.state_dict(), **learned}.items()}


def assert_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def go(run: RelaxedTraining, steps: int, first: int = 0) -> None:
    for row in run.supernet.space.random(first + steps, generator())[first:]:
        run.step(row[None], 0.05)


@pytest.mark.parametrize("name", [name for name in RELAXATIONS if name != "darts"])  # of second order, and slow
def test_it_learns(name: str) -> None:
    run = training(RELAXATIONS[name], data=toy_data(scale=SMALL), epochs=10, dropout=0.0)
    before = run.strategy.alpha.detach().clone()
    seen = []
    for _ in range(2):
        go(run, 14 if run.strategy.hard else 7)  # one operation an edge learns more slowly
        seen.append(run.metrics())
    assert seen[-1]["weights/loss"] < 0.95 * seen[0]["weights/loss"]
    assert not torch.equal(run.strategy.alpha, before)
    assert seen[0]["strategy/gradient_norm"] > 0
    run.check(1)
    run.strategy.check(1)


@relaxations
def test_resume_in_mid_epoch_is_bit_for_bit(make: Make) -> None:
    drawn = Randomness(5, RelaxedTraining.PURPOSES, CPU)
    run = training(make, drawn=drawn, batch_size=10)  # three batches of validation images make an epoch
    go(run, 2)
    file = io.BytesIO()
    state = {"training": run.state_dict(), "strategy": run.strategy.state_dict(), "randomness": drawn.state_dict()}
    torch.save(state, file)
    go(run, 2, first=2)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other_drawn = Randomness(99, RelaxedTraining.PURPOSES, CPU)
    other = training(make, drawn=other_drawn, seed=2, batch_size=10)
    other.load_state_dict(state["training"])
    other.strategy.load_state_dict(state["strategy"])
    other_drawn.load_state_dict(state["randomness"])
    go(other, 2, first=2)
    assert_equal(state_of(other), state_of(run))
    assert other.metrics() == run.metrics()


def test_alpha_learns_from_validation_images_and_weights_from_training_images() -> None:
    """With other validation images alpha differs after a step, and the weights do not."""
    blank = Split(torch.zeros_like(DATA.valid.images), DATA.valid.labels)
    runs = [training(), training(data=replace(DATA, valid=blank)), training(data=replace(DATA, test=blank))]
    for run in runs:
        run.strategy.mixing = lambda *_: 0.2 + run.strategy.alpha - run.strategy.alpha.detach()  # noqa: B023
        go(run, 1)
    assert not torch.equal(runs[0].strategy.alpha, runs[1].strategy.alpha)
    assert_equal(runs[0].supernet.state_dict(), runs[1].supernet.state_dict())
    assert torch.equal(runs[0].strategy.alpha, runs[2].strategy.alpha)


def test_a_step_of_the_weights_is_a_step_under_the_mixing() -> None:
    settings = {"dropout": 0.0, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "clip": None}
    run = training(data=toy_data(scale=SMALL), **settings)
    run.begin(by_chance=False, learning=False)
    plain = Supernet(SPACE, SMALL, generator(1))
    order = torch.randperm(48, generator=Randomness(5, ["order"], CPU)["order"])
    images, labels = DATA.batch(DATA.train, order[:16], None)
    loss = functional.cross_entropy(plain.mix(images[None], run.strategy.strengths().detach())[0], labels)
    loss.backward()
    go(run, 1)
    assert run.metrics()["weights/loss"] == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in plain.named_parameters():
        moved = parameter.detach() - 0.05 * parameter.grad
        torch.testing.assert_close(run.supernet.get_parameter(name).detach(), moved, rtol=1e-4, atol=1e-6)


@relaxations
def test_alpha_stands_still_where_it_is_not_learning(make: Make) -> None:
    run = training(make)
    run.begin(by_chance=False, learning=False)
    before = state_of(run)
    go(run, 2)
    after = state_of(run)
    for name, value in before.items():
        moved = not torch.equal(value, after[name])
        assert moved == (name not in run.strategy.learned and value.numel() > 0), name
    assert run.strategy.alpha.grad is None  # nothing is left that a later step could add to
    assert "strategy/gradient_norm" not in run.metrics()


@relaxations
def test_rows_that_chance_drew_are_trained_as_paths_while_alpha_learns(make: Make) -> None:
    run = training(make)
    before = state_of(run)
    run.begin(by_chance=True, learning=True)
    go(run, 1)
    assert not torch.equal(run.strategy.alpha, before["alpha"])
    paths = training(make)
    paths.begin(by_chance=True, learning=False)
    go(paths, 1)
    assert torch.equal(paths.strategy.alpha, before["alpha"])
    shared = SharedTraining(
        Supernet(SPACE, paths.supernet.scale, generator(1)),
        DATA,
        Randomness(5, SharedTraining.PURPOSES, CPU),
        batch_size=16,
    )
    shared.step(SPACE.random(1, generator()), 0.05)
    assert_equal(shared.supernet.state_dict(), paths.supernet.state_dict())


def test_progress_is_the_share_of_the_whole_training() -> None:
    run = training(Gdas, epochs=2)
    seen = []
    for _ in range(7):
        seen.append(run.progress)
        go(run, 1)
    assert seen == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0])
    assert run.progress == 1.0
    assert run.metrics()["strategy/temperature"] == pytest.approx(0.1)


def test_a_mixture_is_one_network_however_many_children() -> None:
    runs = [training(), training(children=2)]
    rows = SPACE.random(2, generator())
    runs[0].step(rows[:1], 0.05)
    runs[1].step(rows, 0.05)
    assert_equal(state_of(runs[0]), state_of(runs[1]))


@pytest.mark.parametrize("order", [1, 2])
def test_a_finite_difference_is_not_taken_in_bfloat16(order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = training(lambda space: Darts(space, order=order), data=DATA.stored_as(torch.bfloat16))
    seen, mix = [], Supernet.mix

    def watch(self: Supernet, inputs: Tensor, *rest: Any, **options: Any) -> Tensor:
        seen.append(inputs.dtype)
        return mix(self, inputs, *rest, **options)

    monkeypatch.setattr(Supernet, "mix", watch)
    go(run, 1)
    # Training, validation and both sides of the difference, or validation alone; then the weights' own step.
    assert seen == [torch.float32] * 4 + [torch.bfloat16] if order == 2 else seen == [torch.bfloat16] * 2


@pytest.mark.parametrize("order", [1, 2])
def test_a_step_of_darts_never_waits_for_the_device(order: Any) -> None:
    kernels.select("native", CPU)
    run = training(lambda space: Darts(space, order=order), DartsSpace(1))
    go(run, 1)
    with refuse_synchronisation():
        go(run, 2)


def test_a_loss_that_is_not_finite_is_noticed_on_both_levels() -> None:
    run = training()
    with torch.no_grad():
        run.supernet.network.head.fill_(float("inf"))
    go(run, 1)
    with pytest.raises(UserError, match="the loss became NaN"):
        run.check(1)
    with pytest.raises(UserError, match="the gradient of the architecture parameters became NaN"):
        run.strategy.check(1)


def test_settings_are_those_of_shared_training() -> None:
    with pytest.raises(UserError, match=r"train\.dropout=2"):
        training(dropout=2)


def test_defaults_are_those_of_shared_training() -> None:
    own, theirs = (inspect.signature(kind).parameters for kind in (RelaxedTraining, SharedTraining))
    assert {name: own[name] for name in theirs} == dict(theirs)
    assert set(own) - set(theirs) == {"strategy", "epochs"}


def test_a_supernet_of_other_channels_is_refused() -> None:
    randomness = Randomness(5, RelaxedTraining.PURPOSES, CPU)
    with pytest.raises(ValueError, match="partial=1: the strategy needs a supernet of 4"):
        RelaxedTraining(Supernet(SPACE, SMALL, generator()), DATA, randomness, PcDarts(SPACE), 1)


def test_a_search_stopped_after_any_step_and_resumed_is_the_search(tmp_path: Path) -> None:
    def build(record: Record) -> Search:
        strategy = Gdas(SPACE, learning_rate=0.1)
        supernet = Supernet(SPACE, SMALL, seeded(0, "weights"))
        randomness = Randomness(0, {*Search.PURPOSES, *RelaxedTraining.PURPOSES}, CPU)
        training = RelaxedTraining(supernet, DATA, randomness, strategy, 2, batch_size=16)
        report = SearchReport(record, SPACE, SMALL, {"seed": 0}, "accuracy")
        estimator = Shared(supernet, DATA, "accuracy", batch_size=15, images=15)
        sizes = {"updates": 0, "candidates": 3, "rescored": 2, "watched": 2, "log_every": 2}
        plan = Plan(epochs=2, children="uniform_then_strategy", uniform_epochs=1, **sizes)  # type: ignore[arg-type]
        return Search(SPACE, strategy, estimator, training, randomness, plan, Limits(SMALL), report, progress=False)

    def stopped(search: Search, after: int) -> None:
        left = iter(range(after - 1, -1, -1))
        search.run(lambda: None if next(left, 1) else signal.raise_signal(signal.SIGINT))

    with Record.create(tmp_path / "whole") as record:
        whole = build(record)
        whole.run()
    with Record.create(tmp_path / "broken") as record, pytest.raises(KeyboardInterrupt):
        stopped(build(record), 5)
    state = load_checkpoint(tmp_path / "broken" / "checkpoint.pt")
    with Record.reopen(tmp_path / "broken", state["next_step"], state["metrics_lines"]) as record:
        again = build(record)
        again.load_state_dict(state)
        again.run()
    assert again.training.step_count == whole.training.step_count == 6
    logs = [(tmp_path / run / "metrics.jsonl").read_text(encoding="utf-8") for run in ("whole", "broken")]
    assert logs[0] == logs[1]
    entries = [json.loads(line) for line in logs[0].splitlines()]
    assert "strategy/gradient_norm" not in entries[1]  # while the strategy waits
    assert entries[3]["strategy/gradient_norm"] > 0
    genotypes = [json.loads((tmp_path / run / "genotype.json").read_text()) for run in ("whole", "broken")]
    assert genotypes[0]["choices"] == genotypes[1]["choices"]


def test_data_without_validation_images_is_refused() -> None:
    empty = Split(DATA.valid.images[:0], DATA.valid.labels[:0])
    with pytest.raises(UserError, match=r"data\.valid=0: a relaxation needs 2 or more validation images"):
        training(data=replace(DATA, valid=empty))
