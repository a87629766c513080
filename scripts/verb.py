"""What one command is: its task, its keys, its groups, and what a resumed run may change."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig


def key(default: Any, comment: str) -> Any:
    """Declare one top-level key of a command in its schema dataclass.

    Args:
        default: the default; `omegaconf.MISSING` for a key that the user has to give.
        comment: the one line that `--help` shows for the key.
    """
    return field(default=default, metadata={"comment": comment})


def group(comment: str, kind: type = object) -> Any:
    """Declare one group of a command (`space=enas_micro`) in its schema.

    Args:
        comment: its line of `--help`.
        kind: what the constructors (`_target_`) of its choices for this command make; any where they are functions.
    """
    return field(default=MISSING, metadata={"comment": comment, "group": True, "kind": kind})


@dataclass(frozen=True)
class Verb:
    """One command, as `configuration.run` takes it.

    Args:
        name: "search" for the command `enas-search`; also the name of its primary config, conf/search.yaml,
            whose defaults list begins with the schema's name, "search_schema".
        summary: the first line of `--help`.
        example: one command line for `--help`.
        schema: a dataclass of the top-level keys, each declared by `key(...)` or `group(...)`; misspelt keys
            and values of a wrong type are refused by it. The defaults stand there and nowhere else.
        task: does the work; takes the checked configuration, returns None or the number a sweeper optimises.
        recipes: groups that hold values for the whole configuration, such as `experiment`, with their line of
            `--help`; their files begin with `# @package _global_`.
        paths: keys that hold paths: `~` is expanded, any character is allowed, the task gets them absolute.
        mappings: keys of constructors that hold a mapping whose names the user chooses, such as
            `strategy.temperature`: Hydra takes `strategy.temperature.operation=5` only when told to add it.
        resume_free: keys that a resumed run may change freely, beside `run_dir`.
        resume_growing: number keys that a resumed run may only raise.
        gather: for a command that always is a sweep, over processes: called with the sweep's folder once all its jobs
            have ended. Its schema has the keys `jobs`, how many at a time, and `part`, which part a job is.
        parts: of such a command, how many parts each job of the command line is divided in; the schema's key `parts`.
        amend: changes a job's configuration before its interpolations are resolved.
        check: tells, by a UserError, what would go wrong with a job, before the first one starts.
        config_module: the package that holds the primary config and the groups.
    """

    name: str
    summary: str
    example: str
    schema: type
    task: Callable[[DictConfig], float | None]
    recipes: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ("run_dir",)
    mappings: tuple[str, ...] = ()
    resume_free: tuple[str, ...] = ()
    resume_growing: tuple[str, ...] = ()
    gather: Callable[[Path], None] | None = None
    parts: Callable[[DictConfig], int] = lambda config: 1
    amend: Callable[[DictConfig], DictConfig] = lambda config: config
    check: Callable[[DictConfig], None] = lambda config: None
    config_module: str = "enas.conf"

    @property
    def command(self) -> str:
        """The console script's name."""
        return f"enas-{self.name}"

    @property
    def groups(self) -> dict[str, str]:
        """The groups of the schema, then the recipes, each with its line of `--help`."""
        declared = {
            entry.name: entry.metadata["comment"] for entry in fields(self.schema) if entry.metadata.get("group", False)
        }
        return declared | dict(self.recipes)

    @property
    def kinds(self) -> dict[str, type]:
        """What the choices of each group of the schema make."""
        return {entry.name: entry.metadata["kind"] for entry in fields(self.schema) if "kind" in entry.metadata}

    @property
    def names(self) -> set[str]:
        """All top-level keys and groups."""
        return {entry.name for entry in fields(self.schema)} | self.recipes.keys()

    @property
    def sweepable(self) -> bool:
        """Whether `-m` is for the command: each job of a sweep needs a run directory of its own."""
        return "run_dir" in self.names

    @property
    def resumable(self) -> bool:
        """Whether the command has a key `resume`."""
        return "resume" in self.names
