"""How far two results may differ: the one table, by what is compared. Nothing else in the tests names a tolerance."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Tolerance(NamedTuple):
    rtol: float
    atol: float


SAME = {
    # The same sums in another order; what is stored in bfloat16 keeps eight bits.
    torch.bfloat16: Tolerance(2e-2, 2e-2),
    torch.float32: Tolerance(1e-4, 1e-4),
    torch.float64: Tolerance(1e-10, 1e-10),
}
"""Two ways of computing one thing, by type."""

NEAR = {
    torch.float32: 2e-5,
    # Both sides round alike, except where a sum in another order falls on the other side of a rounding.
    torch.bfloat16: 2e-3,
}
"""Native kernels that store in a type, against their definition: relative to the length of the whole tensor."""

NEAR_GRADIENTS = {**NEAR, torch.bfloat16: 3e-2}
"""The same where gradients between two steps of a backward pass are stored so too, as they are on CUDA: less than what
the storage of images changes in them."""

STORED = 0.02
"""Storage in bfloat16, whose numbers have 8 bits, against none: relative to the length of the whole tensor."""

STORED_NETWORK = 0.05
"""The same at the end of a small network, where a dozen roundings have added up."""

GOLDEN = Tolerance(1e-9, 1e-9)
"""A stored trace in float64, over machines and versions of torch."""

GRADIENT = Tolerance(1e-5, 1e-7)
"""Finite differences in float64 against autograd."""

PUBLISHED = 0.003
"""A figure that is given with three decimals, of a policy whose other weights are small and random."""


def probability(draws: int) -> float:
    """How far a frequency may be from its probability: four standard deviations of the widest binomial."""
    return 4 * 0.5 / draws**0.5


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Equal up to the order of sums; both have one type."""
    tolerance = SAME[found.dtype]
    torch.testing.assert_close(found, expected, rtol=tolerance.rtol, atol=tolerance.atol)


def assert_near(
    found: Tensor, expected: Tensor, storage: torch.dtype, tolerance: dict[torch.dtype, float] = NEAR
) -> None:
    """Equal up to the order of sums of numbers that are stored in `storage`."""
    difference, length = (found.double() - expected.double()).norm(), expected.double().norm()
    assert difference <= tolerance[storage] * length, f"{difference / length:.1e} of the length"


def assert_stored(found: Tensor, expected: Tensor, tolerance: float = STORED) -> None:
    """Equal up to the rounding of what is stored in bfloat16 on the way."""
    found, expected = found.double(), expected.double()
    assert found.shape == expected.shape
    assert (found - expected).norm() <= tolerance * expected.norm()


def assert_golden(found: Any, expected: Any) -> None:
    """Numbers, or lists and dictionaries of them, equal up to GOLDEN; integers and text exactly."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_golden(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_golden(one, other)
    elif isinstance(expected, float):
        torch.testing.assert_close(found, expected, rtol=GOLDEN.rtol, atol=GOLDEN.atol)
    else:
        assert found == expected
