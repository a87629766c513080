"""All randomness of a run: one generator for each purpose, so that adding a draw in one place moves no other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def derive_seed(seed: int, purpose: str) -> int:
    """A seed of its own for one purpose of the run with this seed."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seeded(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for one purpose of the run with this seed."""
    return torch.Generator(device).manual_seed(derive_seed(seed, purpose))


class Randomness:
    """Named generators on one device, saved and restored together."""

    def __init__(self, seed: int, purposes: Sequence[str], device: torch.device):
        self.seed, self.device = seed, device
        self._generators = {purpose: seeded(seed, purpose, device) for purpose in purposes}

    def __getitem__(self, purpose: str) -> torch.Generator:
        return self._generators[purpose]

    def fresh(self, purpose: str) -> torch.Generator:
        """A generator that begins anew, for what shall be drawn alike each time; its state is nobody's to keep."""
        return seeded(self.seed, purpose, self.device)

    def state_dict(self) -> dict[str, Tensor]:
        return {purpose: generator.get_state() for purpose, generator in self._generators.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for purpose, generator in self._generators.items():
            generator.set_state(state[purpose])
