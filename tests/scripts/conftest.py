"""The small command of app/greet.py, called in this process."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

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
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # set by the command; put back after the test
    monkeypatch.chdir(tmp_path)
    from greet import main

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["enas-greet", *arguments])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as leaving:
            code = cast(int, leaving.code)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err, tmp_path)

    return call
