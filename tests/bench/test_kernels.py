"""Every case computes one thing on all its sides; bytes and operations are those of the formulas."""

import pytest
import torch
from torch import Tensor

from enas.bench import kernels
from enas.bench.cases import COMPILED, LAYOUTS, OURS, Setting
from tolerances import assert_same, assert_stored

CPU = torch.device("cpu")
SETTING = Setting(CPU, "fp32", batch_size=2)
CASES = {case.name: case for case in kernels.cases(SETTING)}


def pixels(planes: Tensor) -> Tensor:
    return planes.permute(0, 2, 3, 1)


def small(name: str) -> bool:
    """Deep cells and wide images are left to one each: they are alike."""
    return not name.startswith("cell/") or name.startswith("cell/max_pool_3x3/C80H8")


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("/fwd") and small(name)])
def test_all_sides_give_one_output_and_one_gradient(name: str) -> None:
    outputs = {side: call(0) for side, call in CASES[name].build().calls.items()}
    assert outputs.keys() == {OURS, *LAYOUTS}
    for layout in LAYOUTS:
        assert_same(pixels(outputs[layout]), outputs[OURS][0])  # type: ignore[arg-type,index]
    gradients = {side: call(0) for side, call in CASES[f"{name}+bwd"].build().calls.items()}
    for layout in LAYOUTS:
        ours, peers = gradients[OURS], gradients[layout]
        if not name.startswith("convolution_norm"):  # which reads images
            assert_same(pixels(peers[0]), ours[0][0])  # type: ignore[index]
        assert_same(*(torch.cat([gradient.flatten() for gradient in side]).norm() for side in (peers, ours)))  # type: ignore[attr-defined]
        assert sum(gradient.numel() for gradient in peers) == sum(gradient.numel() for gradient in ours)  # type: ignore[attr-defined]


def test_an_output_in_each_layout_is_stored_in_it() -> None:
    outputs = {side: call(0) for side, call in CASES["sepconv/C20H32k3/fwd"].build().calls.items()}
    assert outputs["nchw"].is_contiguous()  # type: ignore[attr-defined]
    assert outputs["channels_last"].is_contiguous(memory_format=torch.channels_last)  # type: ignore[attr-defined]
    assert outputs[OURS].is_contiguous()  # type: ignore[attr-defined]


def test_bf16_is_stored_on_our_side_and_autocast_on_the_peers() -> None:
    setting = Setting(CPU, "bf16", batch_size=2)
    case = next(case for case in kernels.cases(setting) if case.name == "sepconv/C80H8k3/fwd")
    outputs = {side: call(0) for side, call in case.build().calls.items()}
    assert {output.dtype for output in outputs.values()} == {torch.bfloat16}  # type: ignore[attr-defined]
    assert_stored(pixels(outputs["nchw"]), outputs[OURS][0])  # type: ignore[arg-type,index]
    assert case.bytes == CASES[case.name].bytes / 2


def test_bytes_and_operations() -> None:
    case = CASES["sepconv/C20H32k3/fwd"]
    elements = 2 * 32 * 32 * 20
    assert case.bytes == 4 * 6 * elements
    assert case.operations == 2 * 2 * elements * (9 + 20)
    both = CASES["sepconv/C20H32k3/fwd+bwd"]
    assert both.bytes == 4 * 16 * elements
    assert both.operations == 3 * case.operations
    reduction = CASES["reduction_norm/C20to40H32/fwd"]
    assert reduction.bytes == 4 * (elements + 3 * elements / 2)
    assert reduction.operations == 2 * (2 * 16 * 16) * 20 * 40
    stem, stem_both = CASES["convolution_norm/C3to60H32/fwd"], CASES["convolution_norm/C3to60H32/fwd+bwd"]
    assert stem_both.operations == 2 * stem.operations  # images want no gradient


def test_the_published_shapes_are_there() -> None:
    for shape in ("C20H32k3", "C20H32k5", "C40H16k3", "C40H16k5", "C80H8k3", "C80H8k5"):
        for direction in ("fwd", "fwd+bwd"):
            assert f"sepconv/{shape}/{direction}" in CASES


def test_a_compiler_that_fails_makes_its_peer_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(module: torch.nn.Module, dynamic: bool) -> torch.nn.Module:
        raise RuntimeError("no working C++ compiler found\nand a long trace")

    monkeypatch.setattr(torch, "compile", fail)
    case = next(kernels.cases(Setting(CPU, "fp32", batch_size=2, compiled=True)))
    sides = case.build()
    assert sides.absent == {COMPILED: "no working C++ compiler found"}
    assert sides.calls.keys() == {OURS, *LAYOUTS}
