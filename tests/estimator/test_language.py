"""The one-shot estimate on text against a direct computation."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from conformance import TEXT_SCALE, generator, toy_text
from enas.data import columns
from enas.errors import UserError
from enas.estimator import Language
from enas.space import EnasRnn
from enas.supernet import Supernet

SPACE = EnasRnn(2)
DATA = toy_text()
ROWS = SPACE.random(5, generator(3))


@pytest.fixture
def supernet() -> Supernet:
    return Supernet(SPACE, TEXT_SCALE, generator(1))


@pytest.mark.parametrize("objective", ["perplexity", "loss"])
def test_all_text_with_the_state_carried(supernet: Supernet, objective: Any) -> None:
    found = Language(supernet, DATA, objective, batch_size=4, length=7, children=2).estimate(ROWS)
    text = columns(DATA.valid, 4)
    assert found.images == 4 * 24
    for index, row in enumerate(ROWS.tolist()):
        with torch.no_grad():
            logits = supernet.extract(row)(text[:, :-1])
        losses = functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten(), reduction="none").double()
        assert found.metrics["loss"][index].item() == pytest.approx(losses.mean().item(), rel=1e-5)
        assert found.metrics["perplexity"][index].item() == pytest.approx(losses.mean().exp().item(), rel=1e-5)
        value = 80 / losses.mean().exp() if objective == "perplexity" else -losses.mean()
        assert found.value[index].item() == pytest.approx(value.item(), rel=1e-5)
        error = losses.std() / 96**0.5 * (value if objective == "perplexity" else 1)
        assert found.error[index].item() == pytest.approx(error.item(), rel=1e-4)


def test_a_reward_is_a_window_from_a_state_of_zeros(supernet: Supernet) -> None:
    """The first call's window is among all windows of that length, each read from zeros."""
    estimator = Language(supernet, DATA, "loss", batch_size=4, length=3, windows=2)
    found = estimator.estimate(ROWS[:1], generator(2))
    assert found.images == 4 * 6
    text = columns(DATA.valid, 4)
    losses = []
    for start in range(text.shape[1] - 6):
        logits = supernet(text[None, :, start : start + 6], ROWS[:1]).detach()
        losses.append(functional.cross_entropy(logits.flatten(0, 2), text[:, start + 1 : start + 7].flatten()).item())
    assert min(abs(loss + found.value.item()) for loss in losses) < 1e-5
    drawn = generator(0)
    assert len({estimator.estimate(ROWS[:1], drawn).value.item() for _ in range(10)}) > 3


def test_a_child_whose_state_overflows_is_worth_nothing_and_finite(supernet: Supernet) -> None:
    with torch.no_grad():
        supernet.network.layers[0].nodes[1].fill_(float("inf"))
    found = Language(supernet, DATA, batch_size=4).estimate(torch.tensor([[0, 1, 0, 0], [0, 0, 0, 0]]))
    assert found.metrics["loss"][0] == 50.0
    assert found.value[0] < 1e-18
    assert found.value[1] > 5
    assert all(torch.isfinite(entry).all() for entry in (found.value, found.error, *found.metrics.values()))


def test_the_label_says_what_is_maximised(supernet: Supernet) -> None:
    assert Language(supernet, DATA, batch_size=4).label == "80/perplexity"
    assert Language(supernet, DATA, "loss", batch_size=4).label == "minus loss"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"objective": "accuracy"}, "objective=accuracy: on text allowed are perplexity and loss"),
        ({"windows": 0}, r"estimator\.windows=0"),
        ({"batch_size": 60}, r"estimator\.batch_size=60: the validation text has 100 words"),
    ],
)
def test_bad_settings_are_refused(supernet: Supernet, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Language(supernet, DATA, **settings)
