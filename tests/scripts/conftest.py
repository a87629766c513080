"""Commands called in this process: the small one of app/greet.py, and those of the engine."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from enas.scripts import bench, compare, rank, search, train

VERBS = {"search": search, "train": train, "rank": rank}
KERNELS = os.environ.get("ENAS_KERNELS")
COMMANDS = {**VERBS, "bench": bench, "compare": compare}
APP = Path(__file__).parent / "app"


@dataclass(frozen=True)
class Outcome:
    """How a call ended; `folder` is the working directory it was made in."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def written(self) -> list[str]:
        """Every file and folder under the working directory."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))


Call = Callable[..., Outcome]


@pytest.fixture
def greet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """`greet("epochs=3")`: the outcome of `enas-greet epochs=3` in an empty working directory."""
    monkeypatch.syspath_prepend(str(APP))
    monkeypatch.chdir(tmp_path)
    from greet import main

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = called(main, "enas-greet", *arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err, tmp_path)

    return call


@pytest.fixture
def enas(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """`enas("search", "epochs=3")`: the outcome of `enas-search epochs=3` in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def call(verb: str, *arguments: str) -> Outcome:
        capsys.readouterr()
        code = called(COMMANDS[verb].main, f"enas-{verb}", *arguments)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err, tmp_path)

    return call


def with_kernels(command: str, *arguments: str) -> list[str]:
    """The command line, computed by the kernels that the suite runs with where it does not say itself."""
    own = any(argument.partition("=")[0] in ("kernels", "resume", "--help") for argument in arguments)
    chosen = [] if own or command == "enas-greet" or KERNELS is None else [f"kernels={KERNELS}"]
    return [command, *arguments, *chosen]


def called(main: Callable[[], None], command: str, *arguments: str) -> int:
    """The exit code of a command line; what the command sets in the environment is put back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", with_kernels(command, *arguments))
        patch.setenv("HYDRA_FULL_ERROR", "0")
        try:
            main()
        except SystemExit as leaving:
            return cast(int, leaving.code)
    return 0
