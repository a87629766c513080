"""Final training on text: what it reaches, averaging, recovery, and that stopping after any step changes nothing."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from conformance import TEXT_SCALE, generator, toy_text
from enas.data import columns
from enas.errors import UserError
from enas.language import FinalLanguageTraining
from enas.language.averaging import Average
from enas.language.final import evaluate
from enas.randomness import Randomness
from enas.record import Record, load_checkpoint
from enas.schedule import Cosine
from enas.space import EnasRnn
from enas.supernet import Child, load_child
from tolerances import assert_same

SPACE = EnasRnn(2)
DATA = toy_text()
CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "epochs": 3, "batch_size": 4, "length": 5, "steps": 6, "scored": 4, "clip": 0.5, "word": 0.0, "embedding": 0.0,
    "input": 0.1, "layer": 0.0, "dropout": 0.1, "activation": 0.1, "patience": 1, "progress": False,
    "rate": Cosine(2.0, 2.0),
}  # fmt: skip


def build(seed: int = 0, **settings: Any) -> FinalLanguageTraining:
    child = Child(SPACE, [0, 0, 1, 1], TEXT_SCALE, generator(seed + 1))
    randomness = Randomness(seed, FinalLanguageTraining.PURPOSES, CPU)
    return FinalLanguageTraining(child, DATA, randomness, **(SMALL | settings))


def run(folder: Path, **settings: Any) -> tuple[FinalLanguageTraining, dict[str, Any]]:
    training = build(**settings)
    with Record.create(folder) as record:
        return training, training.run(record)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_it_learns_far_below_chance(tmp_path: Path) -> None:
    training, result = run(tmp_path / "run", epochs=8, steps=20)
    assert result["test"]["perplexity"] < 3.5  # chance is 6
    assert result["test"]["words"] == 96
    assert result["valid"]["epoch"] in range(1, 9)
    child = load_child(tmp_path / "run" / "best.pt", CPU)
    assert evaluate(child, columns(DATA.test, 4), 5)["perplexity"] == result["test"]["perplexity"]
    log = lines(tmp_path / "run")
    assert log[-1]["test/loss"] == result["test"]["loss"]
    assert min(line["valid/perplexity"] for line in log[:-1]) == result["valid"]["perplexity"]
    assert (training.epoch, training.trained) == (8, 0)


def test_a_step_goes_on_from_the_carried_state() -> None:
    training = build(input=0.0, dropout=0.0, activation=0.0, random_length=False)
    text, state = columns(DATA.train, 4), None
    for place in range(3):
        window = text[:, 5 * place : 5 * place + 6]
        output = training.child.read(window[:, :-1], state)
        loss = functional.cross_entropy(output.logits.flatten(0, 2), window[:, 1:].flatten())
        state = None if output.state is None else output.state.detach()
        training._sums.zero_()
        training._step(1.0)
        assert training._sums[0].item() == pytest.approx(loss.item(), rel=1e-5)


def test_perplexity_is_over_the_whole_text_with_the_state_carried() -> None:
    child, text = build().child, columns(DATA.valid, 4)
    found = evaluate(child, text, 7)
    with torch.no_grad():
        logits = child(text[:, :-1])
    loss = functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())
    assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert found["perplexity"] == pytest.approx(loss.exp().item(), rel=1e-5)


def test_a_state_that_overflows_has_a_finite_perplexity() -> None:
    child = build().child
    with torch.no_grad():
        child.network.bias.fill_(float("inf"))
    assert evaluate(child, columns(DATA.valid, 4), 7)["loss"] == 50.0


def test_stopping_after_any_step_changes_nothing(tmp_path: Path) -> None:
    """Averaging begins in the second epoch, so that both sides of it are stopped in."""
    whole, result = run(tmp_path / "whole", patience=1, random_length=True)
    for stop in (3, 6, 9, 14, 17):
        folder = tmp_path / str(stop)
        count = 0

        def interrupt() -> None:
            nonlocal count
            count += 1
            if count == stop:  # noqa: B023 - called within this turn
                signal.raise_signal(signal.SIGINT)

        training = build()
        with Record.create(folder) as record, pytest.raises(KeyboardInterrupt):
            training.run(record, after_step=interrupt)
        state = load_checkpoint(folder / "checkpoint.pt")
        resumed = build(seed=7)
        resumed.load_state_dict(state)
        with Record.reopen(folder, state["next_step"], state["metrics_lines"]) as record:
            found = resumed.run(record)
        assert lines(folder) == lines(tmp_path / "whole")
        assert {**found, "seconds": 0} == {**result, "seconds": 0}
        for name, value in whole.child.state_dict().items():
            assert torch.equal(resumed.child.state_dict()[name], value), name


def test_weights_alone_are_trained_and_averaged_without_a_run_directory(tmp_path: Path) -> None:
    """The rate is so high that validation stops improving at once, and averaging is what comes after."""
    settings: dict[str, Any] = {"epochs": 4, "rate": Cosine(30.0, 30.0)}
    recorded, _ = run(tmp_path, **settings)
    alone = build(**settings)
    alone.train()
    assert recorded.average.count == alone.average.count > 0
    with recorded.kept(), alone.kept():
        for name, value in alone.child.state_dict().items():
            assert torch.equal(value, recorded.child.state_dict()[name])


def test_averaging_starts_when_validation_stops_improving() -> None:
    network = torch.nn.Linear(1, 1)
    average = Average(network, 2)
    for perplexity in (9.0, 8.0, 7.0, 7.5, 7.6):
        average.judge(perplexity)
    assert not average.started  # 7.6 is better than 8.0, the best of all but the last two
    average.judge(7.7)
    assert average.started


def test_the_average_is_the_mean_of_the_weights_since_it_started() -> None:
    network = torch.nn.Linear(2, 1)
    average, seen = Average(network, 1), []
    average.update()
    assert average.count == 0
    for perplexity in (1.0, 2.0, 3.0):
        average.judge(perplexity)
    for step in range(4):
        with torch.no_grad():
            network.weight.fill_(float(step))
        average.update()
        seen.append(network.weight.detach().clone())
    with average.applied():
        assert_same(network.weight.detach(), torch.stack(seen).mean(dim=0))
    assert torch.equal(network.weight.detach(), seen[-1])
    never = Average(network, None)
    for perplexity in (1.0, 2.0, 3.0):
        never.judge(perplexity)
    assert not never.started


def test_the_average_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    training, _ = run(tmp_path / "run", epochs=4, patience=1)
    training.average._means = {name: torch.zeros_like(own) for name, own in training.child.named_parameters()}
    training.average.count = 0
    with pytest.MonkeyPatch.context() as patch:  # a step counts
        patch.setattr(training.average, "update", lambda: seen.append(True))
        seen: list[bool] = []
        training._step(0.0)
        assert seen == [True]
    with training.kept():
        loss = evaluate(training.child, columns(DATA.valid, 4), 5)["loss"]
    assert loss == pytest.approx(torch.tensor(6.0).log().item(), rel=1e-5)  # all words alike
    assert training.child.network.embedding.abs().sum() > 0


def test_a_lost_epoch_is_undone_and_the_run_goes_on(tmp_path: Path) -> None:
    training = build()
    count = 0

    def break_it() -> None:
        nonlocal count
        count += 1
        if count == 8:
            with torch.no_grad():
                training.child.network.bias.fill_(float("nan"))

    with Record.create(tmp_path / "run") as record:
        result = training.run(record, after_step=break_it)
    log = lines(tmp_path / "run")
    assert [line["train/recoveries"] for line in log[:3]] == [0, 1, 1]
    assert log[1]["train/loss"] is None
    assert log[1]["valid/perplexity"] == log[0]["valid/perplexity"]  # the weights are those of the first epoch's end
    assert log[2]["valid/perplexity"] != log[0]["valid/perplexity"]
    assert result["test"]["perplexity"] < 6


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"patience": 0}, r"train\.patience=0"),
        ({"scored": 0}, r"train\.scored=0"),
        ({"scored": 60}, r"train\.scored=60: the valid text is too short"),
        ({"steps": 0}, r"train\.steps=0"),
        ({"epochs": 0}, "epochs=0"),
        ({"dropout": 1.0}, r"train\.dropout=1\.0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(**settings)
