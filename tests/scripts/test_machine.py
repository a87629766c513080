"""Kernels and precision of a run: what is recorded, what a resumed run keeps, what is said without the library."""

import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from enas.kernels import choice, native
from enas.record import load_checkpoint

from .conftest import Call

COMMON = ("threads=1", "progress=false", "device=cpu", "batch_size=256", "epochs=1")
SEARCH = (
    *COMMON, "network.layers=1", "network.filters=4", "space.nodes=1", "updates=1", "samples=2", "candidates=3",
    "rescored=2", "watched=2",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _flags() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process on a machine where no compiler was found."""
    monkeypatch.setattr(native, "LIBRARY", Path("nowhere.so"))
    for module, name in ((native, "load"), (native, "absence"), (choice, "_warn")):
        monkeypatch.setattr(module, name, cache(getattr(module, name).__wrapped__))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def said_of(folder: str) -> tuple[str, str]:
    content = read(Path(folder) / "run.json")
    return content["machine"]["kernels"], content["precision"]


@pytest.mark.parametrize("kernels", ["native", "reference"])
def test_a_resumed_run_keeps_its_kernels(enas: Call, kernels: str) -> None:
    assert enas("search", *SEARCH, "kernels=auto", "run_dir=run").err == ""
    content = read(Path("run/run.json"))
    assert content["machine"]["kernels"] == "native"
    # As if the library had not been there, or had, when the run began.
    content["machine"]["kernels"] = kernels
    Path("run/run.json").write_text(json.dumps(content))
    assert enas("search", "resume=run", "epochs=2").err == ""
    assert said_of("run") == (kernels, "fp32")


def test_native_and_reference_find_almost_the_same(enas: Call) -> None:
    for kernels in ("native", "reference"):
        assert enas("search", *SEARCH, f"kernels={kernels}", f"run_dir={kernels}").err == ""
        assert said_of(kernels) == (kernels, "fp32")
    losses = [json.loads(Path(name, "metrics.jsonl").read_text().splitlines()[0]) for name in ("native", "reference")]
    assert losses[0].keys() == losses[1].keys()
    assert losses[0]["weights/loss"] == pytest.approx(losses[1]["weights/loss"], rel=1e-3)


def test_a_run_by_native_kernels_is_not_resumed_without_them(enas: Call, request: pytest.FixtureRequest) -> None:
    assert enas("search", *SEARCH, "kernels=native", "run_dir=run").err == ""
    before = (Path("run") / "checkpoint.pt").read_bytes()
    request.getfixturevalue("without_library")
    outcome = enas("search", "resume=run", "epochs=2")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "the run was computed by native kernels and keeps them; the native kernels are not installed" in outcome.err
    assert (Path("run") / "checkpoint.pt").read_bytes() == before


def test_without_the_library_a_command_says_so_in_one_line_and_runs(
    enas: Call, without_library: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert enas("search", *SEARCH, "kernels=auto", "run_dir=run").code == 0
    assert [record.levelname for record in caplog.records if record.name == "enas"] == ["WARNING"]
    assert said_of("run") == ("reference", "fp32")


@pytest.mark.parametrize("verb", ["search", "train", "rank"])
def test_without_the_library_native_is_a_mistake(enas: Call, without_library: None, verb: str) -> None:
    given = {"search": SEARCH, "train": (*COMMON, "genotype=g"), "rank": (*COMMON, "search=s")}[verb]
    outcome = enas(verb, *given, "kernels=native", "run_dir=run")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert f"enas-{verb}: kernels=native: the native kernels are not installed" in outcome.err
    assert outcome.written == []


def test_bfloat16_runs_through_all_three(enas: Call) -> None:
    assert enas("search", *SEARCH, "precision=bf16", "run_dir=search").err == ""
    assert said_of("search")[1] == "bf16"
    state = load_checkpoint(Path("search/checkpoint.pt"))["training"]["supernet"]
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    given = (*COMMON, "precision=bf16")
    assert enas("train", *given, "genotype=search/genotype.json", "run_dir=train", "train.auxiliary=0.4").err == ""
    assert said_of("train")[1] == "bf16"
    assert enas("rank", *given, "search=search", "n=3", "run_dir=rank").err == ""
    assert said_of("rank")[1] == "bf16"


def test_a_resumed_run_keeps_its_precision(enas: Call) -> None:
    assert enas("search", *SEARCH, "precision=bf16", "run_dir=run").err == ""
    shutil.copytree("run", "copy")
    outcome = enas("search", "resume=run", "epochs=2", "precision=fp32")
    assert outcome.code == 2
    assert "precision: fp32 here and bf16 in " in outcome.err
    assert enas("search", "resume=copy", "epochs=2").err == ""
    assert said_of("copy")[1] == "bf16"


def test_tf32_is_allowed_by_its_key_alone(enas: Call) -> None:
    for precision in ("tf32", "fp32"):
        assert enas("search", *SEARCH, f"precision={precision}", f"run_dir={precision}").err == ""
        assert torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")
