"""The device code, built for the host."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kernels.device import HostDevice
from shim.library import build, compiler


@pytest.fixture(scope="session")
def device_library(pytestconfig: pytest.Config) -> Path:
    """csrc/cuda built for the host; test_shim.py names another build when it runs once more under sanitizers."""
    if sanitized := os.environ.get("ENAS_SANITIZED_LIBRARY"):
        return Path(sanitized)
    if compiler() is None:
        pytest.skip("there is no C++ compiler")
    assert pytestconfig.cache is not None
    return build(pytestconfig.cache.mkdir("shim"), sanitize=False)


@pytest.fixture
def device(device_library: Path) -> Iterator[HostDevice]:
    """Runs the operations of csrc/cuda. New tensors are full of NaN, so that what a kernel leaves out shows."""
    torch.use_deterministic_algorithms(True)
    yield HostDevice(device_library)
    torch.use_deterministic_algorithms(False)
