"""What one message has dispatched, in all tries of its handling.

Its controller is called again where a store was away, or where it raised, and then dispatches what it has dispatched
before. What it was told of is not stored again. Of what it was not told of, as the answer of the store was lost, nobody
knows: it is pushed again under the id that it had, and a store that holds it already leaves it as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextvars import ContextVar, Token
from hashlib import sha256
from typing import TypeAlias

from core.queue.envelope import without_identity
from core.queue.state import NewJob

_Identity: TypeAlias = "tuple[str, float, str | None, str | None, float, bytes]"

_MOST = 10_000
"""Jobs of one try that are remembered; those beyond are dispatched anew by the next."""


class Dispatches:
    __slots__ = ("_by_identity", "_longest_try", "_stored", "_this_try", "_unmatched", "is_over")

    def __init__(self) -> None:
        self.is_over = False
        self._this_try: list[NewJob] = []
        self._longest_try = 0
        self._unmatched: dict[str, NewJob] = {}
        """By id: what earlier tries have dispatched and this one has not, the latest last."""
        self._by_identity: dict[_Identity, list[NewJob]] = {}
        """The same, by what they have in common with another dispatch of the same job."""
        self._stored: dict[str, str] = {}
        """By id: the id that the dispatch returned, which is that of another job where that stands for it."""

    def begin_try(self) -> None:
        """The controller is about to be called, for the first time or again."""
        if self._this_try:
            self._longest_try = max(self._longest_try, len(self._this_try))
            # A controller whose jobs are others each time must not fill the memory while a store is away for hours.
            kept = [*self._unmatched.values(), *self._this_try][-2 * self._longest_try :]
            self._unmatched = {job.job_id: job for job in kept}
            self._stored = {job.job_id: self._stored[job.job_id] for job in kept if job.job_id in self._stored}
            # First what is known to be stored: an earlier one alike may be what the controller has tried in vain.
            self._by_identity = _by_identity(sorted(kept, key=lambda job: job.job_id not in self._stored))
            self._this_try = []

    def known(self, new: NewJob) -> NewJob:
        """The same job as an earlier try has dispatched it, if one did; each of several alike once."""
        if self._by_identity:
            alike = self._by_identity.get(_identity(new))
            if alike:
                new = alike.pop()
                del self._unmatched[new.job_id]
        if len(self._this_try) < _MOST:
            self._this_try.append(new)
        return new

    def stored(self, job_id: str, standing: str) -> None:
        """A dispatch has returned."""
        if len(self._stored) < 2 * _MOST:
            self._stored[job_id] = standing

    def give_back(self, new: NewJob) -> None:
        """What it was dispatched in was rolled back: the next dispatch alike in this try is the same."""
        kept = [job for job in self._this_try if job.job_id != new.job_id]
        if len(kept) < len(self._this_try):
            self._this_try = kept
            self._unmatched[new.job_id] = new
            self._by_identity.setdefault(_identity(new), []).append(new)

    def standing(self, job_id: str) -> str | None:
        """What an earlier try's dispatch of this job has returned, if it did."""
        return self._stored.get(job_id)

    def standing_of(self, jobs: Iterable[NewJob]) -> dict[str, str]:
        """The same for many, by their ids."""
        return {job.job_id: self._stored[job.job_id] for job in jobs if job.job_id in self._stored}


def _by_identity(jobs: Sequence[NewJob]) -> dict[_Identity, list[NewJob]]:
    """The first of several alike last, where it is taken from."""
    found: dict[_Identity, list[NewJob]] = defaultdict(list)
    for job in reversed(jobs):
        found[_identity(job)].append(job)
    return dict(found)


def _identity(job: NewJob) -> _Identity:
    digest = sha256(without_identity(job.payload)).digest()
    return job.queue, job.delay, job.ordering_key, job.unique_key, job.unique_for, digest


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
