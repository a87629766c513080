"""What holds for every test."""

import os
from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace

import pytest
import torch

from enas import kernels

KERNELS = os.environ.get("ENAS_KERNELS", "auto")
"""Who computes in tests that do not say: the suite runs with native and with reference kernels."""


@pytest.fixture(autouse=True, scope="session")
def _one_thread_for_fixtures() -> None:
    """Fixtures of a module are made before any test's own fixture: they too compute on one thread."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in one order, as golden traces want them; and the tests' tensors are too small to be shared out."""
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _kernels_for_fixtures() -> None:
    kernels.select(KERNELS, torch.device("cpu"))


@pytest.fixture(autouse=True)
def _kernels() -> Iterator[None]:
    """A command that a test calls chooses its own kernels, and so do some tests."""
    kernels.select(KERNELS, torch.device("cpu"))
    yield
    kernels.select(KERNELS, torch.device("cpu"))


@pytest.fixture
def _no_wait_for_a_new_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run goes on within the second it stopped in: its event files sort by number, which is given in six digits."""
    monkeypatch.setattr("enas.record._wait_for_a_new_second", lambda run_dir: None)
    numbers = count()
    uid = SimpleNamespace(get=lambda: f"{next(numbers):06d}")
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer._global_uid", uid)
