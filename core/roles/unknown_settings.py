"""Tells of settings that nothing reads: a misspelt one would be without effect, and silent."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

from core.settings import beside_main, section_classes, variable

_CONTAINER_LINK = re.compile(r".*_(SERVICE|PORT_\d+)_")
"""What Docker and Kubernetes put into the environment of whoever may reach a server, as REDIS_PORT_6379_TCP."""


def unknown_settings(env_file: str | Path = ".env") -> list[str]:
    """A line for each variable of the environment and of `env_file` that is named as a setting and is none, and for
    each line of that file that cannot be read."""
    known = [variable(section, field) for section in section_classes() for field in section.model_fields]
    prefixes = tuple({f"{name.partition('_')[0]}_" for name in known})
    in_file, problems = _read(beside_main(env_file), str(env_file))
    for where, names in (("the environment", sorted(os.environ)), (str(env_file), in_file)):
        problems += [_told(name, where, known) for name in _strangers(names, prefixes, known)]
    return problems


def _strangers(names: Iterable[str], prefixes: tuple[str, ...], known: list[str]) -> Iterator[str]:
    for name in names:
        if name.upper().startswith(prefixes) and name.upper() not in known and not _CONTAINER_LINK.match(name):
            yield name


def _told(name: str, where: str, known: list[str]) -> str:
    near = get_close_matches(name.upper(), known, n=1, cutoff=0.8)
    return f"{name} in {where} is no setting of RouteMQ's and is ignored{f'; is it {near[0]}?' if near else '.'}"


def _read(file: Path, name: str) -> tuple[list[str], list[str]]:
    """The names that a file sets, and what is wrong with its other lines."""
    from dotenv.parser import parse_stream

    if not file.is_file():
        return [], []
    with file.open(encoding="utf-8") as text:
        bindings = list(parse_stream(text))
    junk = [
        f"{name}, line {each.original.line}: it is no NAME=value, and is ignored." for each in bindings if each.error
    ]
    return [each.key for each in bindings if each.key], junk
