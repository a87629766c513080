"""The shared weights: paths, isolation of children, what runs and what gets a gradient."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from conformance import SCALE, SCRATCH_SPACES, SPACES, generator, images
from enas import kernels
from enas.errors import UserError
from enas.kernels import parts
from enas.space import EnasMicro, Noise, Scale
from enas.supernet import Supernet, mean_statistics
from tolerances import assert_same

SPACE = EnasMicro(3)
PUBLISHED = "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1", "1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"


@pytest.fixture
def supernet() -> Supernet:
    return Supernet(SPACE, SCALE, generator(1))


outputs = pytest.mark.parametrize("output", ["project", "concat"])


@outputs
@pytest.mark.parametrize(
    "scale",
    [
        replace(SCALE, height=7, width=13, channels=1),
        replace(SCALE, layers=2, filters=3, height=5, width=5),
        replace(SCALE, layers=3, filters=5, height=11, width=3, classes=2),
        replace(SCALE, layers=4, height=1, width=2),
    ],
    ids=["7x13x1", "odd filters", "11x3", "1x2"],
)
def test_a_path_equals_the_extracted_child_at_any_size(output: str, scale: Scale) -> None:
    space = EnasMicro(3, output)  # type: ignore[arg-type]
    supernet = Supernet(space, scale, generator(1)).double()
    rows = space.random(5, generator(2))
    inputs = images(batch=3, scale=scale).double()
    for row, expected in zip(rows.tolist(), supernet(inputs, rows), strict=True):
        assert_same(supernet.extract(row)(inputs[0]), expected)


@outputs
def test_a_path_equals_the_extracted_child_in_float32(output: str) -> None:
    space = EnasMicro(output=output)  # type: ignore[arg-type]
    supernet = Supernet(space, SCALE, generator(1))
    row = space.parse(*PUBLISHED)
    logits = supernet(images(batch=8), torch.tensor([row]))
    assert logits.dtype == torch.float32
    assert_same(supernet.extract(row)(images(batch=8)[0]), logits[0])


@outputs
def test_an_extracted_child_has_the_gradients_of_its_path(output: str) -> None:
    space = EnasMicro(3, output)  # type: ignore[arg-type]
    supernet = Supernet(space, SCALE, generator(1)).double()
    row = space.random(1, generator(4))
    child = supernet.extract(row[0].tolist())
    inputs = images().double()
    supernet(inputs, row).square().sum().backward()
    child(inputs[0]).square().sum().backward()
    shared = {name: parameter.grad for name, parameter in supernet.network.named_parameters()}
    for name, parameter in child.network.named_parameters():
        expected = shared[name]
        if parameter.numel() == 0:
            continue
        assert parameter.grad is not None
        assert expected is not None
        # A child holds its rows alone, in edge order: every other row of the supernet has no gradient.
        assert_same(parameter.grad.abs().sum(), expected.abs().sum())
        assert_same(parameter.grad.square().sum(), expected.square().sum())


def test_extraction_copies(supernet: Supernet) -> None:
    row = SPACE.random(1, generator())[0].tolist()
    child = supernet.extract(row)
    before = child(images()[0])
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(1.0)
    assert torch.equal(child(images()[0]), before)


def test_extraction_refuses_another_scale(supernet: Supernet) -> None:
    row = SPACE.random(1, generator())[0].tolist()
    other = SPACE.network(replace(SCALE, filters=6), generator(), row)
    with pytest.raises(ValueError, match="own space and scale"):
        other.inherit(supernet.network)


def test_shapes_of_one_child_many_children_and_shared_images(supernet: Supernet) -> None:
    rows = SPACE.random(3, generator())
    assert supernet(images(1, 2), rows).shape == (3, 2, 4)  # the same images for three children
    assert supernet(images(3, 2), rows).shape == (3, 2, 4)  # images of their own
    assert supernet(images(3, 2), rows[:1]).shape == (3, 2, 4)  # one child on three batches
    assert supernet(images(1, 2), rows[:1]).shape == (1, 2, 4)


def test_shared_images_and_a_shared_row_are_repeated(supernet: Supernet) -> None:
    rows, inputs = SPACE.random(3, generator()), images(3, 2)
    assert torch.equal(supernet(inputs[:1], rows), supernet(inputs[:1].expand(3, -1, -1, -1, -1), rows))
    assert torch.equal(supernet(inputs, rows[:1]), supernet(inputs, rows[:1].expand(3, -1)))


def test_a_child_s_bits_do_not_depend_on_the_others(supernet: Supernet) -> None:
    rows, inputs = SPACE.random(4, generator()), images(4, 3)
    together = supernet(inputs, rows)
    for index in range(4):
        assert torch.equal(supernet(inputs[index, None], rows[index, None])[0], together[index])


@pytest.mark.parametrize("changed", ["images", "row"])
def test_changing_one_child_leaves_the_others_logits_and_gradients_alone(supernet: Supernet, changed: str) -> None:
    rows, inputs = SPACE.random(3, generator()), images(3, 3)

    def results() -> tuple[Tensor, list[Tensor]]:
        supernet.zero_grad()
        leaf = inputs.clone().requires_grad_()
        logits = supernet(leaf, rows)
        logits[[0, 2]].square().sum().backward()
        gradients = [p.grad.clone() for p in supernet.parameters() if p.grad is not None]
        assert leaf.grad is not None
        return logits.detach(), [*gradients, leaf.grad]

    logits, gradients = results()
    if changed == "images":
        inputs[1] = images(1, 3, seed=9)[0]
    else:
        rows[1] = SPACE.random(1, generator(9))[0]
    other_logits, other_gradients = results()
    assert not torch.equal(other_logits[1], logits[1])
    assert torch.equal(other_logits[[0, 2]], logits[[0, 2]])
    assert len(other_gradients) == len(gradients)
    for one, other in zip(gradients, other_gradients, strict=True):
        assert torch.equal(one, other)


class Calls:
    """Counts the calls of the reference's building blocks by what tells them apart; it computes from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.counts: Counter[str] = Counter()
        kernels.select("reference", torch.device("cpu"))
        for name in ("separable_half", "average_pool", "max_pool", "reduce"):
            self._count(monkeypatch, name)

    def _count(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        original = getattr(parts, name)

        def counted(*arguments: Any) -> Tensor:
            key = f"separable{arguments[2].shape[0]}" if name == "separable_half" else name
            self.counts[key] += 1
            out: Tensor = original(*arguments)
            return out

        monkeypatch.setattr(parts, name, counted)


def expected_calls(row: Sequence[int], scale: Scale) -> Counter[str]:
    """What one child may run: cells 0 and 1 of the smallest stack are reduction cells, cell 2 is normal."""
    assert scale.layers == 1
    half = len(row) // 2
    counts: Counter[str] = Counter()
    for cell, times in ((row[:half], 1), (row[half:], 2)):
        for source, operation in zip(cell[::2], cell[1::2], strict=True):
            if operation == 4:
                counts["reduce"] += times if times == 2 and source < 2 else 0
            else:
                key = ("separable3", "separable5", "average_pool", "max_pool")[operation]
                counts[key] += 2 * times if operation < 2 else times
        loose = {0, 1} - set(cell[::2])
        counts["reduce"] += len(loose) * times if times == 2 else 0
    counts["reduce"] += 2  # calibrations: the stem for cell 1, the first cell for cell 2
    return +counts


def test_only_sampled_operations_run(supernet: Supernet, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    for row in SPACE.random(10, generator()).tolist():
        calls.counts.clear()
        supernet(images(), torch.tensor([row]))
        assert +calls.counts == expected_calls(row, SCALE)


def test_a_child_runs_what_its_path_runs(supernet: Supernet, monkeypatch: pytest.MonkeyPatch) -> None:
    row = SPACE.random(1, generator())[0].tolist()
    child = supernet.extract(row)
    calls = Calls(monkeypatch)
    child(images()[0])
    assert +calls.counts == expected_calls(row, SCALE)


@outputs
def test_unsampled_weights_get_exactly_zero_gradient(output: str) -> None:
    space = EnasMicro(3, output)  # type: ignore[arg-type]
    supernet = Supernet(space, SCALE, generator(1))
    row = space.random(1, generator(3))
    supernet(images(), row).square().sum().backward()
    for cell, routes in zip(
        supernet.network.cells, [space.route(row)[0, 6:]] * 2 + [space.route(row)[0, :6]], strict=True
    ):
        for code, table in ((0, cell.separable3), (1, cell.separable5)):
            used = {at for _, operation, at in routes.tolist() if operation == code}
            for name, parameter in table.named_parameters():
                if parameter.grad is None:
                    assert not used
                    continue
                touched = set(parameter.grad.flatten(1).abs().sum(dim=1).nonzero().flatten().tolist())
                assert touched == used, name


def test_own_statistics_change_nothing(supernet: Supernet) -> None:
    supernet = supernet.double()
    rows, inputs = SPACE.random(3, generator()), images(batch=4).double()
    statistics = supernet.statistics([inputs], rows)
    assert_same(supernet(inputs, rows, statistics=statistics), supernet(inputs, rows))


def test_given_statistics_free_a_child_from_its_batch(supernet: Supernet) -> None:
    rows, inputs = SPACE.random(2, generator()), images(batch=6).double()
    supernet = supernet.double()
    statistics = supernet.statistics([images(batch=8, seed=5).double()], rows)
    together = supernet(inputs, rows, statistics=statistics)
    alone = torch.cat([supernet(inputs[:, i, None], rows, statistics=statistics) for i in range(6)], dim=1)
    assert_same(alone, together)
    assert not torch.allclose(supernet(inputs[:, :3], rows), supernet(inputs, rows)[:, :3])


def test_statistics_over_equal_batches_are_those_of_the_images_together() -> None:
    """Exactly so for the stem, whose inputs are the images themselves."""
    supernet = Supernet(SPACE, SCALE, generator(1)).double()
    rows, inputs = SPACE.random(2, generator()), images(batch=12).double()
    whole = supernet.statistics([inputs], rows)
    parts = supernet.statistics(inputs.split(4, dim=1), rows)
    assert whole.keys() == parts.keys()
    assert_same(parts["stem"], whole["stem"])


def test_mean_statistics_add_the_variance_of_the_means() -> None:
    x = torch.randn(3, 50, 4, generator=generator(), dtype=torch.float64)
    batches = [{"norm": torch.stack([part.mean(dim=0), part.var(dim=0, unbiased=False)])} for part in x]
    pixels = x.flatten(0, 1)
    expected = torch.stack([pixels.mean(dim=0), pixels.var(dim=0, unbiased=False)])
    assert_same(mean_statistics(batches)["norm"], expected)


@outputs
def test_statistics_exist_where_cells_have_no_norm(output: str) -> None:
    space = EnasMicro(2, output)  # type: ignore[arg-type]
    supernet = Supernet(space, SCALE, generator(1)).double()
    row = [0, 4, 1, 3] * 4
    inputs = images().double()
    statistics = supernet.statistics([inputs], torch.tensor([row]))
    assert_same(supernet(inputs, torch.tensor([row]), statistics=statistics)[0], supernet.extract(row)(inputs[0]))


def test_weights_follow_from_the_generator() -> None:
    one, same, other = (Supernet(SPACE, SCALE, generator(seed)) for seed in (1, 1, 2))
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, same.get_parameter(name))
    assert not torch.equal(one.network.stem, other.network.stem)


def test_forward_changes_nothing_and_without_noise_nothing_is_random(supernet: Supernet) -> None:
    state = {name: value.clone() for name, value in supernet.state_dict().items()}
    rows = SPACE.random(2, generator())
    first = supernet(images(), rows)
    supernet.statistics([images(seed=3)], rows)
    supernet(images(seed=4), SPACE.random(2, generator(5)), noise=Noise(generator(), 0.5, 0.5))
    assert torch.equal(supernet(images(), rows), first)
    for name, value in supernet.state_dict().items():
        assert torch.equal(value, state[name])


def test_a_space_that_cannot_share_weights_is_refused() -> None:
    space = EnasMicro(2)
    space.shareable = False
    with pytest.raises(UserError, match="space enas_micro cannot share weights"):
        Supernet(space, SCALE, generator())


def test_a_stack_of_cells_has_no_recurrent_state(supernet: Supernet) -> None:
    with pytest.raises(ValueError, match="no state"):
        supernet(images(), SPACE.random(1, generator()), torch.zeros(1))


def test_every_space_is_shareable_but_those_that_train_from_scratch() -> None:
    assert {name for name, space in SPACES.items() if not space.shareable} == set(SCRATCH_SPACES)
