"""Generators by purpose."""

import io

import pytest
import torch

from enas.randomness import Randomness, seeded

CPU = torch.device("cpu")


def draw(generator: torch.Generator) -> list[int]:
    return torch.randint(0, 2**40, (4,), generator=generator).tolist()


def test_a_generator_follows_from_seed_and_purpose() -> None:
    assert draw(seeded(1, "order")) == draw(seeded(1, "order"))
    different = [draw(seeded(seed, purpose)) for seed in (0, 1, 11) for purpose in ("order", "1/order", "/order")]
    assert len({tuple(numbers) for numbers in different}) == len(different)


def test_the_first_draws_are_those_of_every_version() -> None:
    """Were they to change, no run of an earlier version could be repeated."""
    assert draw(seeded(0, "weights")) == [271744248025, 331115026332, 461963162840, 867609060372]


def test_a_draw_moves_no_other_purpose() -> None:
    one, other = (Randomness(3, ("order", "augment"), CPU) for _ in range(2))
    draw(one["order"])
    assert draw(one["augment"]) == draw(other["augment"])
    assert draw(one["order"]) != draw(other["order"])


def test_another_purpose_moves_no_draw() -> None:
    assert draw(Randomness(3, ("order",), CPU)["order"]) == draw(Randomness(3, ("new", "order"), CPU)["order"])


def test_saved_generators_go_on_where_they_were() -> None:
    one = Randomness(3, ("order", "augment"), CPU)
    draw(one["augment"])
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    expected = [draw(one["order"]), draw(one["augment"])]
    file.seek(0)
    other = Randomness(4, ("order", "augment"), CPU)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert [draw(other["order"]), draw(other["augment"])] == expected


def test_an_unknown_purpose_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Randomness(3, ("order",), CPU)["augment"]
