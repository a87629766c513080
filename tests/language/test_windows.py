"""Windows over a text: nothing is left out, nothing twice, and a stream that is resumed is the same stream."""

import pytest
import torch

from conformance import generator
from enas.errors import UserError
from enas.language.windows import Windows

TEXT = torch.arange(203)


def one_pass(windows: Windows) -> list[tuple[torch.Tensor, torch.Tensor, bool]]:
    found = [windows.next()]
    while windows._window < len(windows._lengths):
        found.append(windows.next())
    return [tuple(window) for window in found]  # type: ignore[misc]


@pytest.mark.parametrize("random", [False, True])
def test_a_pass_predicts_every_word_of_a_column_once(random: bool) -> None:
    windows = Windows(TEXT, 2, 7, random, generator())
    found = one_pass(windows)
    inputs, targets = (torch.cat([window[place] for window in found], dim=1) for place in (0, 1))
    assert inputs.tolist() == [list(range(100)), list(range(101, 201))]
    assert torch.equal(targets, inputs + 1)
    assert [first for _, _, first in found] == [True] + [False] * (len(found) - 1)
    again = one_pass(windows)
    assert again[0][2]
    lengths = [[window[0].shape[1] for window in each] for each in (found, again)]
    assert (lengths[0] != lengths[1]) == random
    if not random:
        assert lengths[0] == [7] * 14 + [2]


def test_random_lengths_vary_around_the_mean() -> None:
    windows = Windows(torch.arange(100_000), 1, 35, True, generator())
    lengths = torch.tensor([len(inputs[0]) for inputs, _, _ in one_pass(windows)[:-1]], dtype=torch.float64)
    assert lengths.min() >= 5
    assert lengths.mean() == pytest.approx(0.95 * 35 + 0.05 * 17.5 - 0.5, abs=0.5)  # cut down to whole words
    assert lengths[lengths > 25].std() == pytest.approx(4.7, abs=0.5)


def test_steps_are_about_a_pass() -> None:
    assert Windows(TEXT, 2, 7, False, generator()).steps == 14
    assert Windows(TEXT, 100, 35, False, generator()).steps == 1


def test_a_resumed_stream_goes_on() -> None:
    drawn = generator(3)
    windows = Windows(TEXT, 2, 7, True, drawn)
    for _ in range(5):
        windows.next()
    state, random = windows.state_dict(), drawn.get_state()
    expected = [windows.next() for _ in range(40)]
    other = generator(9)
    resumed = Windows(TEXT, 2, 7, True, other)
    resumed.load_state_dict(state)
    other.set_state(random)
    for window in expected:
        found = resumed.next()
        assert torch.equal(found.inputs, window.inputs)
        assert found.first == window.first
    with pytest.raises(UserError, match="101 words a column"):
        Windows(TEXT[:150], 2, 7, True, generator()).load_state_dict(state)


@pytest.mark.parametrize(
    ("batch_size", "length", "said"), [(0, 7, "batch_size=0"), (2, 0, r"train\.length=0"), (150, 7, "at least 2")]
)
def test_bad_sizes_are_refused(batch_size: int, length: int, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Windows(TEXT, batch_size, length, False, generator())
