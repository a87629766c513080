"""`resume=DIR`: the saved run's overrides, and the refusal of every change that would make it another run."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enas.errors import UserError

from .arguments import parse
from .verb import Verb

# What belongs to a command line and not to the run; a file of code among them: one is run because a user names it.
_OWN_KEYS = ("run_dir", "resume", "space_file")


@dataclass(frozen=True)
class SavedRun:
    """What a run directory's run.json says of the run: its overrides and its whole configuration."""

    directory: Path
    overrides: tuple[str, ...]
    config: Mapping[str, Any]


def load(directory: Path) -> SavedRun:
    """Read DIR/run.json, the keys `overrides` (a list of text) and `config` (a mapping).

    Raises:
        UserError: there is no run, or its run.json is damaged or holds overrides that no command saves.
    """
    path = directory / "run.json"
    if not path.is_file():
        raise UserError(f"resume={directory}: there is no run to resume in this folder (no run.json)")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        overrides, config = content["overrides"], content["config"]
        sound = isinstance(config, dict) and isinstance(overrides, list)
        sound = sound and all(isinstance(item, str) for item in overrides)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"resume={directory}: its run.json is damaged ({error})") from error
    if not sound:
        raise UserError(f"resume={directory}: its run.json is damaged (overrides or config of a wrong type)")
    for item in overrides:
        # The file may come from anywhere: it may set keys, but neither name code to call nor steer Hydra.
        if "_target_" in item or not item[:1].isalpha() or item.startswith("hydra"):
            raise UserError(f"resume={directory}: its run.json holds {item}, which no run saves")
    parsed = zip(overrides, parse(overrides), strict=True)
    kept = tuple(item for item, override in parsed if override.key_or_group not in _OWN_KEYS)
    return SavedRun(directory, kept, config)


def check_unchanged(verb: Verb, saved: SavedRun, config: Mapping[str, Any]) -> None:
    """Refuse the first key whose value differs from the saved run's, the verb's exceptions aside.

    Args:
        config: the composed configuration in plain values, as the saved one is.

    Raises:
        UserError: names the key, both values and what may be changed.
    """
    if saved.config.keys() != config.keys():
        raise UserError(f"resume={saved.directory}: the folder holds no run of this version of {verb.command}")
    before, now = dict(_flattened(saved.config)), dict(_flattened(config))
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if old == new or key in _OWN_KEYS or key in verb.resume_free:
            continue
        if key in verb.resume_growing:
            if isinstance(old, int | float) and isinstance(new, int | float) and new > old:
                continue
            raise UserError(f"{key}={new}: a resumed run may only raise {key}, which is {old} in {saved.directory}")
        changeable = [*verb.resume_free, *(f"{name} (only more)" for name in verb.resume_growing)]
        raise UserError(
            f"{key.removesuffix('._target_')}: {new} here and {old} in {saved.directory}; "
            f"a resumed run may change only {', '.join(changeable)}"
        )


def _flattened(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for name, child in node.items():
            yield from _flattened(child, f"{path}.{name}" if path else str(name))
    else:
        yield path, node
