"""Results are those of the version that wrote the traces; see regenerate.py."""

import json

import pytest
import torch

from enas import kernels
from golden.regenerate import FOLDER, TRACES
from tolerances import assert_golden


@pytest.mark.parametrize("name", TRACES)
def test_the_trace_is_the_stored_one(name: str) -> None:
    kernels.select("reference", torch.device("cpu"))
    stored = json.loads((FOLDER / f"{name}.json").read_text())
    assert_golden(json.loads(json.dumps(TRACES[name]())), stored)


def test_every_stored_trace_is_compared() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(TRACES)
