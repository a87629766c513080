"""The Hydra edge: from a command line to a checked configuration, and every mistake in one sentence."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from enas.errors import UserError

from . import arguments, constructors, help, messages, own_space, recipes, resume
from .verb import Verb, group, key

__all__ = ["Verb", "group", "key", "overrides", "plain", "run"]

_MISTAKE, _INTERRUPTED = 2, 130


def run(verb: Verb) -> None:
    """Run a command: read `sys.argv`, compose and check each job's configuration, then do the task.

    The task receives its configuration composed, of the schema's types, without missing values or
    interpolations, with absolute paths and with every `_target_` node checked against its constructor; it
    builds what it needs with `hydra.utils.instantiate`. In a sweep (`-m`) `run_dir` is the job's own folder
    `run_dir/seed-0`; with `resume=DIR` it is DIR, and the configuration is the saved run's.

    The process ends with exit code 2 and one sentence on the standard error for a `UserError` (also one that
    a constructor raised), and with 130 and no trace for a KeyboardInterrupt, which a task that ends well on
    Ctrl-C raises again when it has saved its state. Any other exception is a defect and shows its trace.
    Either ends a sweep; one over processes (hydra/launcher=joblib) then ends the jobs that still run,
    wherever they are, so that they go on from their last checkpoint.

    Example, the whole of scripts/greet.py:

        @dataclass
        class Keys:
            voice: Any = group("Who speaks")
            times: int = key(1, "How often")
            run_dir: str = key("runs/greet-${now:%Y%m%d-%H%M%S}", "Where the run is written")
            resume: str | None = key(None, "A run directory to go on with")

        def greet(config: DictConfig) -> None:
            voice = instantiate(config.voice)
            record.write_json("run.json", {"overrides": overrides(), "config": plain(config)})

        VERB = Verb("greet", "Says hello.", "enas-greet voice=loud", Keys, greet,
                    recipes={"experiment": "Published recipes"}, paths=("run_dir", "resume"),
                    resume_growing=("times",))

        def main() -> None:
            run(VERB)

    with conf/greet.yaml:

        defaults: [greet_schema, {voice: soft}, _self_, {experiment: null}]
    """
    with _mistakes_told(verb):
        ConfigStore.instance().store(f"{verb.name}_schema", verb.schema, provider="enas")
        given = arguments.read(verb, sys.argv[1:])
        if given.multirun and not verb.sweepable:
            raise UserError(f"-m: {verb.command} has no run directories to keep several runs apart; call it for each")
        saved = None
        if verb.resumable and (folder := given.value("resume")) is not None:
            if given.multirun:
                raise UserError("resume: one run is resumed at a time, without -m")
            if given.value("run_dir") is not None:
                raise UserError("run_dir: a resumed run stays in its own folder; give resume=DIR alone")
            saved = resume.load(arguments.absolute(folder))
            own_space.check_typed(saved, given)
            given = given.preceded_by(saved.overrides)
        given = own_space.offered(verb, given)
        if given.show_help or given.show_config is None:
            with initialize_config_module(verb.config_module, version_base="1.3", job_name=verb.name):
                if given.show_help:
                    config, choices = _composed(verb, given.jobs()[0])
                    print(help.text(verb, config, choices))
                    return
                _check_jobs(verb, given.jobs(), saved)
                if verb.gather is not None:
                    given = _spread(verb, given)
        _start(verb, given, saved)
        if verb.gather is not None and (folder := given.value("run_dir")) is not None and given.show_config is None:
            verb.gather(Path(folder))


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration in plain values (numbers, text, lists, dicts), for run.json's "config"."""
    values = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}


def overrides() -> list[str]:
    """The running task's overrides, as run.json holds them under "overrides" for `resume`."""
    return [str(item).removeprefix("++") for item in HydraConfig.get().overrides.task]


def _spread(verb: Verb, given: arguments.Arguments) -> arguments.Arguments:
    """The command line of a sweep whose jobs are gathered, over as many processes as `jobs` says."""
    for override in arguments.parse(given.overrides):
        if override.key_or_group in ("seeds", "jobs", "part", "parts") and override.is_sweep_override():
            raise UserError(f"{override.key_or_group}: takes one value, for all searches")
    config = _prepared(verb, _composed(verb, given.jobs()[0])[0], None)
    folder = Path(config.run_dir)
    parts = verb.parts(config)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"run_dir={folder} already holds files and is never overwritten: give another run_dir")
    return given.spread(folder, parts, config.jobs)


def _start(verb: Verb, given: arguments.Arguments, saved: resume.SavedRun | None) -> None:
    def job(composed: DictConfig) -> float | None:
        # Told here, not only around `hydra.main`: a sweep over processes raises in another process.
        with _mistakes_told(verb):
            config = _prepared(verb, composed, saved)
            multirun = HydraConfig.get().mode is RunMode.MULTIRUN
            if multirun:
                config.run_dir = HydraConfig.get().runtime.output_dir
            try:
                return verb.task(config)
            except (HydraException, OmegaConfBaseException) as error:
                mistake = next((cause for cause in messages.causes(error) if isinstance(cause, UserError)), None)
                if mistake is not None:
                    raise UserError(str(mistake)) from error
                # Everything given was checked before: what Hydra says now is about the program, not its user.
                raise RuntimeError(f"{verb.command} uses its configuration wrongly") from error
            finally:
                if multirun:
                    _remove_unused(Path(config.run_dir), Path(HydraConfig.get().sweep.dir))

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors instead of printing several lines
    sys.argv[1:] = given.for_hydra(verb)
    hydra.main(config_path=f"pkg://{verb.config_module}", config_name=verb.name, version_base="1.3")(job)()


def _check_jobs(verb: Verb, jobs: list[list[str]], saved: resume.SavedRun | None) -> None:
    """Compose and check every job of the command line, so that nothing starts where one of them is wrong."""
    notes: dict[str, None] = {}
    for job in jobs:
        config, choices = _composed(verb, job)
        notes.update(dict.fromkeys(recipes.check(verb, choices)))
        config = _prepared(verb, config, saved)
        if saved is not None:
            resume.check_unchanged(verb, saved, plain(config))
        verb.check(config)
    for note in notes:
        print(f"{verb.command}: note: {note}", file=sys.stderr)


def _composed(verb: Verb, job: list[str]) -> tuple[DictConfig, Mapping[str, Any]]:
    """The configuration of one job and its choice for each group."""
    try:
        given = [arguments.opened(verb, item) for item in job]
        config = compose(verb.name, overrides=given, return_hydra_config=True)
    except ValueError as error:  # so Hydra refuses strategy=3 and strategy=null
        chosen = [item for item in job if item.partition("=")[0] in verb.groups]
        raise UserError(f"{' '.join(chosen)}: a group's choice is a name; --help lists them") from error
    HydraConfig.instance().set_config(config)
    choices = dict(config.hydra.runtime.choices)
    for name in verb.groups.keys() - choices.keys():
        raise UserError(f"{name}: takes one choice, not several")
    with open_dict(config):
        del config["hydra"]
    return config, choices


def _prepared(verb: Verb, config: DictConfig, saved: resume.SavedRun | None) -> DictConfig:
    """The configuration without missing values, interpolations, relative paths and constructors' mistakes."""
    own_space.load(config)  # again in a sweep over processes: this may be another one
    config = verb.amend(config)
    for name in sorted(OmegaConf.missing_keys(config)):
        raise UserError(f"{name}: has to be given, as in {name}={'PATH' if name in verb.paths else 'VALUE'}")
    OmegaConf.resolve(config)
    if saved is not None:
        config.run_dir = str(saved.directory)
    for name in verb.paths:
        value = OmegaConf.select(config, name)
        if isinstance(value, str):
            OmegaConf.update(config, name, str(arguments.absolute(value)))
    constructors.check(config)
    return config


def _remove_unused(job: Path, sweep: Path) -> None:
    """Remove the folders that Hydra made for a sweep, where a job that came to nothing left them empty."""
    with suppress(OSError):  # not empty, or another process was here first
        job.rmdir()
        if {entry.name for entry in sweep.iterdir()} <= {"multirun.yaml"}:
            (sweep / "multirun.yaml").unlink(missing_ok=True)
            sweep.rmdir()


@contextmanager
def _mistakes_told(verb: Verb) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        told = str(error) if isinstance(error, UserError) else messages.sentence(error, verb)
        print(f"{verb.command}: {' '.join(told.splitlines())}", file=sys.stderr)
        sys.exit(_MISTAKE)
