"""What is installed: every folder travels in the wheel, every dependency is pinned, every command exists."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))


def folders() -> set[str]:
    """The packages that hold code or configuration, by the names they are installed under."""
    found = set()
    for room, name in (("enas", "enas"), ("conf", "enas.conf"), ("scripts", "enas.scripts")):
        for file in (*(ROOT / room).rglob("*.py"), *(ROOT / room).rglob("*.yaml")):
            found.add(".".join([name, *file.parent.relative_to(ROOT / room).parts]))
    return found


def test_every_folder_is_installed() -> None:
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders()


def test_every_requirement_is_pinned_exactly() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(name for extra in extras for name in extra)]
    names = {re.split(r"[<>=]", requirement)[0] for requirement in wanted}
    assert names | {"setuptools", "wheel"} <= PINS.keys()
    assert PINS["torch"] == "2.13.0"


@pytest.mark.parametrize("target", PROJECT["project"]["scripts"].values())
def test_every_command_exists(target: str) -> None:
    module, _, function = target.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
