"""The documented space of one's own: what its document quotes is its file, and it holds what every space holds."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from conformance import SCALE, STRATEGIES, generator
from enas import kernels
from enas.api import find, fit
from enas.data import digits
from enas.space import SPACES, Scale, load_space_file
from enas.supernet import Child
from space import test_space_conformance as conformance

ROOT = Path(__file__).parent.parent
DOCUMENT, EXAMPLE = ROOT / "docs" / "your-own-space.md", ROOT / "docs" / "examples" / "blocks.py"
SUITE: dict[str, Callable[..., None]] = {
    name: function
    for name, function in vars(conformance).items()
    if name.startswith("test_") and list(inspect.signature(function).parameters) == ["space"]
}


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example is known during a test alone."""
    monkeypatch.setattr("enas.space.SPACES", dict(SPACES))


def quoted() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_document_quotes_the_example_and_its_program_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    source = "".join(EXAMPLE.read_text(encoding="utf-8").split())  # a quote is indented less
    *quotes, program = quoted()
    assert len(quotes) > 5
    for quote in quotes:
        assert "".join(quote.split()) in source
    exec(compile(program, str(DOCUMENT), "exec"), {})


def test_the_document_names_what_exists() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:enas|tests|docs)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (DOCUMENT.parent / target).exists(), target
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.parametrize("test", SUITE.values(), ids=SUITE)
def test_it_holds_what_every_space_holds(test: Callable[[Any], None]) -> None:
    test(load_space_file(EXAMPLE)(3))  # type: ignore[call-arg]


@pytest.mark.parametrize("scale", [SCALE, Scale(layers=3, filters=5, height=7, width=9, channels=1, classes=3)])
def test_its_cost_is_that_of_its_networks(scale: Scale) -> None:
    kernels.select("reference", torch.device("cpu"))  # whose operations torch counts
    space = load_space_file(EXAMPLE)()
    rows = space.random(8, generator())
    cost = space.cost(rows, scale)
    for index, row in enumerate(rows.tolist()):
        child = Child(space, row, scale, generator()).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            child(torch.zeros(1, scale.height, scale.width, scale.channels))
        params = sum(parameter.numel() for parameter in child.parameters())
        assert (int(cost.params[index]), int(cost.macs[index])) == (params, counter.get_total_flops() // 2)


def test_it_is_searched_and_trained_from_python(tmp_path: Path) -> None:
    space = load_space_file(EXAMPLE)(3)  # type: ignore[call-arg]
    found = find(
        digits(), tmp_path / "search", 1, space=space, strategy=STRATEGIES["reinforce"](space), layers=1, filters=8,
        progress=False,
    )  # fmt: skip
    child, result = fit(tmp_path / "search" / "genotype.json", digits(), tmp_path / "final", 3, progress=False)
    assert list(child.row) == found.best.choices[0].tolist()
    assert torch.isfinite(torch.tensor(result["test"]["loss"]))
    assert (tmp_path / "search" / "cell_blocks.svg").exists()
