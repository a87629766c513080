"""A space of one's own: a class in a file outside the package, loaded because its user names the file."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import traceback
from pathlib import Path

from enas.errors import UserError
from enas.space.base import SearchSpace

PREFIX = "enas_own_"
"""Before a file's name in the name of its module, so that own.py is not mistaken for another module called own."""


def load_class(path: Path) -> type[SearchSpace]:
    """Run a Python file and give the one space that it defines; a file that was loaded before is not run again.

    Only a path that the user typed belongs here, never one that a file names.

    Raises UserError, one sentence, where the file is missing, fails, or does not define exactly one whole space.
    """
    path = path.absolute()
    if not path.is_file():
        raise UserError(f"space_file={path}: no such file")
    if not re.fullmatch(r"[A-Za-z_]\w*\.py", path.name):
        raise UserError(f"space_file={path}: the file's name has to be one of a Python module, such as my_space.py")
    module = sys.modules.get(PREFIX + path.stem)
    if module is None or module.__file__ != str(path):
        spec = importlib.util.spec_from_file_location(PREFIX + path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        before = sys.modules.get(spec.name)
        sys.modules[spec.name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            if before is None:
                del sys.modules[spec.name]
            else:
                sys.modules[spec.name] = before
            raise UserError(f"space_file={path}: {_where(error, path)}{type(error).__name__}: {error}") from error
    found = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, SearchSpace) and each.__module__ == module.__name__
    ]
    whole = [each for each in found if not inspect.isabstract(each)]
    if len(whole) == 1:
        return whole[0]
    if len(found) == 1:
        lacking = ", ".join(sorted(getattr(found[0], "__abstractmethods__", ())))
        raise UserError(f"space_file={path}: the space {found[0].__name__} lacks {lacking}")
    names = ", ".join(each.__name__ for each in whole) or "none"
    raise UserError(f"space_file={path}: exactly one class derived from SearchSpace is allowed, found are: {names}")


def check_name(space: type[SearchSpace]) -> str:
    """The name of a space of one's own. Raises UserError where it has none that a genotype can hold."""
    name = getattr(space, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[a-z]\w*", name):
        raise UserError(f"{space.__name__}.name={name!r}: allowed are letters, digits and _, beginning with a-z")
    return name


def _where(error: Exception, path: Path) -> str:
    """The line of the file in which it failed, where that is known."""
    if isinstance(error, SyntaxError):
        return "" if error.lineno is None else f"line {error.lineno}: "
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"line {lines[-1]}: " if lines else ""
