"""Launches counted from a profile's events, and estimated from what torch is asked to do."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from enas import kernels
from enas.bench import networks
from enas.bench.cases import Setting
from enas.bench.launches import TABLE, Launches, count, of_events
from enas.kernels import native
from enas.space import Scale

CPU = torch.device("cpu")


def event(key: str, device: str, number: int, annotation: bool = False) -> Any:
    kind = SimpleNamespace(name=device)
    return SimpleNamespace(key=key, count=number, device_type=kind, is_user_annotation=annotation)


def test_only_kernels_count() -> None:
    found = of_events(
        [
            event("void enas::(anonymous namespace)::depthwise<float>()", "CUDA", 5),
            event("void at::native::elementwise_kernel<128>()", "CUDA", 3),
            event("Memset (Device)", "CUDA", 2),
            event("Memcpy DtoD (Device -> Device)", "CUDA", 2),
            event("train", "CUDA", 1, annotation=True),
            event("aten::add", "CPU", 9),
            event("cudaLaunchKernel", "CPU", 8),
        ]
    )
    assert (found.native, found.torch, found.total, found.measured) == (5, 3, 8, True)
    assert str(found) == "8 (5 of csrc/cuda, 3 of torch)"


def test_views_and_empty_tensors_launch_nothing() -> None:
    x = torch.ones(4, 4)

    def call() -> None:
        x.t()[1:].exp()
        torch.empty(3)
        x.add_(1)
        float(x[0, 0])

    assert count(call, CPU) == Launches(0, 2, {"aten::exp": 1, "aten::add_": 1}, measured=False)


@pytest.mark.parametrize(
    ("tensors", "elements", "expected"), [(3, 8, 1), (111, 8, 2), (2, 65_536 * 200, 2)], ids=["few", "many", "large"]
)
def test_lists_take_a_launch_for_so_many_tensors_or_blocks(tensors: int, elements: int, expected: int) -> None:
    values = [torch.zeros(1).expand(elements) for _ in range(tensors)]
    found = count(lambda: torch._foreach_abs(values), CPU)
    assert found.names["aten::_foreach_abs"] == expected


def test_backward_counts_too() -> None:
    layer, x = nn.Conv2d(2, 2, 1, bias=False), torch.ones(1, 2, 3, 3, requires_grad=True)
    found = count(lambda: layer(x).sum().backward(), CPU)
    assert found.names["aten::convolution_backward"] == 2


def test_a_step_of_the_published_depth() -> None:
    """The counts do not depend on the images."""
    if native.absence("cpu") is not None:
        pytest.skip("there is no native library")
    kernels.select("native", CPU)
    setting = Setting(CPU, "fp32", batch_size=2)
    scale = Scale(layers=6, filters=4, height=8, width=8, channels=3, classes=10)
    both = networks.Contestants(scale, setting, [])
    rows = networks.sample(setting)
    inputs, labels = torch.zeros(2, 8, 8, 3), torch.arange(2)
    step = networks.step_of_ours(both.supernet, setting, rows, inputs, labels)
    step(0)
    first, second = (count(lambda child=child: step(child), CPU) for child in (1, 2))
    assert first == second  # whatever the child
    passes = {"cell": 8, "pointwise_norm": 9, "convolution_norm": 1}
    weights = sum(weight.numel() > 0 for weight in both.supernet.parameters())
    assert first.native == 2 * sum(passes.values()) + 2 * -(-weights // TABLE)
    assert first.total <= 300
