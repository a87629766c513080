"""Training each row from scratch: it is what final training does, on every space, and it depends on the row alone."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from conformance import (
    CELL_SPACES,
    SCALE,
    SCRATCH_SPACES,
    TEXT_SCALE,
    generator,
    scale_of,
    toy_data,
    toy_text,
)
from enas.data import DataSet, Split
from enas.errors import DivergedError, UserError
from enas.estimator import Scratch
from enas.final import FinalTraining, evaluate
from enas.language import FinalLanguageTraining
from enas.randomness import Randomness, derive_seed, seeded
from enas.schedule import Cosine
from enas.space import Chain, EnasMicro, EnasRnn, NasBench201, SearchSpace
from enas.supernet import Child

SPACE, DATA, TEXT = EnasMicro(1), toy_data(), toy_text()


def estimator(space: SearchSpace = SPACE, data: DataSet = DATA, **settings: Any) -> Scratch:
    settings = {"objective": "loss", "epochs": 1, "batch_size": 24} | settings
    return Scratch(space, scale_of(space), data, **settings)


def row(space: SearchSpace = SPACE, count: int = 1, seed: int = 0) -> Tensor:
    return space.random(count, generator(seed))


@pytest.mark.parametrize(
    "space", {**CELL_SPACES, **SCRATCH_SPACES}.values(), ids={**CELL_SPACES, **SCRATCH_SPACES}.keys()
)
def test_it_works_on_every_space_with_networks(space: SearchSpace) -> None:
    if space.reads == "text":
        found = Scratch(space, TEXT_SCALE, TEXT, "perplexity", epochs=1, batch_size=10).estimate(row(space))
    else:
        few = replace(DATA, train=DATA.train[torch.arange(8)])
        found = estimator(space, few, batch_size=8).estimate(row(space))
    assert torch.isfinite(found.value).all()
    assert (found.error > 0).all()


def test_the_value_is_that_of_final_training_after_its_last_epoch() -> None:
    recipe = partial(FinalTraining, rate=Cosine(0.1), dropout=0.0, auxiliary=0.4, drop_path=0.1)
    found = estimator(epochs=3, train=recipe, seed=5).estimate(row())
    canonical = SPACE.canonical(row())[0].tolist()
    own = derive_seed(5, f"row {canonical}")
    child = Child(SPACE, canonical, SCALE, seeded(own, "weights"), auxiliary=True)
    training = recipe(child, DATA, Randomness(own, FinalTraining.PURPOSES, torch.device("cpu")), 3, 24, progress=False)
    training.train()
    expected = evaluate(training.child, DATA, DATA.valid, 24)
    assert found.metrics["accuracy"].item() == expected["accuracy"]
    assert found.metrics["loss"].item() == pytest.approx(expected["loss"], rel=1e-6)
    assert found.images == len(DATA.valid)


def test_text_is_scored_with_the_weights_that_final_training_keeps() -> None:
    """Averaging starts when validation is worse than before, which it soon is at so high a rate."""
    recipe = partial(FinalLanguageTraining, rate=Cosine(50.0, 50.0), patience=1, length=10)
    space = EnasRnn(1)
    found = Scratch(space, TEXT_SCALE, TEXT, "loss", epochs=8, batch_size=4, train=recipe).estimate(row(space))
    canonical = space.canonical(row(space))[0].tolist()
    own = derive_seed(0, f"row {canonical}")
    child = Child(space, canonical, TEXT_SCALE, seeded(own, "weights"))
    randomness = Randomness(own, FinalLanguageTraining.PURPOSES, torch.device("cpu"))
    training = recipe(child, TEXT, randomness, 8, 4, progress=False)
    training.train()
    assert training.average.count > 0
    with training.kept():
        assert found.metrics["loss"].item() == training._measure(child, "valid")["loss"]
    assert found.metrics["loss"].item() != training._measure(child, "valid")["loss"]


def test_equal_functions_have_equal_values() -> None:
    """On NAS-Bench-201 an edge into nowhere makes no difference."""
    space = NasBench201()
    rows = torch.tensor([[1, 0, 0, 2, 0, 0], [1, 3, 0, 2, 0, 0], [1, 0, 0, 0, 0, 0]])
    keys = space.canonical(rows)
    assert torch.equal(keys[0], keys[1])
    few = replace(DATA, train=DATA.train[torch.arange(24)])
    value = estimator(space, few).estimate(rows).value
    assert value[0] == value[1]
    assert value[0] != value[2]


def test_the_seed_draws_weights_and_orders_anew() -> None:
    assert estimator(seed=0).estimate(row()).value != estimator(seed=1).estimate(row()).value


def test_it_learns() -> None:
    found = estimator(objective="accuracy", epochs=12, batch_size=12).estimate(row())
    assert found.value.item() > 0.7


@pytest.mark.parametrize(("budget", "epochs"), [(1.0, 6), (0.5, 3), (0.25, 2), (0.2, 1), (0.01, 1)])
def test_a_budget_is_a_share_of_the_epochs(budget: float, epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(FinalTraining, "train", lambda self: asked.append(self.epochs))
    found = estimator(epochs=6).estimate(row(), None, budget)
    assert asked == [epochs]
    assert found.budget == budget


@pytest.mark.parametrize("budget", [0.0, 1.5])
def test_a_budget_is_a_share(budget: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        estimator().estimate(row(), None, budget)


def test_the_test_split_is_never_read() -> None:
    blind = replace(DATA, test=Split(torch.empty(0, 16, 16, 3, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)))
    assert torch.equal(estimator(data=blind).estimate(row()).value, estimator().estimate(row()).value)


@pytest.mark.parametrize(("objective", "worst"), [("accuracy", 0.0), ("loss", -50.0)])
def test_a_diverged_child_has_the_worst_value(objective: str, worst: float) -> None:
    wild = partial(FinalTraining, rate=Cosine(1e30), clip=None)
    found = estimator(objective=objective, train=wild, epochs=2).estimate(row())
    assert found.value.item() == worst
    assert found.error.item() == 0
    assert {name: entry.item() for name, entry in found.metrics.items()} == {"accuracy": 0.0, "loss": 50.0}


def test_a_diverged_language_model_has_the_worst_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(self: FinalLanguageTraining) -> None:
        raise DivergedError("lost")

    monkeypatch.setattr(FinalLanguageTraining, "train", diverge)
    found = Scratch(EnasRnn(1), TEXT_SCALE, TEXT, "loss", batch_size=4).estimate(row(EnasRnn(1)))
    assert found.value.item() == -50.0
    assert found.error.item() == 0.0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": 0}, r"^estimator\.epochs=0: allowed is 1 or more$"),
        ({"batch_size": 1}, r"^estimator\.batch_size=1: allowed is 2 or more"),
        ({"objective": "perplexity"}, "^objective=perplexity: allowed are accuracy and loss$"),
        ({"train": partial(FinalTraining, dropout=1.0)}, r"^estimator\.train\.dropout=1\.0: allowed is"),
        ({"train": partial(FinalTraining, merge=True)}, r"^estimator\.train\.merge=true: the validation split scores"),
        (
            {"train": partial(FinalLanguageTraining)},
            r"^estimator\.train: the one chosen is for text, .* take estimator=scratch$",
        ),
        ({"train": partial(FinalTraining, auxiliary=0.4), "space": Chain(2)}, "has no auxiliary head"),
        ({"data": replace(DATA, valid=DATA.valid[torch.arange(0)])}, r"^data\.valid=0: a search needs"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        estimator(**settings)


def test_a_recipe_of_images_is_refused_for_text() -> None:
    with pytest.raises(UserError, match=r"take estimator=scratch_language$"):
        Scratch(EnasRnn(1), TEXT_SCALE, TEXT, "loss", train=partial(FinalTraining))


def test_shares_that_are_no_different_epochs_are_refused() -> None:
    estimator(epochs=9).check_budgets((1 / 9, 1 / 3, 1.0))
    for epochs, budgets, least in ((8, (1 / 9, 1.0), 9), (3, (0.35, 0.45, 1.0), 3)):
        with pytest.raises(UserError, match=rf"^estimator.epochs={epochs}: .* {least} at least$"):
            estimator(epochs=epochs).check_budgets(budgets)
