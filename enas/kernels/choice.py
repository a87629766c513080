"""Who computes the kernels: the native library where it serves the device, or the reference."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch

from enas.errors import UserError
from enas.kernels import native

CHOICES = ("auto", "native", "reference")

_chosen = "auto"


def select(choice: str, device: torch.device) -> None:
    """Choose who computes from now on, in this process.

    auto       the native kernels where they are installed and have the device's, else the reference; then a warning is
               logged, once
    native     the native kernels
    reference  their definition in plain torch

    Raises UserError for anything else, and for "native" where `device` has no native kernels.
    """
    global _chosen
    if choice not in CHOICES:
        raise UserError(f"kernels={choice}: allowed are auto, native and reference")
    if choice == "native" and (reason := native.absence(device.type)) is not None:
        raise UserError(f"kernels=native: {reason}; use kernels=auto or kernels=reference")
    _chosen = choice
    in_use(device)


@contextmanager
def reference_only() -> Iterator[None]:
    """Within it the reference computes, whatever was chosen: for who looks into the operations of a network."""
    global _chosen
    before, _chosen = _chosen, "reference"
    try:
        yield
    finally:
        _chosen = before


def in_use(device: torch.device) -> Literal["native", "reference"]:
    """Who computes on `device`."""
    if _chosen == "reference":
        return "reference"
    reason = native.absence(device.type)
    if reason is None:
        return "native"
    _warn(reason)
    return "reference"


@cache
def _warn(reason: str) -> None:
    logging.getLogger("enas").warning("enas: %s; plain torch computes instead, several times slower", reason)
