"""The key `profile`: some steps of a run, recorded into its directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from omegaconf import DictConfig

from enas.errors import UserError
from enas.profile import TABLE, TRACE, Profile

PROFILE = "Steps before and after the end of an epoch to record in trace.json.gz and profile.txt; null: none"


def check(config: DictConfig) -> None:
    """Raise UserError where the key has a value that is not allowed."""
    if config.profile is not None and config.profile < 1:
        raise UserError(f"profile={config.profile}: allowed is 1 or more, or null for none")


@contextmanager
def profiled(
    config: DictConfig, folder: Path, device: torch.device, steps: int, epochs: int
) -> Iterator[Callable[[], None]]:
    """Gives what a run of `epochs` times `steps` steps calls after each step; prints the table when it is over.

    A resumed run is not recorded, nor one whose command has no such key.
    """
    asked = config.get("profile")
    if asked is None or config.resume is not None:
        yield lambda: None
        return
    with Profile(folder, device, *window(asked, steps, epochs)) as profile:
        yield profile.step
    if profile.table is None:
        print(f"profile={asked}: the run has too few steps, nothing was recorded")
    else:
        print(f"{profile.table}written to {folder / TABLE}; {folder / TRACE} opens in Perfetto and in TensorBoard")


def window(asked: int, steps: int, epochs: int) -> tuple[int, int]:
    """Steps before the recording and steps recorded: `asked` before and after the end of the first epoch.

    There a search trains, estimates and asks its strategy, all of it warm. It ends with the run's last step at most.
    """
    start = max(1, min(steps - asked, steps * epochs - 2 * asked))
    return start, max(1, min(2 * asked, steps * epochs - start))
