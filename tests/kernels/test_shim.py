"""csrc/cuda on the host: the shim that runs it, and every operation against the reference."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kernels.device import ORDERS, HostDevice
from kernels.operations import CASES, Case, convert, shift
from shim.library import build, compiler
from tolerances import SAME, assert_same

THREADS = 64  # of a block, in tests/shim/check.cu
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")


def blocks(x: Tensor) -> Tensor:
    return torch.nn.functional.pad(x, (0, -len(x) % THREADS)).reshape(-1, THREADS)


@pytest.fixture
def numbers() -> Tensor:
    return torch.randn(200, generator=torch.Generator().manual_seed(0))


def test_shared_memory_and_barriers(device: HostDevice, numbers: Tensor) -> None:
    (found,) = device.call_in_all_orders("check_reverse", numbers)
    assert torch.equal(found, blocks(numbers).flip(1).flatten()[: len(numbers)])


def test_a_missing_barrier_shows_in_every_order(device: HostDevice, numbers: Tensor) -> None:
    right = blocks(numbers).flip(1).flatten()[: len(numbers)]
    for order in ORDERS:
        (found,) = device.call("check_reverse_without_barrier", numbers, order=order)
        assert not torch.equal(found, right)
    with pytest.raises(AssertionError, match="changes it"):
        device.call_in_all_orders("check_reverse_without_barrier", numbers)


def test_shuffles(device: HostDevice, numbers: Tensor) -> None:
    (found,) = device.call_in_all_orders("check_sum", numbers)
    assert_same(found, blocks(numbers).sum(1, keepdim=True).expand(-1, THREADS).flatten()[: len(numbers)])


def test_lanes_wait_for_their_warp(device: HostDevice, numbers: Tensor) -> None:
    (found,) = device.call_in_all_orders("check_swap_neighbours", numbers)
    assert torch.equal(found, numbers.reshape(-1, 2).flip(1).flatten())


def test_lanes_of_a_mask_do_not_wait_for_others(device: HostDevice, numbers: Tensor) -> None:
    (found,) = device.call_in_all_orders("check_rank", numbers)
    positive = (blocks(numbers) > 0).float().reshape(-1, 16)
    assert torch.equal(found, (positive.cumsum(1) - positive).flatten()[: len(numbers)])


def test_atomics_and_the_order_of_threads(device: HostDevice) -> None:
    rows = [device.call("check_tickets", torch.zeros(THREADS), order=order)[0] for order in ORDERS]
    for row in rows:
        assert sorted(row.tolist()) == list(range(THREADS))
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[1], rows[2])


def test_shared_memory_is_nan_at_first(device: HostDevice, numbers: Tensor) -> None:
    (found,) = device.call("check_unwritten", numbers)
    assert found.isnan().all()


def test_blocks_of_a_cooperative_launch_meet(device: HostDevice, numbers: Tensor) -> None:
    (found,) = device.call_in_all_orders("check_next_block", numbers)
    assert torch.equal(found, numbers.roll(-THREADS))


def test_a_missing_meeting_shows_in_every_order(device: HostDevice, numbers: Tensor) -> None:
    for order in ORDERS:
        (found,) = device.call("check_next_block_without_barrier", numbers, order=order)
        assert not torch.equal(found, numbers.roll(-THREADS))


def test_a_cooperative_launch_of_more_blocks_than_there_are_at_once_is_an_error(device: HostDevice) -> None:
    with pytest.raises(RuntimeError, match="5 blocks cannot wait for one another where 4 are there at once"):
        device.call("check_next_block", torch.zeros(5 * THREADS))


def test_a_new_division_of_shared_memory_is_nan_at_first(device: HostDevice, numbers: Tensor) -> None:
    (found,) = device.call_in_all_orders("check_divides_anew", numbers)
    assert torch.equal(found, numbers)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("leaves_early", r"thread \(5, 0, 0\) has returned"),
        ("half_a_warp", r"thread \(0, 0, 0\) waits for lanes at .*check.cu:\d+ with mask 0xffffffff"),
        ("two_barriers", r"waits at .*check.cu:\d+, but .* thread .* waits for its block at"),
        ("too_much", r"takes 384 bytes of shared memory and was launched with 256"),
        ("may_have_little", r"256 bytes of shared memory are more than the 64 that the kernel may have"),
        ("another_array", r"takes another array of shared memory than other threads"),
        ("a_block_stays_away", r"block \(1, 0, 0\), thread \(0, 0, 0\) has returned"),
        ("two_meetings", r"waits at .*check.cu:\d+, but .* thread .* waits for its grid at"),
        ("meets_alone", r"waits for a grid that was not launched as a cooperative one"),
    ],
)
def test_a_mistake_is_an_error_and_no_hang(device: HostDevice, numbers: Tensor, mistake: str, message: str) -> None:
    for order in ORDERS:
        with pytest.raises(RuntimeError, match=message):
            device.call(f"check_{mistake}", numbers, order=order)
    test_shuffles(device, numbers)  # and the next launch finds nothing left of it


@pytest.mark.skipif(not SANITIZED, reason="asked of the build with sanitizers, below")
@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("outside_tensor", "heap-buffer-overflow"),
        ("outside_shared", "heap-buffer-overflow"),
        ("of_an_old_division", "heap-use-after-free"),
        ("overflow", "signed integer overflow"),
    ],
)
def test_the_sanitizers_see_a_mistake(device_library: Path, mistake: str, message: str) -> None:
    program = (
        f"import sys, torch; torch.ops.load_library(sys.argv[1]);torch.ops.enas_shim.check_{mistake}(torch.zeros(200))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(device_library)], capture_output=True, text=True)
    assert done.returncode != 0
    assert message in done.stderr
    assert "check.cu" in done.stderr


@pytest.mark.parametrize("dtype", SAME, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_operation_is_what_the_reference_says(device: HostDevice, case: Case, dtype: torch.dtype) -> None:
    arguments = case.arguments(dtype)
    expected = case.expected(dtype, *convert(arguments, torch.float64))
    found = device.call_in_all_orders(case.operation, *arguments)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if other is not None:
            assert_same(one, other.to(one.dtype))
    for one, other in zip(found, device.call(case.operation, *shift(arguments)), strict=True):
        assert torch.equal(one, other)


NOT_OF_DEVICES = (
    "what_a_cell_keeps",  # nobody looks at the routes there
    "routes_that_lead_nowhere",
    "bfloat16_is_rounded_where",  # the gradients of nodes are rounded too
    "number_of_threads",  # of torch, which a device has nothing to do with
)


@pytest.mark.skipif(SANITIZED, reason="it is this one")
@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler")
@pytest.mark.parametrize(
    "file",
    [
        "test_native.py",
        *(
            pytest.param(name, marks=pytest.mark.slow)  # five minutes in all
            for name in (
                "test_shim.py",
                "test_descent.py",
                "test_native_cell.py",
                "test_mixed.py",
                "test_policy.py",
                "test_registration.py",
            )
        ),
    ],
)
def test_the_same_under_sanitizers(pytestconfig: pytest.Config, file: str) -> None:
    """All of this file, and the tests of the native kernels, run by the device code under both sanitizers."""
    assert pytestconfig.cache is not None
    library = build(pytestconfig.cache.mkdir("shim"), sanitize=True)
    # Both before Python: AddressSanitizer wants to be first, and looks for the throw of C++ as soon as it is loaded.
    libraries = [
        subprocess.run([str(compiler()), f"-print-file-name={name}"], check=True, capture_output=True, text=True)
        for name in ("libasan.so", "libstdc++.so")
    ]
    environment = {
        **os.environ,
        "ENAS_DEVICE_LIBRARY": str(library),
        "LD_PRELOAD": " ".join(done.stdout.strip() for done in libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
    }
    plain = ["-p", "no:xdist", "-p", "no:cacheprovider", "-k", " and ".join(f"not {name}" for name in NOT_OF_DEVICES)]
    command = [sys.executable, "-m", "pytest", "-q", "-x", *plain, str(Path(__file__).with_name(file))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
