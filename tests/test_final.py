"""Training one network: what it reaches, what each setting does, and that stopping after any step changes nothing."""

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import enas.final
from conformance import toy_data
from enas.data import Augmentation, DataSet, Split
from enas.errors import DivergedError, UserError
from enas.final import FinalTraining, evaluate
from enas.randomness import Randomness, seeded
from enas.record import Record, load_checkpoint
from enas.schedule import Cosine
from enas.space import EnasMicro, Scale
from enas.supernet import Child, load_child

CPU = torch.device("cpu")
SCALE = Scale(layers=1, filters=4, height=8, width=8, channels=3, classes=3)
SPACE = EnasMicro(nodes=1)
ROW = SPACE.random(1, seeded(3, "row"))[0].tolist()
DATA = toy_data(90, SCALE, Augmentation(crop=1))
STEPS = 3  # of an epoch: 48 training images in batches of 16


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(seed: int = 0, data: DataSet = DATA, auxiliary: float = 0.4, **settings: Any) -> FinalTraining:
    child = Child(SPACE, ROW, SCALE, seeded(seed, "weights"), auxiliary > 0)
    settings = {"epochs": 2, "batch_size": 16, "dropout": 0.1, "drop_path": 0.2, "progress": False} | settings
    return FinalTraining(child, data, Randomness(seed, FinalTraining.PURPOSES, CPU), auxiliary=auxiliary, **settings)


def run(folder: Path, **settings: Any) -> tuple[FinalTraining, dict[str, Any]]:
    training = build(**settings)
    with Record.create(folder) as record:
        return training, training.run(record)


def resume(folder: Path, **settings: Any) -> tuple[FinalTraining, dict[str, Any]]:
    state = load_checkpoint(folder / "checkpoint.pt")
    training = build(**settings)
    training.load_state_dict(state)
    with Record.reopen(folder, state["next_step"], state["metrics_lines"]) as record:
        return training, training.run(record)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in read.Tags()["scalars"] if not tag.startswith("time/")]
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in tags}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def timeless(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "seconds"}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FinalTraining, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("final") / "unbroken"
    return (folder, *run(folder))


def test_it_learns_far_above_chance(tmp_path: Path) -> None:
    data = toy_data(240, SCALE, Augmentation(crop=1))
    _, result = run(tmp_path / "run", data=data, epochs=12, dropout=0.0, drop_path=0.0)
    assert result["test"]["accuracy"] > 0.8  # chance is a third
    assert result["test"]["images"] == len(data.test)
    log = lines(tmp_path / "run")
    assert log[-2]["train/loss"] < 0.6 * log[0]["train/loss"]


def test_the_log_has_a_line_an_epoch_and_one_for_the_test(unbroken: tuple[Path, FinalTraining, Any]) -> None:
    folder, training, result = unbroken
    log = lines(folder)
    assert [line["step"] for line in log] == [3, 6, 7]
    assert [line.get("train/rate") for line in log] == [Cosine().rate(0, 2), Cosine().rate(1, 2), None]
    assert log[-1] == {"step": 7, "test/accuracy": result["test"]["accuracy"], "test/loss": result["test"]["loss"]}
    assert all("valid/accuracy" in line for line in log[:2])
    assert (training.epoch, training.trained) == (2, 0)


def test_best_and_last_weights_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = iter([0.5, 0.75, 0.75, 0.75, 0.9])
    losses = iter([1.0, 1.0, 0.9, 0.95, 1.0])
    splits: list[tuple[int, dict[str, Tensor]]] = []

    def spy(child: Child, data: DataSet, split: Split, batch_size: int) -> dict[str, float]:
        splits.append((len(split), {name: value.clone() for name, value in child.state_dict().items()}))
        return {"accuracy": next(accuracies), "loss": next(losses)}

    monkeypatch.setattr(enas.final, "evaluate", spy)
    training, result = run(tmp_path / "run", epochs=4)
    # The best is the third epoch: as accurate as its neighbours, at a lower loss. The test split is read once.
    assert [size for size, _ in splits] == [len(DATA.valid)] * 4 + [len(DATA.test)]
    assert training.best == {"accuracy": 0.75, "loss": 0.9, "epoch": 3}
    assert result["weights"] == "best.pt"
    assert result["test"]["accuracy"] == 0.9
    kept = {name: value for name, value in splits[2][1].items() if ".auxiliary." not in name}
    assert same(kept, splits[4][1])
    assert same(kept, load_child(tmp_path / "run" / "best.pt", CPU).state_dict())
    last = load_child(tmp_path / "run" / "last.pt", CPU)
    assert same(last.state_dict(), {name: training.child.state_dict()[name] for name in last.state_dict()})
    assert not same(last.state_dict(), kept)


def test_the_test_result_is_that_of_the_saved_child(unbroken: tuple[Path, FinalTraining, dict[str, Any]]) -> None:
    folder, _, result = unbroken
    child = load_child(folder / result["weights"], CPU)
    assert evaluate(child, DATA, DATA.test, 5) == pytest.approx(
        {key: result["test"][key] for key in ("accuracy", "loss")}
    )
    assert result["params"] == sum(parameter.numel() for parameter in child.parameters())
    assert result["params"] == int(SPACE.cost(torch.tensor([ROW]), SCALE).params)


def test_an_evaluation_counts_every_image_once() -> None:
    child = Child(SPACE, ROW, SCALE, seeded(0, "weights")).eval()
    inputs, labels = DATA.batch(DATA.valid, torch.arange(len(DATA.valid)), None)
    with torch.no_grad():
        logits = child(inputs)
    expected = {
        "accuracy": float((logits.argmax(1) == labels).double().mean()),
        "loss": float(torch.nn.functional.cross_entropy(logits, labels)),
    }
    for batch_size in (7, 30, 64):
        assert evaluate(child.train(), DATA, DATA.valid, batch_size) == pytest.approx(expected, rel=1e-5)
    assert not child.training


@pytest.mark.parametrize("merge", [True, False])
def test_with_nothing_to_validate_on_the_last_weights_are_tested(tmp_path: Path, merge: bool) -> None:
    data = DATA if merge else replace(DATA, valid=DATA.valid[torch.empty(0, dtype=torch.int64)])
    training, result = run(tmp_path / "run", data=data, merge=merge)
    assert len(training.data.train) == (78 if merge else 48)
    assert training.batches.steps == (4 if merge else 3)
    if merge:
        assert torch.equal(training.data.train.images[48:], DATA.valid.images)
        assert torch.equal(training.data.train.labels[48:], DATA.valid.labels)
    assert result["weights"] == "last.pt"
    assert result["valid"] == {}
    assert not (tmp_path / "run" / "best.pt").exists()
    assert not any(tag.startswith("valid/") for line in lines(tmp_path / "run") for tag in line)


def test_the_auxiliary_head_is_trained_and_left_behind(unbroken: tuple[Path, FinalTraining, dict[str, Any]]) -> None:
    folder, training, _ = unbroken
    start = build().child.state_dict()
    head = [name for name in start if ".auxiliary." in name]
    assert head
    moved = training.child.state_dict()
    # By more than decay alone would: the head's own weights get a gradient.
    for name in head:
        if start[name].any():
            assert not torch.allclose(moved[name], start[name], atol=1e-4), name
    for file in ("best.pt", "last.pt"):
        assert not any(".auxiliary." in name for name in load_child(folder / file, CPU).state_dict())
    assert not any(".auxiliary." in name for name in build(auxiliary=0.0).child.state_dict())


def after_one_step(**settings: Any) -> tuple[dict[str, Tensor], Tensor]:
    training = build(**settings)
    next(training._steps())
    return training.child.state_dict(), training._sums


PLAIN: dict[str, Any] = {"auxiliary": 0.0, "dropout": 0.0, "drop_path": 0.0, "clip": None, "weight_decay": 0.0}


@pytest.mark.parametrize(
    "setting",
    [
        {"dropout": 0.5},
        {"label_smoothing": 0.1},
        {"clip": 0.01},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decay_norms": False},
        {"rate": Cosine(0.01)},
        {"nesterov": False},
    ],
    ids=str,
)
def test_each_setting_takes_effect(setting: dict[str, Any]) -> None:
    plain, _ = after_one_step(**PLAIN)
    assert same(plain, after_one_step(**PLAIN)[0])
    changed, _ = after_one_step(**{**PLAIN, **setting})
    trained = [name for name in plain if "running" not in name]
    assert not all(torch.equal(plain[name], changed[name]) for name in trained)


def test_the_auxiliary_loss_reaches_the_trunk_by_its_weight() -> None:
    light, _ = after_one_step(**{**PLAIN, "auxiliary": 0.1})
    heavy, _ = after_one_step(**{**PLAIN, "auxiliary": 0.9})
    trunk = [name for name in light if name.startswith("network.stem") and light[name].any()]
    assert trunk
    assert not all(torch.equal(light[name], heavy[name]) for name in trunk)


def test_decay_of_norms_is_a_choice() -> None:
    decayed, _ = after_one_step(**{**PLAIN, "weight_decay": 0.1})
    spared, _ = after_one_step(**{**PLAIN, "weight_decay": 0.1, "decay_norms": False})
    gains = [name for name in decayed if name.endswith("gain") and decayed[name].any()]
    assert gains
    assert not any(torch.equal(decayed[name], spared[name]) for name in gains)


def test_a_momentum_takes_effect_from_the_second_step() -> None:
    weights = []
    for momentum in (0.9, 0.5):
        training = build(**{**PLAIN, "momentum": momentum, "nesterov": False})
        steps = training._steps()
        next(steps)
        next(steps)
        weights.append(training.child.state_dict())
    assert not same(*weights)


def test_drop_path_grows_with_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    learn = Child.learn

    def spy(self: Child, inputs: Tensor, noise: Any) -> Any:
        seen.append(noise)
        return learn(self, inputs, noise)

    monkeypatch.setattr(Child, "learn", spy)
    training = build(drop_path=0.3, dropout=0.2)
    for epoch in range(2):
        training.epoch, training.trained = epoch, 0
        for _ in training._steps():
            pass
    assert [round(noise.progress, 6) for noise in seen] == [round(step / 6, 6) for step in range(6)]
    assert {(noise.dropout, noise.drop_path) for noise in seen} == {(0.2, 0.3)}


def test_a_dropped_path_changes_the_last_epoch_and_not_the_first_step() -> None:
    plain, _ = after_one_step(**PLAIN)
    dropped, _ = after_one_step(**{**PLAIN, "drop_path": 0.9})
    trained = [name for name in plain if "running" not in name]
    assert all(torch.equal(plain[name], dropped[name]) for name in trained)  # progress is 0 there
    late = []
    for share in (0.0, 0.9):
        training = build(**{**PLAIN, "drop_path": share})
        training.epoch = 1
        next(training._steps())
        late.append(training.child.state_dict())
    assert not all(torch.equal(late[0][name], late[1][name]) for name in trained)


def test_smoothing_raises_the_loss_of_a_sure_network() -> None:
    sure = torch.eye(3) * 20
    labels = torch.arange(3)
    losses = [float(build(label_smoothing=share)._loss(sure, labels)) for share in (0.0, 0.3)]
    # A share of 0.3 is spread over three classes, so two wrong ones get 0.1 each, 20 nats away.
    assert losses == pytest.approx([0.0, 4.0], abs=1e-3)


def test_weights_alone_are_trained_without_a_run_directory(tmp_path: Path) -> None:
    recorded, _ = run(tmp_path, epochs=2)
    alone = build(epochs=2)
    alone.train()
    assert same(alone.child.state_dict(), recorded.child.state_dict())
    assert alone.epoch == 2
    alone.train()  # nothing is left
    assert same(alone.child.state_dict(), recorded.child.state_dict())


def test_weights_alone_are_not_trained_once_they_are_lost() -> None:
    with pytest.raises(DivergedError, match="infinite in epoch 1"):
        build(rate=Cosine(1e30), clip=None, epochs=3).train()


def test_the_same_seed_gives_the_same_training(unbroken: tuple[Path, FinalTraining, Any], tmp_path: Path) -> None:
    folder, training, result = unbroken
    again, repeated = run(tmp_path / "again")
    assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "again" / "metrics.jsonl").read_bytes()
    assert same(training.child.state_dict(), again.child.state_dict())
    assert timeless(result) == timeless(repeated)
    run(tmp_path / "other", seed=1)
    assert (folder / "metrics.jsonl").read_bytes() != (tmp_path / "other" / "metrics.jsonl").read_bytes()


class Killed(BaseException):
    """What a SIGKILL is within one process."""


def after_step(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], Any]) -> None:
    """Do `act` after the step `number`, counted from 1, of the trainings from now on."""
    left = [number]
    steps = FinalTraining._steps

    def counted(self: FinalTraining) -> Iterator[None]:
        for _ in steps(self):
            left[0] -= 1
            if left[0] == 0:
                act()
            yield

    monkeypatch.setattr(FinalTraining, "_steps", counted)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def assert_same_run(one: Path, other: Path) -> None:
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    assert events(one) == events(other)
    for name in ("best.pt", "last.pt"):
        assert same(load_child(one / name, CPU).state_dict(), load_child(other / name, CPU).state_dict())


@pytest.mark.usefixtures("_no_wait_for_a_new_second")
@pytest.mark.parametrize("step", range(1, 2 * STEPS + 1))
def test_a_training_stopped_after_any_step_goes_on_bit_for_bit(
    unbroken: tuple[Path, FinalTraining, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    folder, training, result = unbroken
    with monkeypatch.context() as patch:
        after_step(patch, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "stopped")
    state = load_checkpoint(tmp_path / "stopped" / "checkpoint.pt")
    assert state["epoch"] * STEPS + state["trained"] == step
    resumed, repeated = resume(tmp_path / "stopped")
    assert timeless(result) == timeless(repeated)
    assert same(training.child.state_dict(), resumed.child.state_dict())
    assert_same_run(folder, tmp_path / "stopped")


def test_a_killed_training_goes_on_from_its_last_checkpoint(
    unbroken: tuple[Path, FinalTraining, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill() -> None:
        raise Killed

    folder, _, result = unbroken
    for step in (STEPS + 2, 2 * STEPS):
        with monkeypatch.context() as patch:
            after_step(patch, step, kill)
            with pytest.raises(Killed):
                run(tmp_path / str(step))
        assert load_checkpoint(tmp_path / str(step) / "checkpoint.pt")["epoch"] == 1
        _, repeated = resume(tmp_path / str(step))
        assert timeless(result) == timeless(repeated)
        assert_same_run(folder, tmp_path / str(step))


def test_a_training_killed_in_its_test_tests_again(
    unbroken: tuple[Path, FinalTraining, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, result = unbroken
    _, first = run(tmp_path / "run")  # as if killed before its result was written
    _, second = resume(tmp_path / "run")
    assert timeless(first) == timeless(second) == timeless(result)
    assert_same_run(folder, tmp_path / "run")  # no second point in TensorBoard


class Exploding(Cosine):
    """A sound first epoch, then a rate that no weights survive."""

    def rate(self, epoch: int, epochs: int) -> float:
        return 0.05 if epoch == 0 else 1e30


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the loss became NaN or infinite in epoch 2; the last checkpoint is good"):
        run(tmp_path / "lost", rate=Exploding(), clip=None)
    state = load_checkpoint(tmp_path / "lost" / "checkpoint.pt")
    assert state["epoch"] == 1
    assert all(bool(value.isfinite().all()) for value in state["child"].values())
    assert all(bool(value.isfinite().all()) for value in load_child(tmp_path / "lost" / "best.pt", CPU).parameters())
    assert [line["step"] for line in lines(tmp_path / "lost")] == [3]


def test_ctrl_c_does_not_save_weights_that_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        after_step(patch, STEPS + 2, interrupt)
        with pytest.raises(UserError, match="in epoch 2"):
            run(tmp_path / "lost", rate=Exploding(), clip=None)
    assert load_checkpoint(tmp_path / "lost" / "checkpoint.pt")["epoch"] == 1


def test_checkpoints_come_every_so_many_epochs_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = []
    monkeypatch.setattr(Record, "save_checkpoint", lambda self, state: saved.append(state["epoch"]))
    run(tmp_path / "rare", epochs=5, checkpoint_every=2)
    assert saved == [2, 4, 5]


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("epochs", 0, "allowed is 1 or more"),
        ("batch_size", 1, "allowed is 2 or more"),
        ("checkpoint_every", 0, "allowed is 1 or more"),
        ("dropout", 1.0, "allowed is 0 to less than 1"),
        ("drop_path", -0.1, "allowed is 0 to less than 1"),
        ("label_smoothing", 1.0, "allowed is 0 to less than 1"),
        ("auxiliary", -0.4, "allowed is 0"),
        ("clip", 0.0, "allowed is more than 0"),
        ("momentum", 1.0, "allowed is 0 to less than 1"),
        ("weight_decay", -1e-4, "allowed is 0 or more"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(key: str, value: Any, allowed: str) -> None:
    with pytest.raises(UserError, match=f"{key}={value}: {allowed}"):
        build(**{key: value})


def test_nesterov_needs_a_momentum() -> None:
    with pytest.raises(UserError, match=r"needs train\.momentum above 0"):
        build(momentum=0.0)
    build(momentum=0.0, nesterov=False)
