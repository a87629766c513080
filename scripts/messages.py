"""Hydra's and OmegaConf's errors in one sentence: the key, its value and what is allowed."""

import re
from collections.abc import Iterator

from hydra.errors import MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from .constructors import hint
from .verb import Verb


def sentence(error: Exception, verb: Verb) -> str:
    """One sentence for an error that composing the configuration raised."""
    text = str(error)
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        name, _, choice = error.missing_cfg_file.rpartition("/")
        return f"{name}={choice}: there is no such choice; {hint(choice, error.options)}"
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match[1], cause, verb)
    if match := re.match(r"Error merging override (.*)", text, re.DOTALL):
        return f"{match[1]}: {_first_line(cause)}"
    if match := re.match(r"In '([^']+)': \w+ raised while composing config:\n(.*)", text):
        full_key = re.search(r"full_key: (\S+)", text)
        return f"{match[1]}.yaml: {f'{full_key[1]}: ' if full_key else ''}{match[2]}"
    if isinstance(error, OmegaConfBaseException):
        return f"{error.full_key}: {_first_line(error)}" if error.full_key else _first_line(error)
    return " ".join(text.split())


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, the last first; each once, since chains that re-raise can be circular."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        yield current
        seen.add(id(current))
        current = current.__cause__ or current.__context__


def _unknown_key(name: str, cause: BaseException | None, verb: Verb) -> str:
    siblings = getattr(cause, "parent_node", None)
    parent, _, last = name.rpartition(".")
    top = name.partition(".")[0]
    if parent and top in verb.names and siblings is not None:
        close = hint(last, (str(key) for key in siblings if key != "_target_"))
        return f"{name}: {parent} has no key {last}; {close}"
    return f"{name}: {verb.command} has no such key or group; {hint(top, verb.names)}"


def _first_line(error: BaseException | None) -> str:
    return str(error).partition("\n")[0]
