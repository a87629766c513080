"""A space in a file of one's own: what is loaded, and every mistake in one sentence."""

from pathlib import Path

import pytest

from enas.errors import UserError
from enas.space import SPACES, SearchSpace, build_space, load_space_file, register

WHOLE = """
from enas.space import Decision, NasBench201

class {name}(NasBench201):
    name = "{word}"
"""


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is known during the test alone."""
    monkeypatch.setattr("enas.space.SPACES", dict(SPACES))


def written(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_space_is_loaded_once_and_genotypes_may_name_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"space 'mine' is unknown, allowed are enas_micro, .*; space_file=FILE adds"):
        build_space("mine", {})
    path = written(tmp_path, WHOLE.format(name="Mine", word="mine"))
    space = load_space_file(path)
    assert load_space_file(path) is space
    assert type(build_space("mine", {})) is space


def test_another_file_of_the_same_name_takes_its_place(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        space = load_space_file(written(tmp_path / folder, WHOLE.format(name=folder.title(), word="mine")))
        assert space.__name__ == folder.title()
        assert type(build_space("mine", {})) is space


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "exactly one class derived from SearchSpace is allowed, found are: none"),
        ("from enas.space import NasBench201", "found are: none"),
        (WHOLE.format(name="One", word="a") + WHOLE.format(name="Two", word="b"), "found are: One, Two"),
        ("from enas.space import SearchSpace\nclass Half(SearchSpace):\n    name = 'half'\n    text = describe = None",
         "the space Half lacks arguments, cost, network, route"),
        ("x = 1\ny = (", "line 2: SyntaxError: '(' was never closed"),
        ("x = 1\ny = x / 0\n", "line 2: ZeroDivisionError: division by zero"),
        ("import no_such_module_anywhere", "line 1: ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        (WHOLE.format(name="Mine", word="nasbench201"), "Mine.name=nasbench201: a built-in space has this name"),
        (WHOLE.format(name="Mine", word="My Space"), "Mine.name='My Space': allowed are letters, digits and _"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_space_is_refused(tmp_path: Path, text: str, said: str) -> None:
    before = dict(SPACES)
    with pytest.raises(UserError) as caught:
        load_space_file(written(tmp_path, text, "wrong.py"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert before == SPACES


def test_a_missing_file_and_a_name_that_is_no_module_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_space_file(tmp_path / "none.py")
    with pytest.raises(UserError, match="has to be one of a Python module"):
        load_space_file(written(tmp_path, "", "my space.py"))


def test_the_decorator_registers_and_gives_the_class_back() -> None:
    found = register(type("Own", (SPACES["nasbench201"],), {"name": "own_in_a_test"}))
    assert issubclass(found, SearchSpace)
    assert type(build_space("own_in_a_test", {})) is found
