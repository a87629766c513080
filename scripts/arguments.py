"""The command line before Hydra sees it: flags, paths with any character in them, sweeps."""

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from enas.errors import UserError

from .verb import Verb

# Hydra creates no folder and no log file in a single run, even on errors; a sweep makes one folder a job,
# named without the `=` and `,` that Hydra puts there.
HYDRA_SETTINGS = (
    "hydra.run.dir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "hydra.sweep.dir=${run_dir}",
    "hydra.job.config.override_dirname.kv_sep='-'",
    "hydra.job.config.override_dirname.item_sep='_'",
)


@dataclass(frozen=True)
class Arguments:
    """One command line, read: the flags and the overrides in a form that Hydra's grammar takes."""

    overrides: tuple[str, ...]
    show_help: bool = False
    multirun: bool = False
    show_config: str | None = None
    resolve: bool = False

    def value(self, key: str) -> str | None:
        """The value given to a key, or None where it is not given or null."""
        given = [override.value() for override in parse(self.overrides) if override.key_or_group == key]
        return str(given[-1]) if given and given[-1] is not None else None

    def preceded_by(self, overrides: Sequence[str]) -> "Arguments":
        """The same with `overrides` before its own, which win."""
        return replace(self, overrides=(*overrides, *self.overrides))

    def jobs(self) -> list[list[str]]:
        """The overrides of each job: one list in a single run, the product of the values in a sweep.

        Another sweeper than Hydra's own chooses its values while it runs; the one list is then what is fixed.
        """
        parsed = parse(self.overrides)
        if any(override.key_or_group == "hydra/sweeper" for override in parsed):
            parsed = [override for override in parsed if not override.is_sweep_override()]
        try:
            return BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]
        except HydraException as error:
            raise UserError(f"{error}") from error

    def spread(self, run_dir: Path, parts: int, jobs: int) -> "Arguments":
        """The same as a sweep into `run_dir`, each of its jobs in so many parts, `jobs` of all these at a time."""
        added = [f"run_dir={quoted(str(run_dir))}", f"part=range(0,{parts})", f"parts={parts}"]
        if jobs > 1:
            added += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"]
        return replace(self, overrides=(*self.overrides, *added), multirun=True)

    def for_hydra(self, verb: Verb) -> list[str]:
        """The arguments for `hydra.main`, without the program's name."""
        parsed = parse(self.overrides)
        fixed = [override.get_key_element() for override in parsed if not override.is_sweep_override()]
        settings = [*HYDRA_SETTINGS, f"hydra.job.name={verb.name}"]
        if len(fixed) < len(parsed):
            settings.append("hydra.sweep.subdir=${hydra.job.override_dirname}")
            listed = ",".join(quoted(key) for key in fixed)
            settings.append(f"hydra.job.config.override_dirname.exclude_keys=[{listed}]")
        else:
            settings.append("hydra.sweep.subdir=${hydra.job.num}")
        flags = ["--multirun"] if self.multirun and self.show_config is None else []
        if self.show_config is not None:
            flags += ["--cfg", self.show_config]
        if self.resolve:
            flags.append("--resolve")
        return [*flags, *settings, *(opened(verb, item) for item in self.overrides)]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists what can be given")


def read(verb: Verb, argv: Sequence[str]) -> Arguments:
    """Read a command line (without the program's name).

    Raises:
        UserError: an unknown flag, an override that is not KEY=VALUE, one that adds or removes a key, or
            several values without `-m`.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-c", "--cfg", choices=["job", "hydra", "all"])
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("-cd", "--config-dir")
    parser.add_argument("overrides", nargs="*")
    flags = parser.parse_intermixed_args(list(argv))
    if flags.resolve and flags.cfg is None:
        raise UserError("--resolve belongs to --cfg job, which shows the configuration and runs nothing")
    multirun = flags.multirun or verb.gather is not None
    overrides = [_checked(_path_quoted(item, verb.paths), multirun) for item in flags.overrides]
    if flags.config_dir is not None:
        folder = absolute(flags.config_dir)
        if not folder.is_dir():
            raise UserError(f"--config-dir {flags.config_dir}: there is no such folder")
        overrides.insert(0, f"hydra.searchpath=[{quoted(f'file://{folder}')}]")
    return Arguments(tuple(overrides), flags.help, multirun, flags.cfg, flags.resolve)


def parse(overrides: Sequence[str]) -> list[Override]:
    """Hydra's own reading of overrides.

    Raises:
        UserError: one of them does not follow Hydra's grammar.
    """
    parser = OverridesParser.create()
    parsed = []
    for item in overrides:
        try:
            parsed.append(parser.parse_override(item))
        except HydraException as error:
            name, _, value = item.partition("=")
            raise UserError(
                f"{item}: cannot be read; blanks and special characters need quotes within quotes, "
                f'as in "{name}={quoted(value)}"'
            ) from error
    return parsed


def opened(verb: Verb, item: str) -> str:
    """The override with Hydra's `++`, which adds a key, where it belongs to one of the verb's mappings."""
    name = item.partition("=")[0]
    return f"++{item}" if any(f"{name}.".startswith(f"{mapping}.") for mapping in verb.mappings) else item


def absolute(path: str) -> Path:
    """The path with `~` expanded, made absolute without looking at the disk."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def quoted(text: str) -> str:
    """The text as a quoted string of Hydra's grammar, where a backslash is special only before a quote."""
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", text)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{escaped[len(escaped) - trailing :]}'"


def _path_quoted(item: str, paths: Sequence[str]) -> str:
    """Quote the value of a path key; null, a sweep written as choice(...) and a quoted value stay."""
    name, equals, value = item.partition("=")
    if not equals or name not in paths or value == "null" or re.fullmatch(r"choice\(.*\)", value, re.DOTALL):
        return item
    if len(value) > 1 and value[0] in "'\"" and value[0] == value[-1]:
        return item
    if not value:
        raise UserError(f"{name}=: a path has to follow the equals sign")
    # A path that holds an interpolation (`${oc.env:DATA}/images`) is made absolute when it is resolved.
    return f"{name}={quoted(value if '${' in value else str(absolute(value)))}"


def _checked(item: str, multirun: bool) -> str:
    name = item.lstrip("+~").partition("=")[0]
    if item.startswith(("+", "~")) and not name.startswith("hydra"):
        raise UserError(f"{item}: keys are neither added nor removed; write KEY=VALUE with a key of --help")
    if "=" not in item and not item.startswith("~"):
        raise UserError(f"{item}: an argument has the form KEY=VALUE; --help lists the keys")
    if "_target_" in item:
        raise UserError(f"{item}: a constructor is chosen by its group, as in strategy=random")
    [override] = parse([item])
    if override.is_sweep_override() and not multirun:
        raise UserError(f"{item}: several values for one key need -m (a run for each value)")
    return item
