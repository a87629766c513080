"""The native kernels against their definition, on hostile shapes: forward, statistics and every gradient."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from enas.kernels import native
from enas.kernels.interface import Pointwise
from kernels.native_cases import assert_native, assert_native_in, normal, statistics
from tolerances import assert_stored

CHANNELS = [1, 2, 3, 20, 33, 80]
SIZES = [(1, 1), (1, 3), (2, 2), (5, 4), (7, 13)]
PARAMETRIZED_TYPES = pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


# One half, and a doubled separable convolution


def half_call(stride: int, dilation: int, module: Any, tensors: list[Tensor]) -> tuple[Tensor, Tensor]:
    x, depthwise, pointwise, *affine = tensors
    affine_or_none = affine[0] if affine else None
    result: tuple[Tensor, Tensor] = module.sepconv_half(x, affine_or_none, depthwise, pointwise, stride, dilation)
    return result


def half_tensors(channels: int, outputs: int, kernel: int, height: int, width: int, affine: bool) -> list[Tensor]:
    tensors = [
        normal(2, 3, height, width, channels),
        normal(kernel, kernel, channels, seed=1),
        normal(channels, outputs, seed=2) / channels**0.5,
    ]
    return [*tensors, normal(2, 2, channels, seed=3)] if affine else tensors


def test_what_is_not_a_number_stays_so() -> None:
    x, depthwise, pointwise = half_tensors(20, 20, 3, 5, 4, affine=False)
    x[0, 0, 2, 1, 7] = float("nan")
    z, _ = native.sepconv_half(x, None, depthwise, pointwise, 1, 1)
    expected = torch.zeros_like(z, dtype=torch.bool)
    expected[0, 0, 1:4, 0:3] = True  # all pixels whose window holds it
    assert torch.equal(z.isnan(), expected)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_half_of_any_size(height: int, width: int, stride: int, dilation: int, kernel: int) -> None:
    affine = (height + kernel) % 2 == 0
    assert_native(partial(half_call, stride, dilation), half_tensors(3, 5, kernel, height, width, affine))


@pytest.mark.parametrize("outputs", [1, 7, 20])
@pytest.mark.parametrize("channels", CHANNELS)
def test_half_of_any_number_of_channels(channels: int, outputs: int) -> None:
    for stride in (1, 2):
        assert_native(partial(half_call, stride, 1), half_tensors(channels, outputs, 3, 5, 4, True))


@pytest.mark.parametrize("storage", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (3, 1), (1, 5), (4, 4), (3, 7)])
@pytest.mark.parametrize(
    ("channels", "outputs"), [(16, 16), (20, 48), (32, 64), (64, 32), (48, 112), (12, 40), (80, 80)]
)
def test_half_of_whole_vectors(storage: torch.dtype, height: int, width: int, channels: int, outputs: int) -> None:
    # Rows of numbers that fill vectors have loops of their own; the pixels left over after their tiles are all counts.
    tensors = half_tensors(channels, outputs, 5, height, width, affine=True)
    if storage == torch.float64:
        assert_native(partial(half_call, 1, 1), tensors)
    else:
        assert_native_in(storage, partial(half_call, 1, 1), tensors, images=1)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (1, 3), (3, 3), (4, 2)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("kernel", [5, 7])
def test_half_of_taps_that_meet_no_pixel(height: int, width: int, stride: int, dilation: int, kernel: int) -> None:
    assert_native(partial(half_call, stride, dilation), half_tensors(16, 16, kernel, height, width, affine=False))


@PARAMETRIZED_TYPES
@pytest.mark.parametrize("channels", [3, 20])
@pytest.mark.parametrize("kernel", [3, 5])
def test_half_of_other_types(storage: torch.dtype, channels: int, kernel: int) -> None:
    assert_native_in(storage, partial(half_call, 1, 1), half_tensors(channels, channels, kernel, 5, 4, True), images=1)


def separable_call(stride: int, given: Tensor | None, module: Any, tensors: list[Tensor]) -> Any:
    return module.separable(*tensors, statistics=given, stride=stride)


def separable_tensors(channels: int, kernel: int, height: int, width: int) -> list[Tensor]:
    return [
        normal(2, 3, height, width, channels),
        normal(2, kernel, kernel, channels, seed=1),
        normal(2, channels, channels, seed=2) / channels**0.5,
        normal(2, channels, seed=3),
        normal(2, channels, seed=4),
    ]


@pytest.mark.parametrize(("height", "width"), SIZES[1:])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("given", [False, True], ids=["batch", "given"])
def test_separable_of_any_size(height: int, width: int, stride: int, kernel: int, given: bool) -> None:
    used = statistics(2, 2, 3, seed=5) if given else None
    assert_native(partial(separable_call, stride, used), separable_tensors(3, kernel, height, width))


@pytest.mark.parametrize("channels", CHANNELS)
def test_separable_of_any_number_of_channels(channels: int) -> None:
    assert_native(partial(separable_call, 1, None), separable_tensors(channels, 3, 5, 4))


@PARAMETRIZED_TYPES
@pytest.mark.parametrize("channels", [3, 20])
def test_separable_of_other_types(storage: torch.dtype, channels: int) -> None:
    assert_native_in(storage, partial(separable_call, 2, None), separable_tensors(channels, 5, 7, 5), images=1)


# Products and their batch norms


def norm_call(name: str, given: Tensor | None, module: Any, tensors: list[Tensor]) -> Any:
    x, *weights = tensors
    own = None if given is None else given.to(weights[0].dtype)
    if name == "convolution_norm":
        return module.convolution_norm(x, *weights, statistics=own)
    return getattr(module, name)(x, Pointwise(*weights), own)


def norm_tensors(name: str, channels: int, outputs: int, height: int, width: int, kernel: int = 3) -> list[Tensor]:
    x, gain, bias = normal(2, 3, height, width, channels), normal(outputs, seed=2), normal(outputs, seed=3)
    if name == "convolution_norm":
        return [x, normal(kernel, kernel, channels, outputs, seed=1) / channels**0.5, gain, bias]
    return [x, normal(1, channels, outputs, seed=1) / channels**0.5, gain[None], bias[None]]


NORMS = pytest.mark.parametrize("name", ["pointwise_norm", "reduction_norm", "convolution_norm"])


@NORMS
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("given", [False, True], ids=["batch", "given"])
def test_norms_of_any_size(name: str, height: int, width: int, given: bool) -> None:
    used = statistics(2, 1, 5, seed=5) if given else None
    assert_native(partial(norm_call, name, used), norm_tensors(name, 3, 5, height, width))


@NORMS
@pytest.mark.parametrize("outputs", [1, 4, 20, 33])
@pytest.mark.parametrize("channels", CHANNELS)
def test_norms_of_any_number_of_channels(name: str, channels: int, outputs: int) -> None:
    assert_native(partial(norm_call, name, None), norm_tensors(name, channels, outputs, 5, 4))


@pytest.mark.parametrize("kernel", [1, 5])
def test_convolution_of_other_kernels(kernel: int) -> None:
    assert_native(partial(norm_call, "convolution_norm", None), norm_tensors("convolution_norm", 3, 4, 5, 4, kernel))


@NORMS
@PARAMETRIZED_TYPES
@pytest.mark.parametrize(("channels", "outputs"), [(3, 6), (20, 33)])
def test_norms_of_other_types(name: str, storage: torch.dtype, channels: int, outputs: int) -> None:
    tensors = norm_tensors(name, channels, outputs, 5, 4)
    assert_native_in(storage, partial(norm_call, name, None), tensors, images=1)


@pytest.mark.parametrize("storage", [torch.float32, torch.float64, torch.bfloat16])
def test_constant_channels_have_variance_zero(storage: torch.dtype) -> None:
    """The products are exact, and any sum of them is more than 24 bits long."""
    x = torch.full((2, 3, 31, 23, 20), 0.75).to(storage)
    wide = torch.float64 if storage == torch.float64 else torch.float32
    weight, gain, bias = norm_tensors("pointwise_norm", 20, 9, 5, 4)[1:]
    weights = Pointwise((weight * 16).round().to(wide) / 16, gain.to(wide), bias.to(wide))
    out, used = native.pointwise_norm(x, weights)
    assert (used.tensor()[:, :, 1] == 0).all()
    assert_stored(out, weights.bias[0].expand_as(out))


@pytest.mark.parametrize("stride", [1, 2])
def test_no_children(stride: int) -> None:
    tensors = half_tensors(3, 4, 3, 5, 4, affine=True)
    assert_native(partial(half_call, stride, 1), [tensors[0][:0], *tensors[1:3], tensors[3][:0]])
    tensors = separable_tensors(3, 3, 5, 4)
    assert_native(partial(separable_call, stride, None), [tensors[0][:0], *tensors[1:]])
    for name in ("pointwise_norm", "reduction_norm", "convolution_norm"):
        tensors = norm_tensors(name, 3, 4, 5, 4)
        assert_native(partial(norm_call, name, None), [tensors[0][:0], *tensors[1:]])


def test_mistakes_are_refused() -> None:
    x, depthwise, pointwise = half_tensors(3, 3, 3, 5, 4, False)
    with pytest.raises(RuntimeError, match="weights must be float32, or float64"):
        native.sepconv_half(x.float(), None, depthwise, pointwise)
    with pytest.raises(RuntimeError, match="stride must be 1 or 2"):
        native.sepconv_half(x, None, depthwise, pointwise, stride=3)
