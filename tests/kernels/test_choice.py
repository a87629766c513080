"""Who computes: what is chosen, what is there, and what is said when it is not."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from enas import kernels
from enas.errors import UserError
from enas.kernels import choice, native, reference
from kernels.native_cases import Case, normal

CPU = torch.device("cpu")


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the library is looked for, and is not; as in a process that has not looked yet."""
    path = tmp_path / "native_library.so"
    monkeypatch.setattr(native, "LIBRARY", path)
    for module, name in ((native, "load"), (native, "absence"), (choice, "_warn")):
        monkeypatch.setattr(module, name, cache(getattr(module, name).__wrapped__))
    return path


@pytest.mark.parametrize(("chosen", "used"), [("auto", "native"), ("native", "native"), ("reference", "reference")])
def test_select(chosen: str, used: str) -> None:
    kernels.select(chosen, CPU)
    assert kernels.in_use(CPU) == used


def test_an_unknown_choice_is_refused_and_changes_nothing() -> None:
    kernels.select("reference", CPU)
    with pytest.raises(UserError, match=r"^kernels=fast: allowed are auto, native and reference$"):
        kernels.select("fast", CPU)
    assert kernels.in_use(CPU) == "reference"


def test_without_the_library_auto_warns_once_and_computes(missing: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        kernels.select("auto", CPU)
        case = Case()
        out, _ = kernels.cell(*case.inputs(), case.routes(), case.weights())
        kernels.select("auto", CPU)
    expected, _ = reference.cell(*case.inputs(), case.routes(), case.weights())
    assert torch.equal(out, expected)
    assert kernels.in_use(CPU) == "reference"
    [record] = caplog.records
    assert record.getMessage() == (
        "enas: the native kernels are not installed (when enas was, there was no C++ compiler, or it failed); "
        "plain torch computes instead, several times slower"
    )


def test_reference_never_looks_for_the_library(missing: Path, caplog: pytest.LogCaptureFixture) -> None:
    kernels.select("reference", CPU)
    x = normal(1, 2, 3, 3, 4)
    assert torch.equal(kernels.null(x), x)
    assert native.load.cache_info().currsize == 0
    assert caplog.records == []


def test_without_the_library_native_is_refused(missing: Path) -> None:
    with pytest.raises(UserError, match=r"^kernels=native: the native kernels are not installed.*kernels=reference$"):
        kernels.select("native", CPU)


def test_a_library_that_does_not_load_is_told(missing: Path) -> None:
    missing.write_bytes(b"no library")
    with pytest.raises(UserError, match=r"^kernels=native: the native kernels cannot be loaded \(.+\); use") as told:
        kernels.select("native", CPU)
    assert "\n" not in str(told.value)


def test_a_library_of_another_version_is_told(missing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "LIBRARY", Path(native.__file__).with_name("native_library.so"))
    monkeypatch.setattr(native, "FORWARD_ONLY", ("null", "not_yet"))
    with pytest.raises(UserError, match="kernels=native: the native kernels are those of another version of enas"):
        kernels.select("native", CPU)


def test_a_device_without_native_kernels_is_told() -> None:
    with pytest.raises(UserError, match="kernels=native: the native kernels were built without those for xpu"):
        kernels.select("native", torch.device("xpu"))


OPERATIONS = ("null", "cell", "sepconv_half", "separable", "pointwise_norm", "reduction_norm", "convolution_norm")


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(("chosen", "module"), [("native", native), ("reference", reference)])
def test_the_chosen_one_computes(monkeypatch: pytest.MonkeyPatch, name: str, chosen: str, module: Any) -> None:
    kernels.select(chosen, CPU)
    seen = []
    monkeypatch.setattr(module, name, lambda *arguments: seen.append(arguments))
    x, other = torch.zeros(1, 1, 2, 2, 3), torch.zeros(1)
    required = {"null": 1, "cell": 4, "sepconv_half": 4, "separable": 5, "convolution_norm": 4}.get(name, 2)
    getattr(kernels, name)(*[x, x, other, other, other][:required])
    assert len(seen) == 1
    assert seen[0][0] is x


def test_null_is_a_copy_with_a_gradient() -> None:
    for module in (native, reference):
        x = normal(1, 2, 3, 3, 4).requires_grad_()
        out = module.null(x)
        assert torch.equal(out, x)
        assert out.data_ptr() != x.data_ptr()
        gradient = normal(*x.shape, seed=1)
        assert torch.equal(torch.autograd.grad(out, x, gradient)[0], gradient)
