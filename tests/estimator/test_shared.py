"""The one-shot estimate against a direct computation, and its batch-norm policies."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from tape import Tape
from torch.nn import functional

from conformance import SCALE, generator, toy_data
from enas.data import Augmentation, Split
from enas.errors import UserError
from enas.estimator import Shared
from enas.estimator.base import Scores
from enas.space import EnasMicro
from enas.supernet import Supernet
from tolerances import assert_same

SPACE = EnasMicro(2)
DATA = toy_data()
ROWS = SPACE.random(5, generator(3))


@pytest.fixture
def supernet() -> Supernet:
    return Supernet(SPACE, SCALE, generator(1))


@pytest.mark.parametrize("objective", ["accuracy", "loss"])
def test_one_batch_against_a_direct_computation(supernet: Supernet, objective: Any) -> None:
    found = Shared(supernet, DATA, objective, batch_size=30).estimate(ROWS)
    inputs, labels = DATA.batch(DATA.valid, torch.arange(30), None)
    for index, row in enumerate(ROWS.tolist()):
        with torch.no_grad():
            logits = supernet.extract(row)(inputs)
        losses = functional.cross_entropy(logits, labels, reduction="none").double()
        correct = (logits.argmax(dim=1) == labels).double()
        scores = correct if objective == "accuracy" else -losses
        assert_same(found.metrics["accuracy"][index], correct.mean())
        assert_same(found.metrics["loss"][index].float(), losses.mean().float())
        assert_same(found.value[index].float(), scores.mean().float())
        assert_same(found.error[index].float(), (scores.std() / 30**0.5).float())


def test_reestimated_statistics_come_from_training_images_of_that_child(supernet: Supernet) -> None:
    estimator = Shared(supernet, DATA, "loss", batch_size=8, images=30, statistics="reestimated")
    found = estimator.estimate(ROWS)
    inputs, labels = DATA.batch(DATA.valid, torch.arange(30), None)
    for index, row in enumerate(ROWS.tolist()):
        child = supernet.extract(row)
        child.set_statistics(supernet.statistics(DATA.sample(8), ROWS[index, None]))
        with torch.no_grad():
            loss = functional.cross_entropy(child.eval()(inputs), labels)
        assert_same(found.metrics["loss"][index].float(), loss)
    # Images are then scored one by one, whatever batch they are in.
    own = Shared(supernet, DATA, "loss", batch_size=8, images=30, statistics="batch").estimate(ROWS)
    assert not torch.allclose(own.value, found.value)


def test_statistics_follow_the_weights(supernet: Supernet) -> None:
    estimator = Shared(supernet, DATA, "loss", statistics="reestimated")
    before = estimator.estimate(ROWS).value
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.mul_(1.5)
    fresh = Shared(supernet, DATA, "loss", statistics="reestimated")
    assert torch.equal(estimator.estimate(ROWS).value, fresh.estimate(ROWS).value)
    assert not torch.equal(estimator.estimate(ROWS).value, before)


@pytest.mark.parametrize("statistics", ["batch", "reestimated"])
def test_children_in_one_pass_change_no_bit(supernet: Supernet, statistics: Any) -> None:
    one, many = (
        Shared(supernet, DATA, children=children, batch_size=16, statistics=statistics) for children in (1, 50)
    )
    for draw in (None, 3):
        found = [each.estimate(ROWS, None if draw is None else generator(draw)) for each in (one, many)]
        assert torch.equal(found[0].metrics["loss"], found[1].metrics["loss"])
        assert torch.equal(found[0].error, found[1].error)


def test_batches_are_of_nearly_equal_size(supernet: Supernet) -> None:
    seen: list[int] = []
    supernet.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape[1]))
    Shared(supernet, DATA, batch_size=16, images=30).estimate(ROWS)
    assert seen == [15, 15]
    seen.clear()
    Shared(supernet, DATA, batch_size=16, images=20).estimate(ROWS, generator())
    assert seen == [10, 10]


@pytest.mark.parametrize(("images", "used"), [(1, 1), (20, 20), (30, 30), (5000, 30)])
def test_as_many_images_as_wanted_and_there_are(supernet: Supernet, images: int, used: int) -> None:
    assert Shared(supernet, DATA, images=images).estimate(ROWS[:1], generator()).images == used


def test_each_image_counts_once(supernet: Supernet) -> None:
    """All images drawn are all images: the order alone differs."""
    estimator = Shared(supernet, DATA, batch_size=30, images=30)
    assert_same(
        estimator.estimate(ROWS, generator()).metrics["loss"].float(), estimator.estimate(ROWS).metrics["loss"].float()
    )


def test_only_validation_images_are_looked_at_and_never_augmented(supernet: Supernet) -> None:
    noise = torch.randint(0, 256, DATA.test.images.shape, generator=generator(), dtype=torch.uint8)
    other = replace(
        DATA,
        test=Split(noise, DATA.test.labels),
        train=Split(DATA.train.images.flip(1), DATA.train.labels),
        augmentation=Augmentation(crop=3, flip=True, cutout=4),
    )
    assert torch.equal(
        Shared(supernet, DATA, "loss").estimate(ROWS).value, Shared(supernet, other, "loss").estimate(ROWS).value
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"objective": "error"}, "objective=error: allowed are accuracy and loss"),
        ({"statistics": "running"}, "estimator.statistics=running: allowed are batch and reestimated"),
        ({"batch_size": 0}, "estimator.batch_size=0"),
        ({"images": 0}, "estimator.images=0"),
        ({"children": -1}, "estimator.children=-1"),
    ],
)
def test_bad_settings_are_refused(supernet: Supernet, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Shared(supernet, DATA, **settings)


def test_data_without_validation_images_is_refused(supernet: Supernet) -> None:
    none = torch.empty(0, dtype=torch.int64)
    with pytest.raises(UserError, match=r"data\.valid=0: .* the toy data has none"):
        Shared(supernet, replace(DATA, valid=DATA.valid[none]))


def test_scores_are_means_over_images_and_their_standard_error() -> None:
    logits = torch.randn(2, 7, 3, generator=generator())
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    scores = Scores(2, torch.device("cpu"))
    scores.add(logits[:, :4], labels[:4])
    scores.add(logits[:, 4:], labels[4:])
    rows = torch.zeros(2, 1, dtype=torch.int64)
    correct = (logits.argmax(dim=2) == labels).double()
    losses = -logits.double().log_softmax(dim=2).gather(2, labels.expand(2, -1)[..., None])[..., 0]
    for objective, values in (("accuracy", correct), ("loss", -losses)):
        found = scores.estimates(rows, objective, step=3)  # type: ignore[arg-type]
        assert_same(found.value.float(), values.mean(dim=1).float())
        assert_same(found.error.float(), (values.std(dim=1) / 7**0.5).float())
        assert (found.images, found.step) == (7, 3)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("objective", "worst"), [("accuracy", 0.0), ("loss", -50.0)])
def test_a_child_that_overflows_is_worth_least_and_not_most(broken: float, objective: Any, worst: float) -> None:
    labels = torch.tensor([0, 0, 1])
    logits = torch.zeros(4, 3, 2)
    logits[1, 0] = broken  # argmax calls it a hit
    logits[2, :, 0] = torch.tensor([-1e4, -1e4, 1e4])  # wrong each time, with a loss far above the most that counts
    logits[3, 0] = torch.tensor([-1e30, 1e30])
    scores = Scores(4, torch.device("cpu"))
    scores.add(logits, labels)
    found = scores.estimates(torch.arange(4)[:, None], objective, 0)
    for numbers in (found.value, found.error, *found.metrics.values()):
        assert torch.isfinite(numbers).all()
    assert found.value[1:].tolist() == [worst, worst, worst if objective == "loss" else pytest.approx(1 / 3)]
    assert found.error[1] == 0
    assert found.metrics["loss"][1:].tolist() == [50.0] * 3
    assert found.metrics["accuracy"][1:3].tolist() == [0.0, 0.0]
    assert int(found.top(1).choices) == 0


def test_scores_that_are_all_equal_have_no_error() -> None:
    scores = Scores(1, torch.device("cpu"))
    scores.add(torch.tensor([[[9.0, 0.0], [0.0, 9.0]]]), torch.tensor([0, 1]))
    found = scores.estimates(torch.zeros(1, 1, dtype=torch.int64), "accuracy", 0)
    assert found.value.tolist() == [1.0]
    assert found.error.tolist() == [0.0]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_replayed_passes_give_the_same_estimates(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "cpu":
        monkeypatch.setattr("enas.estimator.shared.wanted", lambda mode, device, static: mode == "auto")
        monkeypatch.setattr("enas.graph.CudaRecording", Tape)
        monkeypatch.setattr(Tape, "made", 0)
    supernet = Supernet(SPACE, SCALE, generator(1)).to(device)
    found = []
    for graph in ("off", "auto"):
        estimator = Shared(supernet, DATA.to(device), batch_size=10, children=2, graph=graph)  # type: ignore[arg-type]
        found.append([estimator.estimate(ROWS.to(device)) for _ in range(3)])
    for plain, replayed in zip(*found, strict=True):
        assert torch.equal(plain.metrics["loss"], replayed.metrics["loss"])
        assert torch.equal(plain.error, replayed.error)
    if device == "cpu":
        assert Tape.made == 2  # two children, and the one that is left over
