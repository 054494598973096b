"""Finds the application's own code by name: what it says in its routers, jobs and other rooms.

A room is a sub-package of the application's package (or a single module of that name). Every Python file in
it is imported, those in sub-folders too, with or without `__init__.py`.
"""

from __future__ import annotations

import logging
import os
import sysconfig
import traceback
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from core.errors import DiscoveryError, RouteMQError, SettingError

_log = logging.getLogger("routemq.discovery")

Kind = TypeVar("Kind")


def import_room(package: str, room: str) -> list[ModuleType]:
    """Import every module of a room; one that does not exist is empty.

    Raises SettingError where the package does not exist, DiscoveryError where a file cannot be imported.
    """
    _require(package)
    name = f"{package}.{room}"
    if not _exists(name):
        return []
    return [_import(each) for each in _modules(_import(name))]


def find_objects(package: str, room: str, name: str, kind: type[Kind]) -> list[Kind]:
    """The objects that a room's modules hold under one name, each once, in the order of the files.

    A module that holds such an object under other names only is told of: it was meant to be found.
    """
    modules = import_room(package, room)
    for module in modules:
        _tell_of_other_names(module, name, kind)
    found = (getattr(module, name, None) for module in modules)
    return list({id(each): each for each in found if isinstance(each, kind)}.values())


def _tell_of_other_names(module: ModuleType, name: str, kind: type) -> None:
    others = [other for other, value in vars(module).items() if isinstance(value, kind)]
    if others and not isinstance(getattr(module, name, None), kind):
        _log.warning("%s is not used: its %s is called %r; call it %r", module.__file__, kind.__name__, others[0], name)


def find_classes(package: str, room: str, kind: type[Kind]) -> list[type[Kind]]:
    """The subclasses of `kind` that are defined in a room, not merely imported there."""
    return [each for module in import_room(package, room) for each in _defined_in(module, kind)]


def _defined_in(module: ModuleType, kind: type[Kind]) -> Iterator[type[Kind]]:
    for each in dict.fromkeys(each for each in vars(module).values() if isinstance(each, type)):
        if issubclass(each, kind) and each.__module__ == module.__name__:
            yield each


def _require(package: str) -> None:
    if _exists(package):
        _import(package)
        return
    raise SettingError(
        f"APP_PACKAGE={package!r} is not usable: there is no such package on the path of Python. "
        f"Start from the directory that holds it (now: {Path.cwd()}), or correct the name "
        "in the environment or in .env."
    )


def _exists(name: str) -> bool:
    """Whether there is a module of that name. The package above it is imported to find out."""
    parent, _, last = name.rpartition(".")
    if not last.isidentifier() or (parent and not _holds_modules(parent)):
        return False
    return find_spec(name) is not None


def _holds_modules(name: str) -> bool:
    return _exists(name) and hasattr(_import(name), "__path__")


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except RouteMQError:  # says by itself where and what
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".removesuffix(".")
        raise DiscoveryError(
            f"{_place(error, name)}: {reason}. {name} cannot be imported; correct that file."
        ) from error


def _modules(room: ModuleType) -> list[str]:
    """The names of a room's modules. Files are listed rather than asked for, as Python overlooks folders
    without `__init__.py`, and a router overlooked would be silent."""
    folders = [Path(folder) for folder in getattr(room, "__path__", ())]
    parts = {_parts(file.relative_to(folder)) for folder in folders for file in folder.rglob("*.py")}
    return [".".join((room.__name__, *each)) for each in sorted({(), *parts}) if not _is_hidden(each)]


def _parts(file: Path) -> tuple[str, ...]:
    return file.parent.parts if file.stem == "__init__" else file.with_suffix("").parts


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith((".", "__")) for part in parts)


def _place(error: Exception, name: str) -> str:
    """Where in the application's own files an import failed; below that is other people's code."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_OTHERS)]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else name


_OTHERS = (
    "<frozen ",
    f"{Path(__file__).parent}{os.sep}",
    *(sysconfig.get_path(each) for each in ("stdlib", "purelib", "platlib")),
)
