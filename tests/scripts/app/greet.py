"""A small command on the Hydra edge, for the tests: it writes what it was given to its run directory."""

import enum
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.utils import instantiate
from omegaconf import DictConfig

from enas.errors import UserError
from enas.scripts import configuration
from enas.scripts.configuration import Verb, group, key


class Ending(enum.Enum):
    """How the task ends."""

    well = 1
    mistake = 2
    defect = 3
    misuse = 4
    wait = 5


@dataclass
class Soft:
    """A voice with one key of each kind."""

    pitch: float = 1.0
    words: int = 3
    language: Literal["en", "fr"] = "en"
    root: str | None = None
    notes: tuple[int, ...] = ()


class Loud:
    """A voice that refuses a value by itself and takes one argument from the command."""

    def __init__(self, ending: str, volume: int = 5, pitch: float = 1.0) -> None:
        """Refuse a volume past 10."""
        if volume > 10:
            raise UserError(f"voice.volume={volume}: at most 10")


@dataclass
class Keys:
    """The keys of the command."""

    voice: Any = group("Who speaks")
    seed: int = key(0, "Seed of everything")
    epochs: int = key(3, "How long")
    rate: float = key(0.5, "How fast")
    ending: Ending = key(Ending.well, "How the task ends")
    device: str = key("auto", "Where it runs")
    run_dir: str = key("runs/greet-${now:%Y%m%d-%H%M%S}", "Where the run is written")
    resume: str | None = key(None, "A run directory to go on with")


def greet(config: DictConfig) -> float | None:
    """Write run.json, then end as asked."""
    folder = Path(config.run_dir)
    if config.ending is Ending.mistake:
        raise UserError("something: is not right")
    if config.ending is Ending.defect:
        raise KeyError("a defect")
    if config.ending is Ending.misuse:
        return float(config.no_such_key)
    instantiate(config.voice, **({"ending": "!"} if config.voice.get("volume") else {}))
    folder.mkdir(parents=True, exist_ok=True)
    saved = {"overrides": configuration.overrides(), "config": configuration.plain(config)}
    (folder / "run.json").write_text(json.dumps(saved), encoding="utf-8")
    if config.ending is Ending.wait:
        try:
            print("waiting", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            (folder / "interrupted").touch()
            raise
    return None


VERB = Verb(
    name="greet",
    summary="Says hello.",
    example="enas-greet voice=loud",
    schema=Keys,
    task=greet,
    recipes={"experiment": "Published recipes"},
    paths=("voice.root", "run_dir", "resume"),
    resume_free=("device",),
    resume_growing=("epochs",),
    config_module="greet_conf",
)


def main() -> None:
    """The console script."""
    configuration.run(VERB)


if __name__ == "__main__":
    sys.exit(main())
