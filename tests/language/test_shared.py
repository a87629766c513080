"""Training of shared weights on text: the state, the loss, resume, and the way back from NaN."""

import io
import logging
from typing import Any

import pytest
import torch
from torch.nn import functional

from conformance import TEXT_SCALE, generator, toy_text
from enas.errors import UserError
from enas.language import LanguageTraining
from enas.randomness import Randomness
from enas.space import EnasRnn
from enas.supernet import Supernet
from tolerances import assert_same

SPACE = EnasRnn(2)
DATA = toy_text()
CPU = torch.device("cpu")
PLAIN: dict[str, Any] = {
    "batch_size": 4, "length": 5, "random_length": False, "weight_decay": 0.0, "clip": None, "word": 0.0,
    "embedding": 0.0, "input": 0.0, "layer": 0.0, "dropout": 0.0, "slowness": 0.0,
}  # fmt: skip


def randomness(seed: int = 5) -> Randomness:
    return Randomness(seed, LanguageTraining.PURPOSES, CPU)


def training(seed: int = 1, drawn: Randomness | None = None, **settings: Any) -> LanguageTraining:
    net = Supernet(SPACE, TEXT_SCALE, generator(seed))
    return LanguageTraining(net, DATA, drawn or randomness(), **(PLAIN | settings))


def weights(run: LanguageTraining) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.supernet.state_dict().items()}


ROWS = SPACE.random(40, generator())


def test_it_learns() -> None:
    run = training(clip=0.5)
    seen = []
    for _ in range(3):
        for _ in range(40):
            run.step(ROWS[:1], 2.0)
        seen.append(run.metrics())
    assert seen[-1]["weights/loss"] < 0.6 * seen[0]["weights/loss"]
    assert seen[-1]["weights/perplexity"] == pytest.approx(2.718281828 ** seen[-1]["weights/loss"])


def test_a_step_is_plain_gradient_descent_from_the_carried_state() -> None:
    """Two windows written out; the second begins where the first ended, whichever child comes, without its history."""
    run, net = training(), training().supernet
    text = DATA.train[:400].view(4, -1)
    state = None
    for place in range(2):
        net.zero_grad()
        window = text[:, 5 * place : 5 * place + 6]
        output = net.read(window[None, :, :-1], ROWS[place, None], state)
        loss = functional.cross_entropy(output.logits.flatten(0, 2), window[:, 1:].flatten())
        loss.backward()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter -= 0 if parameter.grad is None else 0.5 * parameter.grad
        state = output.state.detach()
        run.step(ROWS[place, None], 0.5)
        assert run.metrics()["weights/loss"] == pytest.approx(loss.item(), rel=1e-5)
    for name, value in net.state_dict().items():
        assert_same(run.supernet.state_dict()[name], value)
    assert_same(run._state, state[:, 0])


def test_the_state_is_zero_at_the_beginning_of_a_pass() -> None:
    run = training()
    for _ in range(20):  # windows of 99 words: 19 of five, one of four
        run.step(ROWS[:1], 0.0)
    end = run._state.clone()
    run.step(ROWS[:1], 0.0)
    first = training()
    first.step(ROWS[:1], 0.0)
    assert torch.equal(run._state, first._state)
    assert not torch.equal(run._state, end)


def test_children_share_the_columns_by_slices() -> None:
    run, net = training(children=2), training().supernet
    text = DATA.train[:400].view(4, -1)[:, :6]
    output = net.read(text[:, :-1].view(2, 2, 5), ROWS[:2])
    losses = [
        functional.cross_entropy(own.flatten(0, 1), text[2 * i : 2 * i + 2, 1:].flatten())
        for i, own in enumerate(output.logits)
    ]
    run.step(ROWS[:2], 0.1)
    assert run.metrics()["weights/loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
    assert_same(run._state, output.state.flatten(1, 2).detach())


def test_the_rate_follows_the_length() -> None:
    """A window of half the length moves the weights half as far."""
    moved = []
    for length in (4, 8):
        run = training(length=length)
        before = weights(run)
        if length == 8:  # the first four words alone, as a window of a mean length of eight
            run.windows._lengths = [4]
        run.step(ROWS[:1], 0.5)
        moved.append({name: value - before[name] for name, value in weights(run).items()})
    for name, value in moved[0].items():
        assert_same(2 * moved[1][name], value)


@pytest.mark.parametrize(
    "name", ["word", "embedding", "input", "layer", "dropout", "activation", "slowness", "clip", "weight_decay"]
)
def test_settings_reach_the_step(name: str) -> None:
    plain, other = training(), training(**{name: 0.01 if name == "clip" else 0.5})
    for run in (plain, other):
        run.step(ROWS[:1], 0.5)
    assert not torch.equal(plain.supernet.network.embedding, other.supernet.network.embedding)


def test_regularisers_are_the_mean_squares_of_the_outputs_and_of_their_changes() -> None:
    run = training(activation=2.0, slowness=3.0)
    text = DATA.train[:400].view(4, -1)[:, :6]
    output = run.supernet.read(text[None, :, :-1], ROWS[:1])
    loss, total = run.recipe.losses(output, text[:, 1:])
    hidden = output.hidden[0]
    expected = loss + 2 * (hidden**2).mean() + 3 * ((hidden[:, 1:] - hidden[:, :-1]) ** 2).mean()
    assert_same(total, expected)


def test_resume_in_mid_epoch_is_bit_for_bit() -> None:
    own = {"random_length": True, "input": 0.2, "steps": 3}
    drawn = randomness()
    run = training(drawn=drawn, **own)
    for row in ROWS[:4]:
        run.step(row[None], 0.5)
        run.check(1)
    file = io.BytesIO()
    torch.save({"training": run.state_dict(), "randomness": drawn.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other_drawn = randomness(99)
    other = training(seed=2, drawn=other_drawn, **own)
    other.load_state_dict(state["training"])
    other_drawn.load_state_dict(state["randomness"])
    for each in (run, other):
        for place, row in enumerate(ROWS[4:40]):
            if place in (0, 20):  # right after the resume, before another epoch ends; and later
                lose(each)
            each.step(row[None], 0.5)
            each.check(1)
    for name, value in weights(run).items():
        assert torch.equal(other.supernet.state_dict()[name], value), name
    assert torch.isfinite(run.supernet.network.embedding).all()
    assert torch.equal(run._state, other._state)


def lose(run: LanguageTraining) -> None:
    with torch.no_grad():
        run.supernet.network.bias.fill_(float("nan"))


def test_lost_weights_are_those_of_the_last_epoch_s_end_at_half_the_rate(caplog: pytest.LogCaptureFixture) -> None:
    run = training(steps=3)
    for row in ROWS[:3]:
        run.step(row[None], 0.5)
    run.check(1)
    good = weights(run)
    run.step(ROWS[3, None], 0.5)
    run.check(2)  # in mid-epoch: nothing is kept
    lose(run)
    run.step(ROWS[4, None], 0.5)
    with caplog.at_level(logging.WARNING, "enas"):
        run.check(2)
    assert (
        "NaN or infinite in epoch 2; back to the weights of step 3, at 0.5 of the learning rate (1 of 3" in caplog.text
    )
    for name, value in weights(run).items():
        assert torch.equal(value, good[name]), name
    assert (run._state == 0).all()
    run.metrics()
    before = weights(run)
    run.step(ROWS[5, None], 0.5)
    run.check(2)
    assert run.metrics()["weights/recoveries"] == 1
    moved = run.supernet.network.bias - before["network.bias"]
    slow = training()
    slow.load_state_dict(run.state_dict())
    assert torch.isfinite(moved).all()
    assert moved.abs().max() > 0


def test_weights_that_are_lost_too_often_end_the_run() -> None:
    run = training(steps=2, recoveries=1)
    lose(run)
    run.step(ROWS[:1], 0.5)
    run.check(1)
    lose(run)
    run.step(ROWS[:1], 0.5)
    with pytest.raises(UserError, match="NaN or infinite in epoch 1"):
        run.check(1)


def test_the_rate_is_halved_at_each_recovery() -> None:
    runs = [training(), training()]
    lose(runs[1])
    runs[1].step(ROWS[:1], 0.5)
    runs[1].check(1)
    runs[1].windows.load_state_dict(training().windows.state_dict())
    moved = []
    for run in runs:
        before = weights(run)
        run.step(ROWS[:1], 0.5)
        moved.append(run.supernet.network.embedding.detach() - before["network.embedding"])
    assert_same(2 * moved[1], moved[0])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"children": 3}, r"train\.children=3: allowed are numbers that divide the 4 columns"),
        ({"steps": 0}, r"train\.steps=0"),
        ({"word": 1.0}, r"train\.word=1\.0"),
        ({"slowness": -1.0}, r"train\.slowness=-1\.0"),
        ({"recoveries": -1}, r"train\.recoveries=-1"),
        ({"graph": "on"}, "graph=on"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        training(**settings)
