"""What a job class says that a worker could make nothing of, found at start rather than at the first job."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from inspect import Parameter, get_annotations, getattr_static, signature
from typing import Any

from core.job import HOOKS, OF_THE_CLASS, OPTIONS, RESERVED, Job, field_types

_CLOSE = 0.85
"""How much alike two names are: `max_retries` and `max_tries` by 0.9, of 1; `conversion` and `version` by 0.82."""

_OPTIONS = sorted({*OPTIONS, *OF_THE_CLASS, "queue", "execution"})
_SAID_ELSEWHERE = {
    "ordered_by": "a class says ordering_key, and ordered_by is for routes",
    "deduplicate_by": "it is for routes; the dispatch of a job says unique_for",
    "unique_for": "it is for the dispatch of a job",
    "unique_by": "it is for the dispatch of a job",
    "delay": "it is for the dispatch of a job",
}


def problems_of(cls: type[Job]) -> Iterator[str]:
    """Why no worker can run this class, as the rest of a sentence that begins with its name."""
    if cls.handle is Job.handle:
        yield "has no handle(): define it, as `async def` or `def`"
    for name in _required_arguments(cls):
        yield f"has a handle() that wants {name!r}, and it is called without arguments: make that a field of the class"
    if _names_no_field(cls):
        yield f"has ordering_key={cls.ordering_key!r}, and no field of that name: name one, or make it a method"
    timeout, soft = _seconds(getattr(cls, "timeout", None)), _seconds(getattr(cls, "soft_timeout", None))
    if timeout and soft >= timeout:
        yield f"has soft_timeout={soft:g}, which comes no earlier than its timeout={timeout:g}: lower it"


def near_options(cls: type[Job]) -> Iterator[str]:
    """The class' own attributes that are called almost like an option, each with the option that may be meant."""
    for name, value in vars(cls).items():
        if (
            name.startswith("_")
            or name in RESERVED | HOOKS
            or name in get_annotations(cls)
            or hasattr(value, "__get__")
        ):
            continue
        if name in _SAID_ELSEWHERE:
            yield f"{name} is no option of RouteMQ's; {_SAID_ELSEWHERE[name]}"
        for option in get_close_matches(name, _OPTIONS, n=1, cutoff=_CLOSE):
            yield f"{name} is no option and changes nothing; is it {option}?"


def _names_no_field(cls: type[Job]) -> bool:
    """Of a class whose `__init__` is its own, nobody knows which attributes its jobs will have."""
    key: Any = cls.ordering_key
    is_known = isinstance(key, str) and cls.__init__ is Job.__init__
    return is_known and not hasattr(cls, key) and key not in field_types(cls)


def _required_arguments(cls: type[Job]) -> Iterator[str]:
    handle = getattr_static(cls, "handle")
    bound = 0 if isinstance(handle, staticmethod | classmethod) else 1
    for each in list(signature(cls.handle).parameters.values())[bound:]:
        if each.default is Parameter.empty and each.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            yield each.name


def _seconds(value: Any) -> float:
    """What a class says; 0, which is for never, where it says nothing, or (a property) only each job does."""
    return value if isinstance(value, int | float) else 0.0
