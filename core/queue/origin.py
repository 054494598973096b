"""What a dispatch takes over from the message in whose handling it is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from core.job import Job
from core.queue.unique_key import digest, unique_key


class Origin:
    """One try of handling a message.

    With an `identity`, a job that is dispatched here has the same unique key in every try and for every message of that
    identity, for `unique_for` seconds; of several that are alike, each has its own. Told apart by their data and not
    by their order: a controller that dispatches several at the same time does so in any order, and a job that took
    another's key would be lost. `ordering_key` is for jobs that have none of their own.
    """

    __slots__ = ("_dispatched", "_identity", "ordering_key", "unique_for")

    def __init__(self, identity: str | None = None, unique_for: float = 0.0, ordering_key: str | None = None) -> None:
        self.unique_for = unique_for
        self.ordering_key = ordering_key
        self._identity = identity
        self._dispatched: Counter[str] = Counter()

    def next_unique_key(self, job: Job) -> str | None:
        """The key of the next job like this one."""
        if self._identity is None:
            return None
        alike = unique_key(job, None)
        self._dispatched[alike] += 1
        return digest(b"message", self._identity.encode(), alike.encode(), b"%d" % self._dispatched[alike])


_origin: ContextVar[Origin | None] = ContextVar("origin", default=None)
current_origin = _origin.get


@contextmanager
def dispatching_from(origin: Origin) -> Iterator[None]:
    """Whatever this block dispatches comes from there: by its tasks and in its threads, too."""
    before = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(before)
