"""What one message has dispatched, in all tries of its handling.

Its controller is called again where a store was away, or where it raised, and then dispatches what it has dispatched
before. What it was told of is not stored again. Of what it was not told of, as the answer of the store was lost, nobody
knows: it is pushed again under the id that it had, and a store that holds it already leaves it as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextvars import ContextVar, Token

from msgspec.structs import replace

from core.queue.envelope import without_identity
from core.queue.state import NewJob


class Dispatches:
    __slots__ = ("_earlier", "_stored", "_this_try", "is_over")

    def __init__(self) -> None:
        self.is_over = False
        self._this_try: list[NewJob] = []
        self._earlier: dict[NewJob, list[NewJob]] = {}
        """By what they have in common with another dispatch of the same job."""
        self._stored: dict[str, str] = {}
        """By id: the id that the dispatch returned, which is that of another job where that stands for it."""

    def begin_try(self) -> None:
        """The controller is about to be called, for the first time or again."""
        if self._this_try:
            earlier = defaultdict(list, self._earlier)
            for job in reversed(self._this_try):
                earlier[_without_identity(job)].append(job)
            self._earlier = dict(earlier)
            self._this_try = []

    def known(self, new: NewJob) -> NewJob:
        """The same job as an earlier try has dispatched it, if one did; each of several alike once."""
        if self._earlier:
            alike = self._earlier.get(_without_identity(new))
            if alike:
                new = alike.pop()
        self._this_try.append(new)
        return new

    def stored(self, job_id: str, standing: str) -> None:
        """A dispatch has returned."""
        self._stored[job_id] = standing

    def standing(self, job_id: str) -> str | None:
        """What an earlier try's dispatch of this job has returned, if it did."""
        return self._stored.get(job_id)

    def standing_of(self, jobs: Iterable[NewJob]) -> dict[str, str]:
        """The same for many, by their ids."""
        return {job.job_id: self._stored[job.job_id] for job in jobs if job.job_id in self._stored}


def _without_identity(job: NewJob) -> NewJob:
    return replace(job, job_id="", payload=without_identity(job.payload))


_dispatches: ContextVar[Dispatches | None] = ContextVar("dispatches", default=None)


def current_dispatches() -> Dispatches | None:
    """Those of the message that is being handled here."""
    dispatches = _dispatches.get()
    return None if dispatches is None or dispatches.is_over else dispatches


def begin(dispatches: Dispatches) -> Token[Dispatches | None]:
    """From now on, whatever is dispatched here, by its tasks and in its threads, belongs to that message."""
    return _dispatches.set(dispatches)


def end(dispatches: Dispatches, token: Token[Dispatches | None]) -> None:
    """`token` is what `begin` returned. A task that goes on belongs to no message any more."""
    dispatches.is_over = True
    _dispatches.reset(token)
