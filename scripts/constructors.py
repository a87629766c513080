"""The nodes that name a constructor (`_target_`), checked against its signature before anything is built."""

import difflib
import inspect
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig

from enas.errors import UserError

_INSTRUCTIONS = ("_target_", "_partial_", "_recursive_", "_convert_")
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


def check(config: DictConfig) -> None:
    """Refuse unknown keys and values of a wrong type under every `_target_` of a resolved configuration.

    Keys that the constructor requires and the node lacks are no mistake: the command gives them.

    Raises:
        UserError: names the key, its value and what is allowed.
    """
    for path, node in _targets(config, ""):
        target = node["_target_"]
        try:
            constructor = get_object(target)  # as `instantiate` does: enas.data.folder is a module and a function
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(f"{path}: there is no constructor {target} ({error})") from error
        parameters = inspect.signature(constructor, eval_str=True).parameters
        for name, value in node.items():
            if name not in _INSTRUCTIONS:
                _check_value(f"{path}.{name}", str(name), value, parameters, target)


def build(node: DictConfig, **offered: Any) -> Any:
    """Call the constructor of a checked node with its values and with what it takes of `offered`."""
    parameters = inspect.signature(get_object(node["_target_"])).parameters
    taken = {name: value for name, value in offered.items() if name in parameters}
    return instantiate(node, _partial_=True, _convert_="all")(**taken)


def hint(name: str, known: Iterable[str]) -> str:
    """The end of the sentence on an unknown name: the one that was meant, or all that there are."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    if close:
        return f"did you mean {close[0]}?"
    return f"there are {', '.join(names)}" if names else "there are none"


def _targets(node: Any, path: str) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node
        for name, child in node.items():
            yield from _targets(child, f"{path}.{name}" if path else str(name))
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for index, child in enumerate(node):
            yield from _targets(child, f"{path}[{index}]")


def _check_value(path: str, name: str, value: Any, parameters: Mapping[str, inspect.Parameter], target: str) -> None:
    takes_any = any(entry.kind is inspect.Parameter.VAR_KEYWORD for entry in parameters.values())
    if name in parameters:
        annotation = parameters[name].annotation
        if not _fits(value, annotation):
            raise UserError(f"{path}={value}: has to be {_described(annotation)}")
    elif not takes_any:
        raise UserError(f"{path}: {target} has no key {name}; {hint(name, parameters)}")


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a plain value suits an annotation; an annotation of another kind (a class) suits everything."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(value, Mapping) and "_target_" in value:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return any(value == argument and type(value) is type(argument) for argument in arguments)
    if origin in (list, Sequence, Iterable):
        return _is_list(value) and all(_fits(entry, arguments[0]) for entry in value)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return _is_list(value) and all(_fits(entry, arguments[0]) for entry in value)
        return _is_list(value) and len(value) == len(arguments) and all(map(_fits, value, arguments))
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    if annotation is None or annotation is type(None):
        return value is None
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation in (bool, str):
        return isinstance(value, annotation)
    return True


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _described(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_described(argument) for argument in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)} values"
    if origin in (list, tuple, Sequence, Iterable):
        return f"a list, each entry {_described(arguments[0])}"
    if origin in (dict, Mapping):
        return "a mapping"
    return _WORDS.get(annotation, str(annotation))
