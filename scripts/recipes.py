"""Which choices and recipes (`experiment=NAME`) suit a command, and recipe values that meet another choice."""

from collections.abc import Iterator, Mapping
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_object
from omegaconf import OmegaConf

from enas.errors import UserError

from .verb import Verb


def check(verb: Verb, choices: Mapping[str, Any]) -> list[str]:
    """Find recipe values that Hydra merged into another choice of a group than the recipe's own.

    `experiment=p strategy=other` keeps the values that p holds for its own strategy. A recipe's values for a
    group that it does not choose itself (no `override /group: option`) are meant for every choice.

    Args:
        choices: group -> chosen option, of the composed configuration.

    Returns:
        One note for each recipe and group where the values do exist for the choice made.

    Raises:
        UserError: a choice is one for another command, or does not know one of the values.
    """
    for group in verb.kinds:
        if not offers(verb, group, choices[group]):
            options = GlobalHydra.instance().config_loader().get_group_options(group)
            allowed = ", ".join(option for option in options if offers(verb, group, option))
            raise UserError(f"{group}={choices[group]}: not for {verb.command}, which takes {allowed}")
    notes = []
    for recipe, content, overrides in _chosen(verb, choices):
        for group, intended in overrides.items():
            if choices[group] == intended or not isinstance(content.get(group), Mapping):
                continue
            chosen = f"{group}={choices[group]}"
            listed = ", ".join(f"{group}.{name}={value}" for name, value in content[group].items())
            own = _load(f"{group}/{choices[group]}")
            foreign = [name for name in content[group] if own is not None and name not in own[0]]
            if foreign:
                raise UserError(
                    f"{recipe} sets {group}.{foreign[0]} for {group}={intended}, and {chosen} has none; "
                    f"take the recipe with its own {group}, or no recipe"
                )
            notes.append(f"{recipe} holds values for {group}={intended} that now apply to {chosen}: {listed}")
    return notes


def suits(verb: Verb, name: str) -> bool:
    """Whether a recipe ("experiment/demo") is one for this command: the command has all that it sets."""
    loaded = _load(name)
    if loaded is None:
        return False
    content, overrides = loaded
    known = verb.names >= {*content, *overrides}
    return known and all(offers(verb, group, option) for group, option in overrides.items())


def offers(verb: Verb, group: str, option: str) -> bool:
    """Whether a choice of a group ("train", "final") makes what the command needs there."""
    loaded, kind = _load(f"{group}/{option}"), verb.kinds.get(group, object)
    if loaded is None or kind is object or "_target_" not in loaded[0]:
        return True
    made = get_object(loaded[0]["_target_"])
    return isinstance(made, type) and issubclass(made, kind)


def _chosen(verb: Verb, choices: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    for group in verb.recipes:
        loaded = _load(f"{group}/{choices[group]}")
        if loaded is not None:
            yield f"{group}={choices[group]}", *loaded


def _load(path: str) -> tuple[dict[str, Any], dict[str, str]] | None:
    """The content of a config file and its `override /group: option` lines; None where there is no file."""
    loader = GlobalHydra.instance().config_loader()
    for source in loader.get_sources():
        if source.available() and source.is_config(path):
            result = source.load_config(path)
            content = OmegaConf.to_container(result.config)
            assert isinstance(content, dict)
            entries = content.pop("defaults", [])
            overrides = {
                name.removeprefix("override").strip().lstrip("/"): option
                for entry in entries
                if isinstance(entry, dict)
                for name, option in entry.items()
            }
            return {str(name): value for name, value in content.items()}, overrides
    return None
