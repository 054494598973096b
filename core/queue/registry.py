"""The job classes that may come out of a payload."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from core.errors import UnknownJobError
from core.job import Job, job_name


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
        """Make a class known; usable as a decorator."""
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

    def __iter__(self) -> Iterator[type[Job]]:
        return iter(sorted(self._classes.values(), key=job_name))
