"""Images, text and tables are not mixed: every wrong pair in one sentence."""

from typing import Any

import pytest

from conformance import SCALE, TEXT_SCALE, generator, toy_data, toy_table, toy_text
from enas.errors import UserError
from enas.estimator import Language, Shared
from enas.final import FinalTraining
from enas.language import FinalLanguageTraining, LanguageTraining
from enas.material import check_material
from enas.randomness import Randomness
from enas.space import EnasMicro, EnasRnn, NasBench201
from enas.supernet import Child, Supernet
from enas.train import SharedTraining

RANDOMNESS = Randomness(0, SharedTraining.PURPOSES, "cpu")  # type: ignore[arg-type]
IMAGES = (EnasMicro(1), SCALE, toy_data())
TEXT = (EnasRnn(1), TEXT_SCALE, toy_text())


def test_a_space_and_data_of_another_kind_are_refused() -> None:
    for (space, _, _), (_, _, data) in ((IMAGES, TEXT), (TEXT, IMAGES)):
        with pytest.raises(
            UserError, match=f"space={space.name} reads {space.reads} and the toy data is {data.material}"
        ):
            check_material(space, data)
    check_material(IMAGES[0], IMAGES[2])
    check_material(TEXT[0], TEXT[2])


@pytest.mark.parametrize(
    ("made", "kind", "said"),
    [
        (
            SharedTraining,
            TEXT,
            "train: the one chosen is for images, and space=enas_rnn reads text; take train=language",
        ),
        (LanguageTraining, IMAGES, "train: the one chosen is for text, .* take train=shared"),
        (Shared, TEXT, "estimator: the one chosen is for images, .* take estimator=language"),
        (Language, IMAGES, "estimator: the one chosen is for text, .* take estimator=shared"),
    ],
)
def test_what_is_made_for_the_other_kind_is_refused(made: Any, kind: Any, said: str) -> None:
    space, scale, data = kind
    net = Supernet(space, scale, generator())
    with pytest.raises(UserError, match=said):
        made(net, data, *([RANDOMNESS] if made in (SharedTraining, LanguageTraining) else []))


@pytest.mark.parametrize(("made", "kind"), [(FinalTraining, TEXT), (FinalLanguageTraining, IMAGES)])
def test_a_final_training_of_the_other_kind_is_refused(made: Any, kind: Any) -> None:
    space, scale, data = kind
    child = Child(space, space.random(1, generator())[0].tolist(), scale, generator())
    with pytest.raises(UserError, match="train: the one chosen is for"):
        made(child, data, RANDOMNESS, 1)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (SharedTraining, "train: the one chosen is for images, and the toy table data is a table of results; take "),
        (Shared, "estimator: the one chosen is for images, .* take estimator=table, or data of images$"),
    ],
)
def test_what_computes_takes_no_table(made: Any, said: str) -> None:
    net = Supernet(NasBench201(), SCALE, generator())
    with pytest.raises(UserError, match=said):
        made(net, toy_table(), *([RANDOMNESS] if made is SharedTraining else []))


def test_a_table_suits_its_own_space_alone() -> None:
    check_material(NasBench201(), toy_table())
    check_material(NasBench201(), toy_table(), "table", "estimator")
    for space in (EnasMicro(1), EnasRnn(1)):
        with pytest.raises(UserError, match=f"space={space.name}: the table toy table knows rows of space=nasbench201"):
            check_material(space, toy_table())
    with pytest.raises(
        UserError, match=r"estimator=table: .* toy data is text; take data=nasbench201 or data=nasbench101$"
    ):
        check_material(TEXT[0], TEXT[2], "table", "estimator")
