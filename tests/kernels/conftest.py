"""The device code, built for the host."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kernels.device import HostDevice, stand_in
from shim.library import build, compiler

DEVICE_LIBRARY = os.environ.get("ENAS_DEVICE_LIBRARY")
"""csrc/cuda built for the host, where test_shim.py runs tests of this folder once more with it."""

if DEVICE_LIBRARY:
    stand_in(Path(DEVICE_LIBRARY))


@pytest.fixture(scope="session")
def device_library(pytestconfig: pytest.Config) -> Path:
    """csrc/cuda built for the host."""
    if DEVICE_LIBRARY:
        return Path(DEVICE_LIBRARY)
    if compiler() is None:
        pytest.skip("there is no C++ compiler")
    assert pytestconfig.cache is not None
    return build(pytestconfig.cache.mkdir("shim"), sanitize=False)


@pytest.fixture
def device(device_library: Path) -> Iterator[HostDevice]:
    """Runs the operations of csrc/cuda. New tensors are full of NaN, so that what a kernel leaves out shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield HostDevice(device_library)
    torch.use_deterministic_algorithms(before)
