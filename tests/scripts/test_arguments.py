"""The command line before Hydra: quoting, flags anywhere, the product of a sweep."""

from pathlib import Path

import pytest
from omegaconf import DictConfig

from enas.errors import UserError
from enas.scripts import arguments
from enas.scripts.verb import Verb


def no_task(config: DictConfig) -> None:
    raise AssertionError("never run")


class Keys:
    pass


VERB = Verb("name", "summary", "example", Keys, no_task, paths=("run_dir", "data.root"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "it's",
        "'",
        "\\",
        "\\'",
        "\\\\'",
        "end\\",
        "end\\\\",
        "a\\b",
        'a"b',
        "a=b,c {d} [e] (f) é 日 ~ # @ + :",
    ],
)
def test_a_quoted_text_reads_back_as_it_was(text: str) -> None:
    [override] = arguments.parse([f"key={arguments.quoted(text)}"])
    assert override.value() == text
    assert not override.is_sweep_override()


def test_flags_may_stand_anywhere() -> None:
    read = arguments.read(VERB, ["a=1,2", "-m", "b=3", "--cfg", "job", "c=4"])
    assert read == arguments.Arguments(("a=1,2", "b=3", "c=4"), multirun=True, show_config="job")


def test_only_path_keys_are_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["data.root=x y", "run_dir=null", "run_dir='z'", "other=x"]
    assert arguments.read(VERB, given).overrides == (
        f"data.root='{tmp_path}/x y'",
        "run_dir=null",
        "run_dir='z'",
        "other=x",
    )


def test_the_value_given_last_counts() -> None:
    read = arguments.Arguments(("a=1", "b=null", "a=2"))
    assert (read.value("a"), read.value("b"), read.value("c")) == ("2", None, None)


def test_saved_overrides_give_way_to_those_of_the_command_line() -> None:
    read = arguments.Arguments(("a=2", "b=1")).preceded_by(["a=1", "c=0"])
    assert read.jobs() == [["a=2", "c=0", "b=1"]]


def test_the_jobs_of_a_sweep_are_the_product() -> None:
    assert arguments.Arguments(("a=1,2", "b=x", "c=range(2)"), multirun=True).jobs() == [
        ["a=1", "b=x", "c=0"],
        ["a=1", "b=x", "c=1"],
        ["a=2", "b=x", "c=0"],
        ["a=2", "b=x", "c=1"],
    ]


def test_another_sweeper_chooses_its_values_itself() -> None:
    given = arguments.Arguments(("a=interval(0,1)", "b=x", "hydra/sweeper=other"), multirun=True)
    assert given.jobs() == [["b=x", "hydra/sweeper=other"]]


@pytest.mark.parametrize("path", ["~nobody-at-all/x", "x"])
def test_a_path_without_a_home_is_relative(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert arguments.absolute(path) == tmp_path / path


def test_a_text_outside_of_the_grammar_is_refused_with_its_quoted_form() -> None:
    with pytest.raises(UserError, match=r"""^key=a=b: .* as in "key='a=b'"$"""):
        arguments.parse(["key=a=b"])
