"""The job classes that may come out of a payload."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from typing import Any

from core.clock import CENTURY
from core.errors import SettingError, UnknownJobError
from core.job import OPTIONS, Job, job_name
from core.queue.queue_name import QUEUE_NAME_RULE, is_queue_name
from core.queue.runnable import near_options, problems_of

_log = logging.getLogger("routemq.queue")


class JobRegistry:
    """Classes by the name that payloads call them.

    A payload is data from a store that others may write to: it chooses among the classes found at start
    or registered here, and can never make us import anything.
    """

    def __init__(self, classes: Iterable[type[Job]] = ()) -> None:
        self._classes: dict[str, type[Job]] = {}
        for cls in classes:
            self.register(cls)

    def register(self, cls: type[Job]) -> type[Job]:
        """Make a class known; usable as a decorator. Raises SettingError for an option of it that cannot be."""
        for option in (*OPTIONS, "queue"):
            _check(cls, option, getattr(cls, option, None))
        self._classes[job_name(cls)] = cls
        return cls

    def find(self, name: str) -> type[Job]:
        """The class of that name, or UnknownJobError."""
        try:
            return self._classes[name]
        except KeyError:
            raise UnknownJobError(
                f"No job class {name!r} is known here. Put its module into the app's jobs/ and deploy it to this "
                f"worker, then run `python main.py --queue-retry` with this job's id."
            ) from None

    def require_runnable(self) -> None:
        """Raise SettingError for a class that no worker can run, unless it is the base of others; warn of one with an
        attribute that looks like an option, and is none."""
        for cls in self:
            for problem in () if cls.__subclasses__() else problems_of(cls):
                raise SettingError(f"{job_name(cls)} {problem}.")
            for near in near_options(cls):
                _log.warning("%s.%s", job_name(cls), near)

    def __iter__(self) -> Iterator[type[Job]]:
        return iter(sorted(self._classes.values(), key=job_name))


def _check(cls: type[Job], option: str, value: Any) -> None:
    """What is worked out for each job (a property) can only be judged then, and the unset is the configured default."""
    if value is None or hasattr(value, "__get__") or _is_usable(option, value):
        return
    rule = _RULES.get(option, "a number of seconds from 0 to a century")
    raise SettingError(f"{job_name(cls)}.{option}={value!r} is not usable: give {rule}. Correct it in the class.")


_RULES = {"max_tries": "a whole number of 1 or more", "queue": QUEUE_NAME_RULE}


def _is_usable(option: str, value: Any) -> bool:
    if option == "queue":
        return is_queue_name(value)
    if option == "max_tries":
        return type(value) is int and value >= 1
    return isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= CENTURY
