"""The driver contract (core/queue/driver.py) as one plain class: what a store holds, and what each verb makes of it.

Where the contract leaves an order open, so does the model: it does not say which jobs a fetch returns, but whether
those that it returned can be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from core.queue.state import Failure, FetchedJob, Lease, NewJob, Retry

State: TypeAlias = Literal["scheduled", "available", "executing", "retryable"]
Place: TypeAlias = tuple[float, int]
"""The moment at which a job became available, and a serial number of what made it so."""

_ANY = -1
"""Instead of a serial number: among those of the same moment, it may come anywhere."""


@dataclass
class ModelJob:
    new: NewJob
    state: State = "scheduled"
    due: float = 0.0
    place: Place = (0.0, 0)
    put_back: tuple[float, int] | None = None
    """When, and by which process, it was put ahead of the others: released, or rescued."""
    attempts: int = 0
    token: str | None = None
    expires: float = 0.0

    @property
    def job_id(self) -> str:
        return self.new.job_id

    @property
    def queue(self) -> str:
        return self.new.queue


@dataclass
class QueueModel:
    """A store, and its clock."""

    looks_back: float = 0.0
    """Seconds after which a process at the latest sees what another has put ahead of the others."""
    now: float = 0.0
    process: int = 0
    """Who acts."""
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    """In the order of their pushes."""
    failed: dict[str, Failure] = field(default_factory=dict)
    _unique: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    """By queue and key: which job was pushed with it, and until when that counts."""
    _tokens: set[str] = field(default_factory=set)
    _serial: int = 0

    # ── into the store ───────────────────────────────────────────────────────────────────────────────

    def push(self, jobs: Iterable[NewJob]) -> dict[str, str]:
        """The ids of those left out, with those of the jobs that stand for them."""
        left_out: dict[str, str] = {}
        for new in jobs:
            if new.job_id not in self.jobs:
                first = self._taken_for(new)
                if first is None:
                    self._store(ModelJob(new, due=self.now + new.delay))
                elif first != new.job_id:
                    left_out[new.job_id] = first
        return left_out

    def _taken_for(self, new: NewJob) -> str | None:
        """The job that the unique key was taken for before; None where there is none, or it is the new one's now."""
        if new.unique_key is None:
            return None
        key = (new.queue, new.unique_key)
        first, until = self._unique.get(key, (None, 0.0))
        if first is not None and until > self.now:
            return first
        self._unique[key] = new.job_id, self.now + new.unique_for
        return None

    def _store(self, job: ModelJob) -> None:
        self.jobs[job.job_id] = job
        self._take_its_turn(job, self._next_serial())

    def _take_its_turn(self, job: ModelJob, serial: int) -> None:
        if self._line(job.queue, job.new.ordering_key)[:1] not in ([], [job]):
            return
        if job.due > self.now:
            job.place = (job.due, _ANY if job.new.ordering_key else serial)
        else:
            self._let_in(job, (self.now, serial))

    def _let_in(self, job: ModelJob, place: Place) -> None:
        job.state, job.place, job.put_back = "available", place, None

    # ── a worker's verbs ─────────────────────────────────────────────────────────────────────────────

    def fetch(self, fetched: Sequence[FetchedJob], queues: Sequence[str], limit: int, lease: float) -> None:
        """Take over what a fetch returned. Raises AssertionError where it could not return that."""
        expected = 0
        for queue in queues:
            mine = [job for job in fetched if job.queue == queue]
            count = min(limit - expected, len(self.in_state("available", queue)))
            assert len(mine) == count, f"{len(mine)} jobs of {queue} were fetched instead of {count}"
            expected += count
        assert [queues.index(job.queue) for job in fetched] == sorted(queues.index(job.queue) for job in fetched)
        self.fetched(fetched, lease)

    def may_fetch(self, fetched: Sequence[FetchedJob], queues: Sequence[str], limit: int, lease: float) -> bool:
        """Take over what a fetch returned, and tell whether it could return that."""
        try:
            self.fetch(fetched, queues, limit, lease)
        except AssertionError:
            return False
        return True

    def fetched(self, fetched: Sequence[FetchedJob], lease: float) -> None:
        """The same for fewer jobs than there might have been."""
        jobs = [self._available(each) for each in fetched]
        assert len({job.job_id for job in jobs}) == len(jobs), "a job was fetched twice"
        for at, job in enumerate(jobs):
            following = [each for each in self.in_state("available", job.queue) if each not in jobs[:at]]
            ahead = [each.job_id for each in following if self._is_ahead(each, job)]
            assert not ahead, f"{job.job_id} was fetched before {ahead}"
        assert not self._tokens.intersection(each.token for each in fetched), "a token was used before"
        for job, each in zip(jobs, fetched, strict=True):
            self._start(job, each.token, lease)

    def _available(self, fetched: FetchedJob) -> ModelJob:
        job = self.jobs.get(fetched.job_id)
        assert job is not None, f"{fetched.job_id} was fetched, and is not stored"
        assert job.state == "available", f"{fetched.job_id} was fetched while {job.state}"
        assert (fetched.queue, fetched.payload) == (job.queue, job.new.payload)
        assert fetched.attempts == job.attempts + 1, f"{fetched.attempts} tries instead of {job.attempts + 1}"
        return job

    def _is_ahead(self, one: ModelJob, other: ModelJob) -> bool:
        """Whether one available job has to be fetched before another."""
        if one is other or other.put_back:
            return False
        if one.put_back:
            return self._is_seen(*one.put_back)
        is_open = one.place[0] == other.place[0] and _ANY in (one.place[1], other.place[1])
        return not is_open and one.place < other.place

    def _is_seen(self, moment: float, by: int) -> bool:
        return by == self.process or self.now - moment >= self.looks_back

    def _start(self, job: ModelJob, token: str, lease: float) -> None:
        self._tokens.add(token)
        job.state, job.token, job.put_back = "executing", token, None
        job.attempts += 1
        job.expires = self.now + lease

    def complete(self, leases: Iterable[Lease]) -> set[str]:
        serial = self._next_serial()
        stale = set()
        for lease in leases:
            job = self._current(lease)
            if job is None:
                stale.add(lease.job_id)
            else:
                self._forget(job, serial)
        return stale

    def retry(self, retries: Iterable[Retry]) -> set[str]:
        serial = self._next_serial()
        stale = set()
        for retry in retries:
            job = self._current(retry.lease)
            if job is None:
                stale.add(retry.lease.job_id)
            else:
                job.state, job.token, job.due = "retryable", None, self.now + retry.delay
                job.place = (job.due, serial if not retry.delay else _ANY)
        return stale

    def fail(self, failures: Iterable[tuple[Lease, Failure]]) -> set[str]:
        serial = self._next_serial()
        stale = set()
        for lease, failure in failures:
            job = self._current(lease)
            if job is None:
                stale.add(lease.job_id)
            else:
                self.failed[job.job_id] = failure
                self._forget(job, serial)
        return stale

    def release(self, leases: Iterable[Lease]) -> set[str]:
        stale = set()
        for lease in leases:
            job = self._current(lease)
            if job is None:
                stale.add(lease.job_id)
            else:
                job.attempts -= 1
                self._put_ahead(job)
        return stale

    def renew(self, leases: Iterable[Lease], seconds: float) -> set[str]:
        stale = set()
        for lease in leases:
            job = self._current(lease)
            if job is None:
                stale.add(lease.job_id)
            else:
                job.expires = self.now + seconds
        return stale

    def is_current(self, lease: Lease) -> bool:
        return self._current(lease) is not None

    def _current(self, lease: Lease) -> ModelJob | None:
        job = self.jobs.get(lease.job_id)
        return job if job is not None and job.token is not None and job.token == lease.token else None

    def _put_ahead(self, job: ModelJob) -> None:
        job.state, job.token, job.put_back = "available", None, (self.now, self.process)

    def _forget(self, job: ModelJob, serial: int) -> None:
        del self.jobs[job.job_id]
        for following in self._line(job.queue, job.new.ordering_key)[:1]:
            if following.state == "scheduled":
                self._take_its_turn(following, serial)

    # ── maintenance and operating ────────────────────────────────────────────────────────────────────

    def stage(self, queues: Sequence[str]) -> float | None:
        """Seconds until the next is due."""
        waiting = [job for queue in queues for job in self._waiting(queue)]
        for job in waiting:
            if job.due <= self.now:
                self._let_in(job, job.place)
        return min((job.due - self.now for job in waiting if job.due > self.now), default=None)

    def _waiting(self, queue: str) -> Iterator[ModelJob]:
        """Jobs that wait for their moment alone, and not for others of their key."""
        for job in [*self.in_state("scheduled", queue), *self.in_state("retryable", queue)]:
            if self._line(queue, job.new.ordering_key)[:1] in ([], [job]):
                yield job

    def rescue(self, queues: Sequence[str]) -> int:
        lost = [job for queue in queues for job in self.in_state("executing", queue) if job.expires <= self.now]
        for job in lost:
            self._put_ahead(job)
        return len(lost)

    def clear(self, queue: str) -> int:
        idle = [job for job in self.jobs.values() if job.queue == queue and job.state != "executing"]
        for job in idle:
            del self.jobs[job.job_id]
        return len(idle)

    def retry_failed(self, job_ids: Iterable[str], keys: dict[str, str | None]) -> int:
        """`keys` are the ordering keys in the payloads of the failed jobs."""
        serial = self._next_serial()
        failures = [self.failed.pop(job_id) for job_id in dict.fromkeys(job_ids) if job_id in self.failed]
        for failure in failures:
            new = NewJob(failure.job_id, failure.queue, failure.payload, ordering_key=keys[failure.job_id])
            if new.job_id not in self.jobs:
                job = self.jobs[new.job_id] = ModelJob(new, due=self.now)
                self._take_its_turn(job, serial)
        return len(failures)

    def is_idle(self, queues: Sequence[str]) -> bool:
        return not any(self.in_state(state, queue) for queue in queues for state in ("available", "executing"))

    def queues(self) -> AbstractSet[str]:
        return {job.queue for job in self.jobs.values()} | {failure.queue for failure in self.failed.values()}

    def states(self, queue: str) -> dict[str, int]:
        """The states in which the queue has jobs, and how many."""
        counts = {
            state: len(self.in_state(state, queue)) for state in ("available", "scheduled", "executing", "retryable")
        }
        counts["failed"] = sum(failure.queue == queue for failure in self.failed.values())
        return {state: count for state, count in counts.items() if count}

    def in_state(self, state: str, queue: str) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.queue == queue and job.state == state]

    def _line(self, queue: str, key: str | None) -> list[ModelJob]:
        """The jobs of an ordering key, in the order in which they have their turns."""
        if key is None:
            return []
        return [job for job in self.jobs.values() if job.queue == queue and job.new.ordering_key == key]

    def _next_serial(self) -> int:
        self._serial += 1
        return self._serial
