"""GDAS: hard choices, and a gradient that is not theirs."""

import math
from typing import Any

import pytest
import torch

from conformance import generator
from enas.errors import UserError
from enas.space import Darts
from enas.strategy import Gdas
from strategy.one_edge import OneEdge

SPACE = Darts()


def test_a_mixing_is_one_hot_to_the_last_bit() -> None:
    strategy = Gdas(SPACE, initial=2.0)
    for progress in (0.0, 0.5, 1.0):
        mixing = strategy.mixing(generator(), progress)
        assert ((mixing == 0) | (mixing == 1)).all()
        assert (mixing.sum(dim=1) == 1).all()


def test_operations_are_drawn_in_proportion_to_their_softmax_at_any_temperature() -> None:
    strategy = Gdas(OneEdge())
    strategy.alpha.data.copy_(torch.tensor([[0.1, 0.6, 0.3]]).log() + 2)
    for progress in (0.0, 1.0):
        draws, drawn = 3000, generator(1)
        with torch.no_grad():
            counts = sum(strategy.mixing(drawn, progress)[0] for _ in range(draws)) / draws
        torch.testing.assert_close(counts, torch.tensor([0.1, 0.6, 0.3]), rtol=0, atol=4 * math.sqrt(0.25 / draws))


def test_the_gradient_is_that_of_the_soft_sample() -> None:
    """By hand: noise is undone by a draw of its own, and a softmax has the gradient p (d - p . d) / temperature."""
    strategy = Gdas(OneEdge(), temperature=4.0, final_temperature=2.0, initial=1.0)
    mixing = strategy.mixing(generator(2), 0.5)
    slope = torch.tensor([[0.3, -1.0, 2.0]])
    (gradient,) = torch.autograd.grad((mixing * slope).sum(), strategy.alpha)

    noise = -torch.empty(1, 3).exponential_(generator=generator(2)).log()
    noisy = [a + n for a, n in zip(strategy.alpha[0].log_softmax(dim=0).tolist(), noise[0].tolist(), strict=True)]
    exponentials = [math.exp(value / 3) for value in noisy]
    soft = [value / sum(exponentials) for value in exponentials]
    mean = sum(p * d for p, d in zip(soft, [0.3, -1.0, 2.0], strict=True))
    by_noisy = [p * (d - mean) / 3 for p, d in zip(soft, [0.3, -1.0, 2.0], strict=True)]
    assert mixing[0].argmax() == max(range(3), key=noisy.__getitem__)
    # The gradient of log softmax is the identity less softmax, and `by_noisy` adds up to 0.
    torch.testing.assert_close(gradient[0], torch.tensor(by_noisy), rtol=1e-4, atol=1e-6)


def test_the_temperature_falls_linearly() -> None:
    strategy = Gdas(SPACE)
    assert [strategy.temperature(progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([10.0, 5.05, 0.1])
    assert strategy.measures(0.5)["strategy/temperature"].item() == pytest.approx(5.05)


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"final_temperature": -1.0}, {"temperature": math.inf}])
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    (key,) = settings
    with pytest.raises(UserError, match=rf"strategy\.{key}=.*: allowed is more than 0"):
        Gdas(SPACE, **settings)
