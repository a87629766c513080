"""What is installed: every folder travels in the wheel, every dependency is pinned, every command exists."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from enas.kernels import native

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


def test_the_library_is_there_where_a_compiler_is() -> None:
    """An extension that fails to build is left out of the installation, and pip says nothing."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("there is no C++ compiler")
    assert native.absence("cpu") is None


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of everything that packages are made of."""
    folder = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    for name in ("enas", "conf", "scripts", "csrc"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "setup.py", "MANIFEST.in"):
        shutil.copy(ROOT / name, folder)
    return folder


def packaged(source: Path, command: str) -> Path:
    """What `setup.py` makes on a machine without a compiler."""
    call = [sys.executable, "setup.py", "--quiet", command]
    done = subprocess.run(call, cwd=source, env={**os.environ, "CXX": "/nonexistent"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [made] = (source / "dist").iterdir()
    return made


def test_without_a_compiler_a_wheel_is_made_and_has_no_library(source: Path) -> None:
    wheel = packaged(source, "bdist_wheel")
    assert re.fullmatch(r"enas-[\d.]+-py3-none-(?!any)\w+\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert not any(name.endswith(".so") for name in names)
    for name in ("enas/kernels/native.py", "enas/conf/search.yaml", "enas/scripts/search.py", "enas/py.typed"):
        assert name in names


def test_a_source_distribution_has_the_native_sources(source: Path) -> None:
    with tarfile.open(packaged(source, "sdist")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {str(path.relative_to(source)) for path in (source / "csrc").rglob("*.*")} <= names
    assert "setup.py" in names


MEASURED = """
import time, torch
started = time.process_time()
import enas
from enas.kernels import native
assert native.load() is None
print(time.process_time() - started)
"""


def test_importing_and_loading_take_little_beyond_torch() -> None:
    """Under 0.3 s of the processor: the clock would also count whatever else runs here."""
    seconds = [
        float(subprocess.run([sys.executable, "-c", MEASURED], cwd=ROOT, capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < 0.3
