"""`--help`: a command's own groups and keys, a line each."""

import subprocess
import sys
from pathlib import Path

from .conftest import Call


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_every_group_choice_and_key_has_a_line(greet: Call) -> None:
    outcome = greet("--help")
    shown = lines(outcome.out)
    assert outcome.code == 0
    assert outcome.written == []
    assert shown[0] == "enas-greet: Says hello."
    for line in (
        "voice Who speaks (now soft)",
        "loud A loud voice",
        "experiment Published recipes",
        "quick A short run",
        "seed=0 Seed of everything",
        "ending=well How the task ends (well | mistake | defect | misuse | wait)",
        "resume=null A run directory to go on with",
        "voice.pitch=1.0 how high",
        "voice.notes=[] the melody",
    ):
        assert shown.count(line) == 1, line


def test_recipes_of_other_commands_are_left_out(greet: Call) -> None:
    assert "foreign" not in greet("--help").out


def test_the_choices_on_the_command_line_are_shown(greet: Call) -> None:
    shown = lines(greet("--help", "voice=distant", "epochs=8", "experiment=quick").out)
    assert "voice Who speaks (now distant)" in shown
    assert "experiment Published recipes (now quick)" in shown
    assert "epochs=8 How long" in shown
    assert "voice.root=???" in shown
    assert not any(line.startswith("voice.pitch") for line in shown)


def test_a_mistake_beside_help_is_told(greet: Call) -> None:
    assert greet("-h", "voice=laud").code == 2


def test_a_key_with_several_parts_has_a_line_for_each() -> None:
    outcome = subprocess.run(
        [Path(sys.executable).with_name("enas-search"), "--help"], capture_output=True, text=True, check=True
    )
    shown = lines(outcome.stdout)
    for line in ("network.filters=16", "limit.macs=null"):
        assert shown.count(line) == 1, line
    assert [line for line in shown if line.startswith("network.layers=null Size of the supernet")]
    assert "strategy.bound.source=1.1 as published" in shown
    assert any(line.startswith("train.rate.period=10 epochs of the first cycle") for line in shown)
