"""`space_file=FILE`: a space of the user's own becomes a choice of the group `space`, and known to genotypes."""

from __future__ import annotations

import inspect
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig
from omegaconf.errors import OmegaConfBaseException

from enas.errors import UserError
from enas.space import SearchSpace, load_space_file

from .arguments import Arguments, absolute
from .resume import SavedRun
from .verb import Verb

KEY = "space_file"
COMMENT = "A Python file with a space of your own, which is run; docs/your-own-space.md"


def offered(verb: Verb, given: Arguments) -> Arguments:
    """The command line with the space of its `space_file` loaded, and chosen where no other is.

    Raises:
        UserError: the file does not define one whole space.
    """
    file = given.value(KEY) if KEY in verb.names else None
    if file is None:
        return given
    space = load_space_file(absolute(file))
    if "space" not in verb.groups:
        return given
    try:
        ConfigStore.instance().store(space.name, _node(space), group="space", provider="enas")
    except OmegaConfBaseException as error:
        raise UserError(f"{KEY}={file}: the arguments of {space.__name__} need plain values as defaults") from error
    return given if given.value("space") is not None else given.preceded_by([f"space={space.name}"])


def load(config: DictConfig) -> None:
    """Load the space file of a composed configuration, if it has one."""
    file = config.get(KEY)
    if file is not None:
        load_space_file(absolute(file))


def typed(config: DictConfig) -> list[str]:
    """What a command line needs to know the space of this run."""
    return [] if config.get(KEY) is None else [f"{KEY}={config[KEY]}"]


def check_typed(saved: SavedRun, given: Arguments) -> None:
    """Refuse to resume a run with a space of its own where the user does not name the file: code is run only for those
    who name it, never because a saved file does.

    Raises:
        UserError: the saved run had a space file, the command line has none.
    """
    file = saved.config.get(KEY)
    if file is not None and given.value(KEY) is None:
        raise UserError(f"resume={saved.directory}: its space is one of your own; name its file again, {KEY}={file}")


def _node(space: type[SearchSpace]) -> dict[str, Any]:
    """The group's choice, as a file conf/space/NAME.yaml would have it."""
    parameters = inspect.signature(space).parameters.values()
    defaults = {each.name: MISSING if each.default is each.empty else each.default for each in parameters}
    return {"_target_": f"{space.__module__}.{space.__name__}", **defaults}
