"""Training of the shared weights: a child a step, and resume in mid-epoch."""

import io
from dataclasses import replace
from typing import Any

import pytest
import torch
from synchronisation import refuse_synchronisation
from tape import Tape
from torch.nn import functional

from conformance import SCALE, generator, toy_data
from enas import kernels
from enas.data import Augmentation, Split
from enas.errors import UserError
from enas.randomness import Randomness
from enas.schedule import Cosine
from enas.space import EnasMicro
from enas.supernet import Supernet
from enas.train import SharedTraining
from tolerances import assert_same

SPACE = EnasMicro(2)
DATA = toy_data(augmentation=Augmentation(crop=1, flip=True, cutout=2))
CPU = torch.device("cpu")


def randomness() -> Randomness:
    return Randomness(5, SharedTraining.PURPOSES, CPU)


def training(seed: int = 1, drawn: Randomness | None = None, data: Any = DATA, **settings: Any) -> SharedTraining:
    settings = {"batch_size": 16} | settings
    return SharedTraining(Supernet(SPACE, SCALE, generator(seed)), data, drawn or randomness(), **settings)


def weights(run: SharedTraining) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.supernet.state_dict().items()}


def test_an_epoch_is_one_pass_over_the_training_split() -> None:
    assert len(DATA.train) == 48
    assert training(batch_size=16).steps == 3
    assert training(batch_size=20).steps == 2


def test_it_learns() -> None:
    run = training(data=toy_data(), rate=Cosine(0.05))
    row = SPACE.random(1, generator())
    seen = []
    for _ in range(4):
        for _ in range(10):
            run.step(row, 0.05)
        seen.append(run.metrics())
    assert seen[-1]["weights/loss"] < 0.5 * seen[0]["weights/loss"]
    assert seen[-1]["weights/accuracy"] > 0.8


def test_several_children_share_a_batch_by_slices() -> None:
    """Their gradients are averaged, and each child sees its own images alone."""
    run = training(data=toy_data(), children=2, dropout=0.0, momentum=0.0, nesterov=False, weight_decay=0.0, clip=None)
    before, rows = weights(run), SPACE.random(2, generator())
    order = torch.randperm(len(DATA.train), generator=randomness()["order"])
    losses = []
    single = training(seed=1).supernet
    for row, indices in zip(rows, order[:16].chunk(2), strict=True):
        inputs, labels = toy_data().batch(toy_data().train, indices, None)
        losses.append(functional.cross_entropy(single(inputs.unsqueeze(0), row[None])[0], labels))
    loss = torch.stack(losses).mean()
    loss.backward()
    run.step(rows, 0.1)
    assert run.metrics()["weights/loss"] == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in single.named_parameters():
        moved = before[name] if parameter.grad is None else before[name] - 0.1 * parameter.grad
        assert_same(run.supernet.get_parameter(name).detach(), moved)


@pytest.mark.parametrize("children", [0, 3, 16])
def test_children_have_to_divide_the_batch(children: int) -> None:
    with pytest.raises(UserError, match=rf"train\.children={children}: .* the batch of 16 images"):
        training(children=children)


@pytest.mark.parametrize("children", [1, 2])
def test_a_step_never_waits_for_the_device(children: int) -> None:
    kernels.select("native", CPU)  # the reference reads its routes on the host
    run = training(children=children)
    rows = SPACE.random(children, generator())
    run.step(rows, 0.05)
    with refuse_synchronisation():
        for _ in range(4):  # over the end of an epoch
            run.step(rows, 0.03)
    with refuse_synchronisation(), pytest.raises(AssertionError, match="waits for the device"):
        run.metrics()


def trained(device: torch.device, graph: str) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Weights and metrics after several epochs at changing rates."""
    drawn = Randomness(5, SharedTraining.PURPOSES, device)
    supernet = Supernet(SPACE, SCALE, generator(1)).to(device)
    run = SharedTraining(supernet, DATA.to(device), drawn, batch_size=16, graph=graph)  # type: ignore[arg-type]
    for step, row in enumerate(SPACE.random(10, generator())):
        run.step(row[None].to(device), 0.05 if step < 6 else 0.01)
    return weights(run), run.metrics()


def test_a_replayed_step_is_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, metrics = trained(CPU, "off")
    monkeypatch.setattr("enas.weights.wanted", lambda mode, device, static: mode == "auto")
    monkeypatch.setattr("enas.graph.CudaRecording", Tape)
    monkeypatch.setattr(Tape, "made", 0)
    replayed, replayed_metrics = trained(CPU, "auto")
    assert Tape.made == 1
    assert metrics == replayed_metrics
    for name, value in plain.items():
        assert torch.equal(replayed[name], value), name


@pytest.mark.gpu
def test_a_step_as_a_graph_is_the_same_step() -> None:
    plain, metrics = trained(torch.device("cuda"), "off")
    replayed, replayed_metrics = trained(torch.device("cuda"), "auto")
    assert metrics == replayed_metrics
    for name, value in plain.items():
        assert torch.equal(replayed[name], value), name


@pytest.mark.gpu
def test_a_step_on_a_device_never_waits_for_it() -> None:
    device = torch.device("cuda")
    run = SharedTraining(
        Supernet(SPACE, SCALE, generator(1)).to(device),
        DATA.to(device),
        Randomness(5, SharedTraining.PURPOSES, device),
        batch_size=16,
        graph="off",
    )
    rows = SPACE.random(6, generator()).to(device)
    run.step(rows[:1], 0.05)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for row in rows:
            run.step(row[None], 0.05)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_metrics_are_means_since_they_were_last_asked_for() -> None:
    single, several = training(), training()
    rows = SPACE.random(4, generator())
    values = []
    for row in rows:
        single.step(row[None], 0.05)
        values.append(single.metrics())
        several.step(row[None], 0.05)
    means = several.metrics()
    assert set(means) == {"weights/loss", "weights/accuracy", "weights/gradient_norm"}
    for tag, mean in means.items():
        assert mean == pytest.approx(sum(value[tag] for value in values) / 4)
    assert set(several.metrics().values()) == {0.0}
    assert several.step_count == 4


def test_resume_in_mid_epoch_is_bit_for_bit() -> None:
    rows = SPACE.random(8, generator())
    drawn = randomness()
    run = training(drawn=drawn)
    for row in rows[:4]:
        run.step(row[None], 0.05)
    file = io.BytesIO()
    torch.save({"training": run.state_dict(), "randomness": drawn.state_dict()}, file)
    for row in rows[4:]:
        run.step(row[None], 0.03)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other_drawn = Randomness(99, SharedTraining.PURPOSES, CPU)
    other = training(seed=2, drawn=other_drawn)
    other.load_state_dict(state["training"])
    other_drawn.load_state_dict(state["randomness"])
    for row in rows[4:]:
        other.step(row[None], 0.03)
    for name, value in weights(run).items():
        assert torch.equal(other.supernet.state_dict()[name], value), name
    assert other.step_count == run.step_count == 8
    assert other.metrics() == run.metrics()


def test_weights_that_the_child_does_not_use_stay_without_decay_and_momentum() -> None:
    run = training(momentum=0.0, nesterov=False, weight_decay=0.0)
    before = weights(run)
    row = SPACE.random(1, generator())
    run.step(row, 0.05)
    edges = SPACE.route(row)[0, 4:].tolist()  # of the reduction cells
    for code, table in ((0, "separable3"), (1, "separable5")):
        used = {at for _, operation, at in edges if operation == code}
        name = f"network.cells.0.{table}.pointwise"
        moved = (run.supernet.state_dict()[name] - before[name]).flatten(1).abs().sum(dim=1)
        assert set(moved.nonzero().flatten().tolist()) == used


def test_the_same_run_twice_is_the_same() -> None:
    runs = [training(), training()]
    for row in SPACE.random(3, generator()):
        for run in runs:
            run.step(row[None], 0.05)
    for name, value in weights(runs[0]).items():
        assert torch.equal(runs[1].supernet.state_dict()[name], value)


def test_only_training_images_are_looked_at() -> None:
    noise = torch.zeros_like(DATA.valid.images)
    other = replace(DATA, valid=Split(noise, DATA.valid.labels), test=Split(noise, DATA.valid.labels))
    runs = [training(), training(data=other)]
    for run in runs:
        run.step(SPACE.random(1, generator()), 0.05)
    assert runs[0].metrics() == runs[1].metrics()


@pytest.mark.parametrize(
    ("settings", "moved"), [({"dropout": 0.0}, True), ({"dropout": 0.5}, True), ({"clip": 1e-3}, True), ({}, False)]
)
def test_settings_reach_the_step(settings: dict[str, Any], moved: bool) -> None:
    row = SPACE.random(1, generator())
    plain, other = training(), training(**settings)
    for run in (plain, other):
        run.step(row, 0.05)
    assert torch.equal(plain.supernet.network.head, other.supernet.network.head) != moved


def test_images_are_augmented() -> None:
    row = SPACE.random(1, generator())
    plain, augmented = training(data=toy_data()), training()
    for run in (plain, augmented):
        run.step(row, 0.05)
    assert plain.metrics() != augmented.metrics()


def test_a_loss_that_is_not_finite_is_noticed() -> None:
    run = training()
    with torch.no_grad():
        run.supernet.network.head.fill_(float("inf"))
    run.step(SPACE.random(1, generator()), 0.05)
    assert not bool(run.descent.finite)


def test_the_default_rate_is_the_published_one() -> None:
    assert training().rate(0, 10) == 0.05
    assert training(rate=Cosine(0.1)).rate(5, 10) == pytest.approx(0.05)


def test_statistics_are_taken_from_whole_training_batches() -> None:
    batches = training(batch_size=16).sample_inputs()
    assert [tuple(batch.shape) for batch in batches] == [(1, 16, 16, 16, 3)] * 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 1}, "batch_size=1: allowed is 2 or more"),
        ({"dropout": 1.0}, r"train\.dropout=1\.0"),
        ({"dropout": -0.1}, r"train\.dropout=-0\.1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        training(**settings)
