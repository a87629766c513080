"""The text of `--help`: a command's own groups and keys, one line each."""

import dataclasses
import enum
import re
import typing
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from . import recipes
from .verb import Verb

_SWEEP = """\
  -m, --multirun         a run for each value: seed=0,1,2 (hydra/launcher=joblib for several at a time)
"""
_FLAGS = """\
  --cfg job [--resolve]  show the configuration and run nothing
  --config-dir FOLDER    look for groups and recipes of your own there too
  --help                 this text, with the keys of the choices made on the command line"""


def text(verb: Verb, config: DictConfig, choices: Mapping[str, Any]) -> str:
    """Compose the help text; Hydra has to be initialised, since it knows the options of a group.

    Args:
        config: the composed configuration, whose values are shown.
        choices: group -> chosen option, of that configuration.
    """
    forms = "KEY=VALUE | GROUP=CHOICE | GROUP.KEY=VALUE" if verb.groups else "KEY=VALUE"
    usage = f"Usage: {verb.command} [{forms}] ...\nExample: {verb.example}"
    sections = [f"{verb.command}: {verb.summary}", usage]
    if verb.groups:
        sections.append("Groups (GROUP=CHOICE):\n" + _groups(verb, choices))
    sections.append("Keys (KEY=VALUE):\n" + "\n".join(_keys(verb, config)))
    for group in verb.groups:
        if group not in verb.recipes and isinstance(config[group], DictConfig):
            lines = _choice_keys(verb, group, choices[group], config[group])
            sections.append(f"Keys of {group}={choices[group]}:\n" + "\n".join(lines))
    return "\n\n".join([*sections, f"Flags:\n{_SWEEP if verb.sweepable else ''}{_FLAGS}"])


def _groups(verb: Verb, choices: Mapping[str, Any]) -> str:
    loader = GlobalHydra.instance().config_loader()
    lines = []
    for group, comment in verb.groups.items():
        chosen = choices.get(group)
        lines.append(_line(group, f"{comment}{f' (now {chosen})' if chosen else ''}"))
        for option in loader.get_group_options(group):
            in_recipes = group in verb.recipes
            if recipes.suits(verb, f"{group}/{option}") if in_recipes else recipes.offers(verb, group, option):
                lines.append(_line(f"  {option}", _first_comment(_source(verb, group, option))))
    return "\n".join(lines)


def _keys(verb: Verb, config: DictConfig) -> list[str]:
    hints = typing.get_type_hints(verb.schema)
    values = _values(config)
    lines = []
    for declared in dataclasses.fields(verb.schema):
        name, kind = declared.name, hints[declared.name]
        if name not in verb.groups:
            allowed = ""
            if isinstance(kind, type) and issubclass(kind, enum.Enum):
                allowed = f" ({' | '.join(member.name for member in kind)})"
            comment = declared.metadata["comment"] + allowed
            for inner, value in values.items():
                if inner.partition(".")[0] == name:
                    lines.append(_line(f"{inner}={value}", comment))
                    comment = ""  # the first line of a key with several parts speaks for all
    return lines


def _choice_keys(verb: Verb, group: str, option: str, node: DictConfig) -> list[str]:
    comments = _key_comments(_source(verb, group, option))
    return [
        _line(f"{group}.{name}={value}", comments.get(name, ""))
        for name, value in _values(node).items()
        if not name.rpartition(".")[2].startswith("_")
    ]


def _values(node: DictConfig) -> dict[str, str]:
    """Key, with dots where it lies deeper -> its value as one would type it, interpolations as they are written."""
    plain = OmegaConf.to_container(node, enum_to_str=True)
    words = {"None": "null", "True": "true", "False": "false"}
    return {name: words.get(str(value), str(value)) for name, value in _flattened(plain)}


def _flattened(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and (node or not path):
        for name, child in node.items():
            yield from _flattened(child, f"{path}.{name}" if path else str(name))
    else:
        yield path, node


def _line(name: str, comment: str) -> str:
    return f"  {name:<28} {comment}".rstrip()


def _source(verb: Verb, group: str, option: str) -> str:
    """The text of an option's file, empty for one from outside the package (--config-dir)."""
    file = resources.files(verb.config_module) / group / f"{option}.yaml"
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _first_comment(source: str) -> str:
    found = re.search(r"^#\s*([^@\s].*)$", source, re.MULTILINE)
    return found[1] if found else ""


def _key_comments(source: str) -> dict[str, str]:
    """Key, with dots where it lies deeper -> the comment on its line, in YAML indented by two blanks a level."""
    comments, above = {}, list[str]()
    for blanks, name, comment in re.findall(r"^( *)(\w+):(?:[^\n]*?\s#\s*(.+))?", source, re.MULTILINE):
        above = [*above[: len(blanks) // 2], name]
        comments[".".join(above)] = comment
    return comments
