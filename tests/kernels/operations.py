"""The operations of csrc/ops.cpp with hostile arguments, and what must come out: one list for all who compute them.

To add an operation, write its cases below and add them to CASES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from conformance import generator
from enas.data import Augmentation
from enas.data.batches import draw_changes
from enas.kernels import Changes, augmentation, mixed, native, parts, reference
from enas.kernels.interface import (
    AVERAGE_POOL_3,
    DILATED_3,
    EPSILON,
    IDENTITY,
    MAX_POOL_3,
    ZERO,
    Pointwise,
    Statistics,
)
from kernels.mixed_cases import MixedCase, rebuilt
from kernels.policy_cases import POLICIES, PolicyCase

Results = tuple[Tensor | None, ...]


class Case(NamedTuple):
    name: str
    operation: str  # its name in csrc/ops.cpp
    arguments: Callable[[torch.dtype], tuple[Any, ...]]  # for images of this type
    expected: Callable[..., Results]
    """(the type that images are stored in, *arguments in float64) -> what comes out; None for what is not compared."""


def convert(arguments: tuple[Any, ...], dtype: torch.dtype) -> tuple[Any, ...]:
    """Arguments for images of `dtype`; weights and statistics are at least float32.

    Images are the tensors of five dimensions and more that stand alone; in a list are weights.
    """
    wide = torch.float32 if dtype == torch.bfloat16 else dtype

    def one(argument: Any) -> Any:
        if isinstance(argument, list):
            return [
                part.to(wide) if isinstance(part, Tensor) and part.is_floating_point() else part for part in argument
            ]
        if isinstance(argument, Tensor) and argument.is_floating_point():
            return argument.to(dtype if argument.dim() >= 5 else wide)
        return argument

    return tuple(one(argument) for argument in arguments)


def shift(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same numbers in slices of larger tensors: contiguous, and aligned for one number only."""

    def one(argument: Any) -> Any:
        if isinstance(argument, list):
            return [one(part) for part in argument]
        if not isinstance(argument, Tensor):
            return argument
        larger = torch.zeros(argument.numel() + 1, dtype=argument.dtype)
        larger[1:] = argument.flatten()
        return larger[1:].view(argument.shape)

    return tuple(one(argument) for argument in arguments)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64) * scale


def images(*shape: int, seed: int = 0) -> Tensor:
    """Images of which one channel is constant and another seldom negative."""
    x = normal(*shape, seed=seed)
    x[..., 0] = 0.7
    if shape[-1] > 2:
        x[..., 2] += 2.0
    return x


def statistics_of(*shape: int) -> Tensor:
    """Given ones, [M, N, 2, C]."""
    given = normal(*shape, seed=90)
    given[..., 1, :] = given[..., 1, :].square() + 0.3
    return given


def _null() -> Iterator[Case]:
    for shape in ((1, 2, 3, 5, 7), (0, 2, 3, 5, 7), (1, 1, 1, 1, 1)):
        yield Case(f"null/{'x'.join(map(str, shape))}", "null", partial(convert, (normal(*shape),)), lambda _, x: (x,))


def _augment() -> Iterator[Case]:
    random = generator(1)
    for count, height, width, channels in ((5, 4, 7, 3), (0, 4, 7, 3), (3, 1, 1, 33), (2, 9, 3, 1)):
        pictures = torch.randint(256, (4, height, width, channels), dtype=torch.uint8, generator=random)
        indices = torch.randint(4, (count,), generator=random)
        changes = draw_changes(count, height, width, Augmentation(crop=2, flip=True, cutout=3), random)
        moments = normal(channels, seed=2), normal(channels, seed=3).abs() + 0.1
        for name, change in (("changed", changes), ("plain", None)):
            arguments = (pictures, indices, *(change or (None, None, None, 0)), *moments)
            yield Case(
                f"augment/{count}x{height}x{width}x{channels}/{name}",
                "augment",
                lambda dtype, arguments=arguments: (*convert(arguments, dtype), dtype),
                _augmented,
            )


def _augmented(_: torch.dtype, pictures: Tensor, indices: Tensor, *arguments: Any) -> Results:
    shifts, flips, corners, cutout, mean, std, _ = arguments
    changes = None if shifts is None else Changes(shifts, flips, corners, cutout)
    return (augmentation.augment(pictures, indices, changes, mean, std),)


def _mixed_cell() -> Iterator[Case]:
    few = (MAX_POOL_3, IDENTITY, DILATED_3)
    for case, children, given in (
        (MixedCase(1, 2, 5, 4, 3), (1, 1), False),
        (MixedCase(2, 2, 5, 4, 3, stride=2), (1, 2), False),
        (MixedCase(2, 1, 3, 3, 2, nodes=1, stride=2), (2, 1), True),
        (MixedCase(1, 2, 9, 11, 20, nodes=1), (1, 1), False),
        (MixedCase(1, 3, 2, 1, 33, nodes=1, operations=few, stride=2), (1, 1), True),
        (MixedCase(1, 2, 3, 3, 1, nodes=1, operations=(ZERO, AVERAGE_POOL_3)), (1, 1), False),
        (MixedCase(1, 2, 3, 3, 1, nodes=1, operations=(ZERO,)), (1, 1), False),
        (MixedCase(2, 2, 3, 3, 2, nodes=1, stride=2), (0, 0), False),
    ):
        inputs = [x[:count] for x, count in zip(case.inputs(), children, strict=True)]
        statistics = statistics_of(max(children), case.edges * case.norms, 2, case.channels) if given else None
        arguments = (*inputs, case.mixing(), case.weights().tensors(), case.operations)
        slots = mixed.count_slots(case.edges, case.operations, case.stride)
        sizes = f"M{children[0]}-{children[1]}B{case.batch}H{case.height}W{case.width}C{case.channels}s{case.stride}"
        name = f"mixed_cell/{sizes}/{len(case.operations)}{'given' if given else ''}"
        forward = (*arguments, statistics, case.stride)
        yield Case(name, "mixed_cell", partial(convert, (*forward, slots)), _mixed)
        yield Case(f"{name}/nothing kept", "mixed_cell", partial(convert, (*forward, 0)), _mixed)

        def backward(
            dtype: torch.dtype, forward: tuple[Any, ...] = forward, slots: int = slots, given: bool = given
        ) -> tuple[Any, ...]:
            native.load()
            own = convert(forward, dtype)
            out, saved, used = torch.ops.enas.mixed_cell(*own, slots)
            grad = normal(*out.shape, seed=4).to(dtype)
            return (grad, *own[:5], own[6], saved, used, given)

        yield Case(f"{name}/backward", "mixed_cell_backward", backward, _mixed_backward)


def _definition(stored: torch.dtype, *arguments: Any) -> tuple[Tensor, Statistics]:
    """The mixed cell that stores in a type: in bfloat16 as it rounds, else exact."""
    input0, input1, mixing, weights, operations, statistics, stride = arguments
    if stored == torch.bfloat16:
        input0, input1, mixing = input0.to(stored), input1.to(stored), mixing.float()
        weights = [weight.float() for weight in weights]
        statistics = None if statistics is None else statistics.float()
    return mixed.mixed_cell(input0, input1, mixing, operations, rebuilt(weights), statistics, stride)


def _mixed(stored: torch.dtype, *arguments: Any) -> Results:
    out, used = _definition(stored, *arguments[:-1])
    return out, None, used.tensor()


def _mixed_backward(
    stored: torch.dtype,
    grad: Tensor,
    input0: Tensor,
    input1: Tensor,
    mixing: Tensor,
    weights: list[Tensor],
    operations: tuple[int, ...],
    stride: int,
    saved: Tensor,
    used: Tensor,
    given: bool,
) -> Results:
    leaves = [tensor.detach().requires_grad_() for tensor in (input0, input1, mixing, *weights)]
    if stored == torch.bfloat16:
        return (None,) * len(leaves)  # gradients that are rounded at every node: see test_mixed.py
    out, _ = _definition(stored, *leaves[:3], leaves[3:], operations, used if given else None, stride)
    return torch.autograd.grad(out, leaves, grad.to(out.dtype), materialize_grads=True)


Forward = Callable[..., tuple[Tensor, Statistics]]
"""The reference of an operation with one batch norm: (x, weight, gain, bias, statistics) -> (out, statistics)."""


def _pointwise(
    x: Tensor, weight: Tensor, gain: Tensor, bias: Tensor, given: Tensor | None
) -> tuple[Tensor, Statistics]:
    return reference.pointwise_norm(x, Pointwise(weight[None], gain[None], bias[None]), given)


def _reduction(
    x: Tensor, weight: Tensor, gain: Tensor, bias: Tensor, given: Tensor | None
) -> tuple[Tensor, Statistics]:
    return reference.reduction_norm(x, Pointwise(weight[None], gain[None], bias[None]), given)


def _product(forward: Forward, x: Tensor, weight: Tensor) -> Tensor:
    """What comes before the batch norm: what one that changes nothing lets pass."""
    one = torch.ones(weight.shape[-1], dtype=x.dtype)
    unchanged = torch.stack([torch.zeros_like(one), one - EPSILON]).expand(len(x), 1, 2, len(one))
    return forward(x, weight, one, torch.zeros_like(one), unchanged)[0]


def _normed(forward: Forward) -> Callable[..., Results]:
    """(out, z, used): the batch norm is that of z as it is stored."""

    def expected(
        stored: torch.dtype, x: Tensor, weight: Tensor, gain: Tensor, bias: Tensor, given: Tensor | None, *_: Any
    ) -> Results:
        z = _product(forward, x, weight)
        norms = [
            parts.normalise(child, gain, bias, None if given is None else given[number, 0])
            for number, child in enumerate(z.to(stored).to(z.dtype))
        ]
        if not norms:
            return z, z, z.new_zeros(0, 1, 2, len(gain))
        used = torch.stack([moment.tensor() for _, moment in norms])[:, None]
        return torch.stack([out for out, _ in norms]), z, used

    return expected


def _normed_backward(forward: Forward) -> Callable[..., Results]:
    """Gradients of x, weight, gain, bias."""

    def expected(
        _: torch.dtype,
        grad: Tensor,
        x: Tensor,
        weight: Tensor,
        gain: Tensor,
        z: Tensor,
        used: Tensor,
        given: bool,
        last: bool,
    ) -> Results:
        if x.shape[0] == 0:
            return torch.zeros_like(x), torch.zeros_like(weight), torch.zeros_like(gain), torch.zeros_like(gain)
        inputs = [tensor.detach().requires_grad_() for tensor in (x, weight, gain, torch.zeros_like(gain))]
        kept = _instead(_product(forward, *inputs[:2]), z)
        mean, variance = used[:, 0, :, None, None, None, :].unbind(1)
        if not given:
            mean = _instead(kept.mean((1, 2, 3), keepdim=True), mean)
            variance = _instead((kept - mean).square().mean((1, 2, 3), keepdim=True), variance)
        out = (kept - mean) * (variance + EPSILON).rsqrt() * inputs[2] + inputs[3]
        dx, *others = torch.autograd.grad(out, inputs, grad)
        unwanted = weight.dim() == 4 and not last  # of convolution_norm_backward
        return x.new_zeros(0) if unwanted else dx, *others

    return expected


def _instead(computed: Tensor, kept: Tensor) -> Tensor:
    """The numbers that were kept, which may be rounded, with the gradient of those that are computed."""
    return computed + (kept - computed).detach()


def _normed_cases(
    name: str, operation: str, forward: Forward, x: Tensor, weight: Tensor, given: bool, *last: bool
) -> Iterator[Case]:
    """Forward with the arguments behind `statistics`, and backward with its own last argument."""
    channels = weight.shape[-1]
    gain, bias = normal(channels, seed=2), normal(channels, seed=3)
    statistics = statistics_of(x.shape[0], 1, 2, channels) if given else None
    arguments = (x, weight, gain, bias, statistics, *last[:-1])
    yield Case(name, operation, partial(convert, arguments), _normed(forward))

    def backward(dtype: torch.dtype) -> tuple[Any, ...]:
        z = _product(forward, x.to(dtype).double(), weight).to(dtype).double()
        mean = z.mean((1, 2, 3), keepdim=True)
        used = torch.cat([mean, (z - mean).square().mean((1, 2, 3), keepdim=True)], 3).flatten(1, 2)
        grad = normal(*z.shape, seed=4)
        return convert((grad, x, weight, gain, z, used if statistics is None else statistics, given, last[-1]), dtype)

    yield Case(f"{name}/backward", f"{operation}_backward", backward, _normed_backward(forward))


def _pointwise_norm() -> Iterator[Case]:
    for children, batch, height, width, inputs, outputs, given in (
        (1, 1, 1, 1, 1, 1, True),
        (2, 1, 1, 2, 1, 3, False),
        (2, 3, 7, 5, 20, 20, False),
        (1, 2, 13, 11, 33, 80, False),
        (1, 2, 3, 8, 80, 33, True),
        (2, 1, 20, 20, 20, 21, False),
        (3, 2, 5, 4, 4, 40, True),
        (0, 2, 3, 4, 5, 6, False),
        (0, 2, 3, 4, 5, 6, True),
    ):
        sizes = f"M{children}B{batch}H{height}W{width}C{inputs}to{outputs}{'given' if given else ''}"
        x, weight = images(children, batch, height, width, inputs), normal(inputs, outputs, seed=1, scale=inputs**-0.5)
        for reduced in (False, True):
            if reduced and not given and children and -(-height // 2) * -(-width // 2) * batch < 2:
                continue  # a batch norm of one number, which has no statistics
            yield from _normed_cases(
                f"{'reduction' if reduced else 'pointwise'}/{sizes}",
                "pointwise_norm",
                _reduction if reduced else _pointwise,
                x,
                weight,
                given,
                reduced,
                reduced,
            )


def _convolution_norm() -> Iterator[Case]:
    for children, batch, height, width, inputs, outputs, kernel, given, wanted in (
        (1, 2, 9, 7, 3, 60, 3, False, False),
        (2, 1, 5, 6, 1, 20, 3, False, True),
        (1, 2, 1, 1, 3, 4, 5, False, True),
        (1, 1, 4, 3, 20, 33, 3, True, True),
        (2, 1, 8, 8, 2, 2, 7, False, True),
        (0, 1, 4, 3, 2, 3, 3, False, True),
    ):
        x, weight = (
            images(children, batch, height, width, inputs),
            normal(kernel, kernel, inputs, outputs, seed=1, scale=0.3),
        )
        yield from _normed_cases(
            f"convolution/M{children}B{batch}H{height}W{width}C{inputs}to{outputs}k{kernel}{'given' if given else ''}",
            "convolution_norm",
            reference.convolution_norm,
            x,
            weight,
            given,
            wanted,
        )


def _constant_channels() -> Iterator[Case]:
    """Every output is constant: variance 0, and not the square of what rounding leaves."""
    x, weight = torch.full((1, 2, 9, 16, 5), 300.1, dtype=torch.float64), normal(5, 4, seed=1)
    gain, bias = normal(4, seed=2), normal(4, seed=3)

    def expected(stored: torch.dtype, x: Tensor, weight: Tensor, _gain: Tensor, bias: Tensor, *_: Any) -> Results:
        z = (x @ weight).to(stored).double()[0, 0, 0, 0]
        used = torch.stack([z, torch.zeros_like(z)])[None, None]
        return bias.expand(1, 2, 9, 16, 4), z.expand(1, 2, 9, 16, 4), used

    yield Case("pointwise/constant", "pointwise_norm", partial(convert, (x, weight, gain, bias, None, False)), expected)


def _policy() -> Iterator[Case]:
    for case in POLICIES:
        for keep in (True, False):
            arguments = partial(_policy_arguments, case, keep=keep)
            name = f"policy/{case.name}{'' if keep else '/nothing kept'}"
            yield Case(name, "policy", arguments, partial(_scores, case))
        if case.active is None:
            sampled = partial(_policy_arguments, case, sampled=True)
            yield Case(f"policy/{case.name}/sampled", "policy", sampled, partial(_scores, case))

        def backward(dtype: torch.dtype, case: PolicyCase = case) -> tuple[Any, ...]:
            native.load()
            own = _policy_arguments(case, dtype)
            _, chosen, saved = torch.ops.enas.policy(*own)
            return (normal(3, case.rows, seed=4).to(saved.dtype), *own[:12], chosen, own[13], saved)

        yield Case(f"policy/{case.name}/backward", "policy_backward", backward, partial(_policy_gradients, case))


def _policy_arguments(case: PolicyCase, dtype: torch.dtype, **options: bool) -> tuple[Any, ...]:
    return case.arguments(torch.float32 if dtype == torch.bfloat16 else dtype, **options)


def _scores(case: PolicyCase, _: torch.dtype, *arguments: Any) -> Results:
    scores, _ = case.definition(list(arguments[:7]), arguments[12], arguments[14])
    return scores, None, None


def _policy_gradients(case: PolicyCase, _: torch.dtype, grad: Tensor, *arguments: Any) -> Results:
    leaves = [weight.detach().requires_grad_() for weight in arguments[:7]]
    scores, _ = case.definition(leaves, arguments[12])
    return torch.autograd.grad(scores, leaves, grad, materialize_grads=True)


CASES: list[Case] = [
    *_null(),
    *_augment(),
    *_mixed_cell(),
    *_pointwise_norm(),
    *_convolution_norm(),
    *_constant_channels(),
    *_policy(),
]
