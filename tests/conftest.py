"""What holds for every test."""

from collections.abc import Iterator

import pytest
import torch


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
