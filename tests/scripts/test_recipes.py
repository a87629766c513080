"""A recipe beside another choice of a group that it holds values for."""

from .conftest import Call


def test_a_recipe_wins_over_defaults_and_the_command_line_over_the_recipe(greet: Call) -> None:
    assert "epochs: 2\n" in greet("--cfg", "job", "experiment=high").out
    assert "epochs: 5\n" in greet("--cfg", "job", "experiment=high", "epochs=5").out


def test_values_that_reach_another_choice_are_told(greet: Call) -> None:
    outcome = greet("experiment=high", "voice=loud", "run_dir=here")
    assert outcome.code == 0
    assert outcome.err == (
        "enas-greet: note: experiment=high holds values for voice=soft that now apply to voice=loud: voice.pitch=9.0\n"
    )


def test_the_same_is_told_once_in_a_sweep(greet: Call) -> None:
    outcome = greet("-m", "seed=0,1,2", "experiment=high", "voice=loud", "run_dir=here")
    assert outcome.err.count("note:") == 1


def test_values_that_the_other_choice_lacks_are_refused(greet: Call) -> None:
    outcome = greet("experiment=wordy", "voice=loud")
    assert outcome.code == 2
    assert outcome.err == (
        "enas-greet: experiment=wordy sets voice.words for voice=soft, and voice=loud has none; "
        "take the recipe with its own voice, or no recipe\n"
    )
    assert outcome.written == []


def test_the_recipe_with_its_own_choice_is_quiet(greet: Call) -> None:
    for arguments in (
        ["experiment=high"],
        ["experiment=high", "voice=soft"],
        ["experiment=quick", "voice=loud"],
    ):
        assert greet(*arguments, f"run_dir={'-'.join(arguments)}").err == ""


def test_a_group_takes_one_choice(greet: Call) -> None:
    for group in ("experiment=[quick,high]", "voice=[soft,loud]"):
        outcome = greet(group)
        assert outcome.code == 2
        assert outcome.err == f"enas-greet: {group.partition('=')[0]}: takes one choice, not several\n"
